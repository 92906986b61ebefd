"""Mixing of lines by matrices that a network generates for each of them (DynaMixer).

Shape suffixes: B batch, H × W positions, C channels, O lines, L positions of a line, S positions read, T positions
written, Z heads, K channels of a head.
"""

import torch
from einops import rearrange
from torch import Tensor

from mlpzoo.ops.dispatch import one_call


def generated_mixing_reference(x_BHWC: Tensor, logits_BOZST: Tensor, axis: int) -> Tensor:
    """The same map as `generated_mixing`, as the authors write it: positions last, times the matrix."""
    heads = logits_BOZST.shape[2]
    order = "b l o (z k)" if axis == 1 else "b o l (z k)"
    x_BOZKL = rearrange(x_BHWC, f"{order} -> b o z k l", z=heads)
    y_BOZKL = x_BOZKL @ logits_BOZST.softmax(dim=-2)
    return rearrange(y_BOZKL, f"b o z k l -> {order}").contiguous()


@one_call
def generated_mixing(x_BHWC: Tensor, logits_BOZST: Tensor, axis: int, impl: str = "auto") -> Tensor:
    """Mix the positions of each line along one axis, in each head of channels by a matrix of its own.

    Each position written is a mean of those read, weighed by a softmax. One copy brings a head's channels of a line
    together, so that the product is one of batches, whose right side and result have the channels last.

    Source: `DynaMixerOp` in ziyuwwang/DynaMixer, `models/dynamixer.py` at 038b73b.

    Args:
        x_BHWC: map, `(batch, height, width, channels)`.
        logits_BOZST: logits of the weights, `(batch, lines, heads, positions read, positions written)`.
        axis: 1 for lines along the height, 2 along the width.
        impl: `"auto"` or `"reference"`.

    Returns:
        A map of the same shape.

    Raises:
        ValueError: for an unknown `impl` or `axis`.
    """
    if axis not in (1, 2):
        raise ValueError(f"got axis {axis} of generated_mixing: 1 is the height, 2 the width")
    if impl == "reference":
        return generated_mixing_reference(x_BHWC, logits_BOZST, axis)
    if impl != "auto":
        raise ValueError(f"unknown impl '{impl}' of generated_mixing: choose 'auto' or 'reference'")
    heads = logits_BOZST.shape[2]
    # (B, H, W, Z, K) to (B, O, Z, L, K).
    order = (0, 2, 3, 1, 4) if axis == 1 else (0, 1, 3, 2, 4)
    x_BOZLK = x_BHWC.unflatten(3, (heads, -1)).permute(order)
    weights_BOZTS = logits_BOZST.softmax(dim=-2).transpose(-2, -1)
    y_BOZLK = torch.bmm(weights_BOZTS.flatten(0, 2), x_BOZLK.flatten(0, 2)).view(x_BOZLK.shape)
    back = (0, 3, 1, 2, 4) if axis == 1 else (0, 1, 3, 2, 4)
    return y_BOZLK.permute(back).flatten(3)

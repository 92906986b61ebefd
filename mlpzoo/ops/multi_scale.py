"""Patches of several widths around the same centres, each by a linear map, added up (RaftMLP).

Shape suffixes: B batch, I channels in, C channels out, H × W positions, K rows and columns of a kernel, T patches.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mlpzoo.ops.dispatch import one_call
from mlpzoo.ops.layout import channels_last


def multi_scale_conv_reference(x_BIHW: Tensor, b_C: Tensor | None, stride: int, *kernels: Tensor) -> Tensor:
    """The same map as `multi_scale_conv`, as the authors write it: patches unfolded side by side, a linear map."""
    sides = [weight_CIKK.shape[2] for weight_CIKK in kernels]
    unfolded = [F.unfold(x_BIHW, side, 1, (side - stride) // 2, stride) for side in sides]
    weight = torch.cat([weight_CIKK.flatten(1) for weight_CIKK in kernels], 1)
    y_BTC = F.linear(torch.cat(unfolded, 1).transpose(1, 2), weight, b_C)
    return y_BTC.transpose(1, 2).unflatten(2, (x_BIHW.shape[2] // stride, -1))


@one_call
def multi_scale_conv(x_BIHW: Tensor, b_C: Tensor | None, stride: int, impl: str, *kernels: Tensor) -> Tensor:
    """Convolve with several kernels of different widths around the same centres, and add up.

    Their sum is one kernel as wide as the widest: the map is read once, by a convolution whose patches are never
    laid out.

    Source: the embedding of a level in okojoalg/raft-mlp, `libs/models.py` at 6060d5d.

    Args:
        x_BIHW: map, `(batch, channels_in, height, width)`, best in PyTorch's channels-last format.
        b_C: bias, or None.
        stride: positions from one patch to the next; both sides of the map are multiples.
        impl: `"auto"` or `"reference"`.
        kernels: from the narrowest to the widest, `(channels_out, channels_in, side, side)`, each an even number of
            positions wider than the stride.

    Returns:
        `(batch, channels_out, height / stride, width / stride)`.

    Raises:
        ValueError: for an unknown `impl`.
    """
    if impl == "reference":
        return multi_scale_conv_reference(x_BIHW, b_C, stride, *kernels)
    if impl != "auto":
        raise ValueError(f"unknown impl '{impl}' of multi_scale_conv: choose 'auto' or 'reference'")
    weight_CIKK = one_kernel(*kernels)
    y_BCHW = F.conv2d(channels_last(x_BIHW), weight_CIKK, None, stride, (weight_CIKK.shape[2] - stride) // 2)
    # Convolutions add up the gradient of a bias with larger errors than a sum does.
    return y_BCHW if b_C is None else y_BCHW + b_C[:, None, None]


def one_kernel(*kernels: Tensor) -> Tensor:
    """The sum of kernels around the same centre, from the narrowest to the widest, as wide as the last."""
    total_CIKK = kernels[0]
    for weight_CIKK in kernels[1:]:
        margin = (weight_CIKK.shape[2] - total_CIKK.shape[2]) // 2
        total_CIKK = weight_CIKK + F.pad(total_CIKK, (margin, margin, margin, margin))
    return total_CIKK

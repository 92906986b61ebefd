"""Mixing and shifting: groups of channels, rolled and mixed in windows of their own (MS-MLP, arXiv:2202.06510).

Shape suffixes: B batch, H × W positions, C channels, K × K positions of a window.
"""

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mlpzoo.ops.dispatch import fast_path, one_call
from mlpzoo.ops.recompute import recomputing

Windows = Sequence[Tensor]
"""Depthwise kernels `(channels, 1, size, size)` of the groups, one after the other; sizes are odd."""


def mix_shift_reference(
    x_BHWC: Tensor, shifts: Sequence[int], w_right: Windows, b_right: Windows, w_down: Windows, b_down: Windows
) -> Tensor:
    """The same as `mix_shift`, as the authors write it: roll each group, convolve it, put the groups together, add.

    A map whose channels lie before its positions in memory gives one of the same kind.
    """
    groups = x_BHWC.permute(0, 3, 1, 2).split([kernel.shape[0] for kernel in w_right], dim=1)
    sums = []
    for kernels, biases, axis in ((w_right, b_right, 3), (w_down, b_down, 2)):
        mixed = [
            _depthwise(torch.roll(group, shift, axis), kernel, bias)
            for group, shift, kernel, bias in zip(groups, shifts, kernels, biases, strict=True)
        ]
        sums.append(torch.cat(mixed, dim=1))
    return (sums[0] + sums[1]).permute(0, 2, 3, 1)


@one_call
def mix_shift(
    x_BHWC: Tensor,
    shifts: Sequence[int],
    w_right: Windows,
    b_right: Windows,
    w_down: Windows,
    b_down: Windows,
    impl: str = "auto",
) -> Tensor:
    """Roll groups of channels, mix each by a depthwise convolution of its own, along both axes, and add the two.

    Rolling carries what leaves the map on one side in on the other; the convolutions see zeros outside.

    Source: `dwconv_lr` and `dwconv_td` of `MSBlock` in JegZheng/MS-MLP, `models/ms_mlp.py` at a10d34d.

    Args:
        x_BHWC: map, `(batch, height, width, channels)`, of any strides.
        shifts: positions by which each group is rolled forwards, along the width for one sum and the height for the
            other.
        w_right: kernels of the groups that are rolled along the width.
        b_right: their biases, `(channels,)` each.
        w_down: kernels of the groups that are rolled along the height, of the same shapes.
        b_down: their biases.
        impl: `"auto"` (the fastest known here: channels last, one convolution for a group that is not rolled, none for
            a window of one position, nothing saved but the map) or `"reference"`.

    Returns:
        `(batch, height, width, channels)`.

    Raises:
        ValueError: for an unknown `impl`, or groups that do not cover all channels.
    """
    covered = sum(kernel.shape[0] for kernel in w_right)
    if covered != x_BHWC.shape[3]:
        raise ValueError(f"the groups of mix_shift cover {covered} channels, and the map has {x_BHWC.shape[3]}")
    if impl not in ("auto", "reference"):
        raise ValueError(f"unknown impl '{impl}' of mix_shift: choose 'auto' or 'reference'")
    if impl == "reference":
        return mix_shift_reference(x_BHWC, shifts, w_right, b_right, w_down, b_down)
    return recomputing(functools.partial(_mixed, tuple(shifts)), x_BHWC, *w_right, *b_right, *w_down, *b_down)


def _depthwise(x_BCHW: Tensor, w_C1KK: Tensor, b_C: Tensor | None = None) -> Tensor:
    return F.conv2d(x_BCHW, w_C1KK, b_C, padding=w_C1KK.shape[2] // 2, groups=w_C1KK.shape[0])


def _mixed(shifts: tuple[int, ...], x_BHWC: Tensor, *parameters: Tensor) -> Tensor:
    count = len(shifts)
    w_right, b_right, w_down, b_down = (parameters[i : i + count] for i in range(0, 4 * count, count))
    groups = x_BHWC.split([kernel.shape[0] for kernel in w_right], dim=3)
    parts = [_mixed_group(*of_group) for of_group in zip(groups, shifts, w_right, w_down, strict=True)]
    y_BHWC = torch.cat(parts, dim=3)
    # Not by the convolutions, whose gradients of biases are less careful sums.
    b_C = torch.cat(b_right) + torch.cat(b_down)
    return y_BHWC + b_C if torch.is_grad_enabled() or not fast_path(y_BHWC, b_C) else y_BHWC.add_(b_C)


def _mixed_group(x_BHWC: Tensor, shift: int, w_right: Tensor, w_down: Tensor) -> Tensor:
    """Both sums of one group, without biases."""
    if shift == 0:
        return _depthwise(x_BHWC.permute(0, 3, 1, 2), w_right + w_down).permute(0, 2, 3, 1)
    right_BHWC, down_BHWC = torch.roll(x_BHWC, shift, 2), torch.roll(x_BHWC, shift, 1)
    if w_right.shape[2] == 1:
        return torch.addcmul(right_BHWC * w_right.flatten(), down_BHWC, w_down.flatten())
    right_BCHW = _depthwise(right_BHWC.permute(0, 3, 1, 2), w_right)
    down_BCHW = _depthwise(down_BHWC.permute(0, 3, 1, 2), w_down)
    if torch.is_grad_enabled() or not fast_path(right_BCHW, down_BCHW):
        return (right_BCHW + down_BCHW).permute(0, 2, 3, 1)
    return right_BCHW.add_(down_BCHW).permute(0, 2, 3, 1)

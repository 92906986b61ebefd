"""Sampling along one axis at learned offsets, then a linear map (ActiveMLP, arXiv:2203.06108, section 3.1).

Shape suffixes: B batch, H × W positions, C channels in, O channels out, G groups of channels, S channels of a group, R
rows of so many channels.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import deform_conv2d

from mlpzoo.ops.dispatch import fast_path, one_call
from mlpzoo.ops.linear import linear
from mlpzoo.ops.recompute import recomputing


def offset_linear_reference(
    x_BHWC: Tensor, offsets_BHWG: Tensor, w_OC: Tensor, b_O: Tensor | None, axis: int
) -> Tensor:
    """The same as `offset_linear`, as the authors run it: a deformable convolution, without offsets across the axis."""
    if x_BHWC.dtype == torch.bfloat16:
        # torchvision has no kernel for it; its autocast rule computes in float32 as well.
        wide_O = None if b_O is None else b_O.float()
        y_BHWO = offset_linear_reference(x_BHWC.float(), offsets_BHWG.float(), w_OC.float(), wide_O, axis)
        return y_BHWO.to(torch.bfloat16)
    along_BCHW = offsets_BHWG.permute(0, 3, 1, 2).repeat_interleave(x_BHWC.shape[3] // offsets_BHWG.shape[3], dim=1)
    across_BCHW = torch.zeros_like(along_BCHW)
    pairs = (along_BCHW, across_BCHW) if axis == 1 else (across_BCHW, along_BCHW)
    offsets_B2CHW = torch.stack(pairs, dim=2).flatten(1, 2)
    return deform_conv2d(x_BHWC.permute(0, 3, 1, 2), offsets_B2CHW, w_OC[:, :, None, None], b_O).permute(0, 2, 3, 1)


@one_call
def offset_linear(
    x_BHWC: Tensor, offsets_BHWG: Tensor, w_OC: Tensor, b_O: Tensor | None, axis: int, impl: str = "auto"
) -> Tensor:
    """Let each group of channels read the map so many positions ahead along an axis, then mix the channels.

    Between two positions is read by linear interpolation, and outside the map are zeros.

    Source: `atm_h` and `atm_w` of `ATMOp` in microsoft/ActiveMLP, `models/activemlp.py` at fb44035, which computes them
    by a deformable convolution.

    Args:
        x_BHWC: map, `(batch, height, width, channels_in)`.
        offsets_BHWG: how many positions ahead each group of consecutive channels reads, `(batch, height, width,
            groups)`; the groups divide the channels.
        w_OC: weight, `(channels_out, channels_in)`.
        b_O: bias, `(channels_out,)`, or None.
        axis: 1 to read along the height, 2 along the width.
        impl: `"auto"` (the fastest known here: a group is read as one row, and the backward pass finds the map and the
            offsets saved, and what was read) or `"reference"`.

    Returns:
        `(batch, height, width, channels_out)`.

    Raises:
        ValueError: for an unknown `impl`, or groups that do not divide the channels.
    """
    channels, groups = x_BHWC.shape[3], offsets_BHWG.shape[3]
    if channels % groups:
        raise ValueError(f"offset_linear got offsets of {groups} groups, which do not divide {channels} channels")
    if impl not in ("auto", "reference"):
        raise ValueError(f"unknown impl '{impl}' of offset_linear: choose 'auto' or 'reference'")
    if impl == "reference":
        return offset_linear_reference(x_BHWC, offsets_BHWG, w_OC, b_O, axis)
    return linear(recomputing(functools.partial(_sampled, axis), x_BHWC, offsets_BHWG), w_OC, b_O)


def _sampled(axis: int, x_BHWC: Tensor, offsets_BHWG: Tensor) -> Tensor:
    """What each group reads, `(B, H, W, C)`: two neighbours along the axis, weighed."""
    length, groups = x_BHWC.shape[axis], offsets_BHWG.shape[3]
    # Positions are large numbers for the fractions that they carry.
    offsets_BHWG = offsets_BHWG.to(torch.promote_types(offsets_BHWG.dtype, torch.float32))
    at_BHWG = torch.arange(length, device=x_BHWC.device).view(-1, *[1] * (3 - axis)) + offsets_BHWG
    first_BHWG = at_BHWG.detach().floor()
    after_BHWG = at_BHWG - first_BHWG
    if not fast_path(x_BHWC, offsets_BHWG):
        return _gathered(axis, x_BHWC, first_BHWG, after_BHWG)
    second_BHWG = first_BHWG + 1
    # What lies outside counts nothing, and is read at the border.
    before_BHWG = (1 - after_BHWG) * ((first_BHWG >= 0) & (first_BHWG < length))
    after_BHWG = after_BHWG * ((second_BHWG >= 0) & (second_BHWG < length))
    rows_RS = x_BHWC.reshape(-1, x_BHWC.shape[3] // groups)
    before_BHWGS, after_BHWGS = (
        rows_RS.index_select(0, _rows(places_BHWG.clamp(0, length - 1).long(), axis).flatten()).unflatten(
            0, offsets_BHWG.shape
        )
        for places_BHWG in (first_BHWG, second_BHWG)
    )
    first_BHWGS = before_BHWGS * before_BHWG.unsqueeze(4).to(x_BHWC.dtype)
    return torch.addcmul(first_BHWGS, after_BHWGS, after_BHWG.unsqueeze(4).to(x_BHWC.dtype)).flatten(3)


def _gathered(axis: int, x_BHWC: Tensor, first_BHWG: Tensor, after_BHWG: Tensor) -> Tensor:
    """The same by PyTorch's `gather` from a padded map: fewer steps, for compilers, in which sizes hardly occur."""
    length, groups = x_BHWC.shape[axis], first_BHWG.shape[3]
    padded_BHWGS = F.pad(x_BHWC, [0, 0, 0, 0, 1, 1] if axis == 1 else [0, 0, 1, 1]).unflatten(3, (groups, -1))
    before_BHWGS, after_BHWGS = (
        padded_BHWGS.gather(
            axis,
            (first_BHWG + ahead).clamp(0, length + 1).long().unsqueeze(4).expand(-1, -1, -1, -1, padded_BHWGS.shape[4]),
        )
        for ahead in (1, 2)
    )
    weight_BHWGS = after_BHWG.unsqueeze(4).to(x_BHWC.dtype)
    return (before_BHWGS + weight_BHWGS * (after_BHWGS - before_BHWGS)).flatten(3)


def _rows(places_BHWG: Tensor, axis: int) -> Tensor:
    """The number of a row, of all that a map's groups are, for its place along an axis."""
    batch, height, width, groups = places_BHWG.shape
    images, lines, columns, parts = (
        torch.arange(size, device=places_BHWG.device).view(-1, *[1] * after)
        for size, after in ((batch, 3), (height, 2), (width, 1), (groups, 0))
    )
    if axis == 1:
        lines = places_BHWG
    else:
        columns = places_BHWG
    return ((images * height + lines) * width + columns) * groups + parts

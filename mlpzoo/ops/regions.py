"""Regions of neighbouring positions along one axis of a map that is rolled (Hire-MLP, arXiv:2108.13341, section 3).

A line of L positions is rolled by a step, continued from its own beginning up to whole regions, and cut into them. The
positions of a region then stand side by side as channels.

Shape suffixes: B batch, H × W positions, C channels, R channels of a region, G regions, S positions of one, L positions
of a line; P and Q stand for H and W, of which one counts regions instead of positions.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from mlpzoo.ops.dispatch import fast_path, one_call

IMPLS = ("auto", "slices", "index", "reference")

_REGROUPED = {1: "b c (p s) w -> b (s c) p w", 2: "b c h (p s) -> b (s c) h p"}
"""Axis to how the authors regroup a map, but for the order of a region's channels."""


def gather_regions_reference(x_BHWC: Tensor, size: int, step: int, axis: int) -> Tensor:
    """The same as `gather_regions`, as the authors write it: roll, pad circularly, regroup, channels before positions.

    A map whose channels lie before its positions in memory gives one of the same kind.
    """
    x_BCHW = torch.roll(x_BHWC.permute(0, 3, 1, 2), step, axis + 1)
    length = x_BHWC.shape[axis]
    missing = -length % size
    while missing:
        # PyTorch does not wrap around more than once.
        wrapped = min(missing, length)
        x_BCHW = F.pad(x_BCHW, [0, 0, 0, wrapped] if axis == 1 else [0, wrapped, 0, 0], mode="circular")
        length, missing = length + wrapped, missing - wrapped
    return rearrange(x_BCHW, _REGROUPED[axis], s=size).permute(0, 2, 3, 1)


def scatter_regions_reference(y_BPQR: Tensor, size: int, step: int, axis: int, length: int) -> Tensor:
    """The same as `scatter_regions`, as the authors write it: regroup, crop, roll back."""
    before, after = _REGROUPED[axis].split(" -> ")
    y_BCHW = rearrange(y_BPQR.permute(0, 3, 1, 2), f"{after} -> {before}", s=size)
    return torch.roll(y_BCHW.narrow(axis + 1, 0, length), -step, axis + 1).permute(0, 2, 3, 1)


@one_call
def gather_regions(x_BHWC: Tensor, size: int, step: int, axis: int, impl: str = "auto") -> Tensor:
    """Roll a map by some positions along an axis and gather regions of neighbours into the channels.

    Where neither a step nor an end that fills no region is in the way, regions along the width are a view.

    Source: `HireMLP` of ggjy/Hire-Wave-MLP.pytorch, `mlp_based/hire_mlp.py` at 7ef7ddd. Two things differ. A region's
    channels are ordered by position first and by channel second, where theirs are the other way round: so they lie in
    memory already. And an axis shorter than what is missing to a whole region is wrapped around more than once, where
    theirs fails.

    Args:
        x_BHWC: map, `(batch, height, width, channels)`, of any strides.
        size: positions of a region.
        step: positions by which the map is rolled forwards.
        axis: 1 for regions along the height, 2 along the width.
        impl: `"auto"` (the fastest known here), `"slices"` for copies of whole slices, `"index"` for an indexed read
            that does not depend on the size of the map, or `"reference"`.

    Returns:
        `(batch, ⌈height / size⌉, width, size × channels)`, or `(batch, height, ⌈width / size⌉, size × channels)`.

    Raises:
        ValueError: for an unknown `impl`.
    """
    _check(impl)
    if impl == "reference":
        return gather_regions_reference(x_BHWC, size, step, axis)
    if impl == "index" or (impl == "auto" and not fast_path(x_BHWC)):
        length = x_BHWC.shape[axis]
        first_G1 = torch.arange((length + size - 1) // size, device=x_BHWC.device).unsqueeze(1) * size
        places_GS = (first_G1 + torch.arange(size, device=x_BHWC.device) - step) % length
        x_BPQSC = x_BHWC[:, places_GS].transpose(2, 3) if axis == 1 else x_BHWC[:, :, places_GS]
        return x_BPQSC.flatten(3)
    pieces = _whole_regions(x_BHWC, size, step, axis)
    return (torch.cat(pieces, dim=axis) if len(pieces) > 1 else pieces[0]).flatten(3)


@one_call
def scatter_regions(y_BPQR: Tensor, size: int, step: int, axis: int, length: int, impl: str = "auto") -> Tensor:
    """Undo `gather_regions`: spread regions over their positions, leave out what continued the line, roll back.

    Args:
        y_BPQR: what `gather_regions` gives, or anything of its shape.
        size: as in `gather_regions`.
        step: as in `gather_regions`.
        axis: as in `gather_regions`.
        length: positions along the axis.
        impl: as in `gather_regions`.

    Returns:
        The map, `(batch, height, width, channels)`; a view where nothing has to move.

    Raises:
        ValueError: for an unknown `impl`.
    """
    _check(impl)
    if impl == "reference":
        return scatter_regions_reference(y_BPQR, size, step, axis, length)
    y_BPQSC = y_BPQR.unflatten(3, (size, -1))
    y = y_BPQSC.transpose(2, 3) if axis == 1 else y_BPQSC
    if impl == "index" or (impl == "auto" and not fast_path(y_BPQR)):
        places_L = (torch.arange(length, device=y_BPQR.device) + step) % length
        region_L, place_L = places_L // size, places_L % size
        return y[:, region_L, place_L] if axis == 1 else y[:, :, region_L, place_L]
    y_BHWC = y.flatten(axis, axis + 1)
    first = step % length
    if first == 0:
        return y_BHWC.narrow(axis, 0, length)
    return torch.cat([y_BHWC.narrow(axis, first, length - first), y_BHWC.narrow(axis, 0, first)], dim=axis)


def _check(impl: str) -> None:
    if impl not in IMPLS:
        raise ValueError(f"unknown impl '{impl}' of regions: choose {', '.join(map(repr, IMPLS))}")


def _regrouped(x_BHWC: Tensor, size: int, axis: int) -> Tensor:
    """A view of whole regions: `(B, P, Q, size, C)`."""
    regions = x_BHWC.unflatten(axis, (-1, size))
    return regions.transpose(2, 3) if axis == 1 else regions


def _whole_regions(x_BHWC: Tensor, size: int, step: int, axis: int) -> list[Tensor]:
    """The rolled map's regions in order: views, but for the regions that straddle the end of the line."""
    length = x_BHWC.shape[axis]
    left, place = -(-length // size), -step % length
    pieces = []
    while left:
        whole = min(left, (length - place) // size)
        if whole:
            piece = x_BHWC.narrow(axis, place, whole * size)
        else:
            whole, missing = 1, size - (length - place)
            parts = [x_BHWC.narrow(axis, place, length - place)]
            parts += [x_BHWC] * (missing // length)
            piece = torch.cat([*parts, x_BHWC.narrow(axis, 0, missing % length)], dim=axis)
        pieces.append(_regrouped(piece, size, axis))
        left, place = left - whole, (place + whole * size) % length
    return pieces

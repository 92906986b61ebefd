"""Axial shift: runs of channels read a neighbouring position, zero outside (AS-MLP, arXiv:2107.08391, section 3.2).

Shape suffixes: B batch, H × W positions, C channels.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mlpzoo.ops.dispatch import fast_path, one_call

Run = tuple[int, int, int]
"""So many consecutive channels, and how many positions ahead they read along the height and along the width."""


def axial_shift_reference(x_BHWC: Tensor, runs: Sequence[Run]) -> Tensor:
    """The same as `axial_shift`, as the authors of ShiftViT write it: zeros, into which each run is copied.

    A map whose channels lie before its positions in memory stays so.
    """
    y_BHWC, first = torch.zeros_like(x_BHWC), 0
    for channels, down, right in runs:
        to_rows, from_rows, _ = _spans(down)
        to_columns, from_columns, _ = _spans(right)
        taken = slice(first, first + channels)
        y_BHWC[:, to_rows, to_columns, taken] = x_BHWC[:, from_rows, from_columns, taken]
        first += channels
    return y_BHWC


@one_call
def axial_shift(x_BHWC: Tensor, runs: Sequence[Run], impl: str = "auto") -> Tensor:
    """Let each run of channels read the position some steps ahead of its own, zero outside the map.

    Source: `shift_feat` of `ShiftViTBlock` in microsoft/SPACH, `models/shiftvit.py` at dcede1e; the shifts of
    `AxialShift` in svip-lab/AS-MLP, `models/as_mlp.py` at dd1eb4f, are of the same kind.

    Args:
        x_BHWC: map, `(batch, height, width, channels)`, of any strides.
        runs: for consecutive runs of channels, how many there are, how many rows ahead they read, and how many
            columns; negative numbers read behind. Together they cover all channels.
        impl: `"auto"` (the fastest known here), `"copy"` for one pass over memory, `"select"` for padding and slices
            that compilers fuse with what surrounds them, or `"reference"`.

    Returns:
        The shifted map, of the same shape. Only `"reference"` keeps the memory layout of an input that is not
        contiguous.

    Raises:
        ValueError: for an unknown `impl`, or runs that do not cover all channels.
    """
    covered = sum(channels for channels, _, _ in runs)
    if covered != x_BHWC.shape[3]:
        raise ValueError(f"the runs of axial_shift cover {covered} channels, and the map has {x_BHWC.shape[3]}")
    if impl == "reference":
        return axial_shift_reference(x_BHWC, runs)
    if impl not in ("auto", "copy", "select"):
        raise ValueError(f"unknown impl '{impl}' of axial_shift: choose 'auto', 'copy', 'select' or 'reference'")
    if impl == "select" or not fast_path(x_BHWC):
        return _select(x_BHWC, runs)
    y_BHWC: Tensor = _AxialShift.apply(x_BHWC, tuple(runs))
    return y_BHWC


def _spans(ahead: int) -> tuple[slice, slice, slice]:
    """The positions that something is read for, those it is read from, and those left without."""
    if ahead == 0:
        return slice(None), slice(None), slice(0)
    if ahead > 0:
        return slice(None, -ahead), slice(ahead, None), slice(-ahead, None)
    return slice(-ahead, None), slice(None, ahead), slice(None, -ahead)


def _select(x_BHWC: Tensor, runs: Sequence[Run]) -> Tensor:
    """Slices of the zero-padded map, side by side; nothing in it depends on the size of the map."""
    height, width = x_BHWC.shape[1:3]
    rows, columns = (max(abs(run[axis]) for run in runs) for axis in (1, 2))
    padded = F.pad(x_BHWC, [0, 0, columns, columns, rows, rows])
    shifted, first = [], 0
    for channels, down, right in runs:
        run = padded.narrow(3, first, channels)
        shifted.append(run.narrow(1, rows + down, height).narrow(2, columns + right, width))
        first += channels
    return torch.cat(shifted, dim=3)


def _copy(x_BHWC: Tensor, runs: Sequence[Run]) -> Tensor:
    """Write every number of the result once."""
    y_BHWC, first = torch.empty_like(x_BHWC, memory_format=torch.contiguous_format), 0
    for channels, down, right in runs:
        to_rows, from_rows, zero_rows = _spans(down)
        to_columns, from_columns, zero_columns = _spans(right)
        x, y = (map_BHWC[..., first : first + channels] for map_BHWC in (x_BHWC, y_BHWC))
        y[:, to_rows, to_columns] = x[:, from_rows, from_columns]
        y[:, zero_rows] = 0
        y[:, to_rows, zero_columns] = 0
        first += channels
    return y_BHWC


class _AxialShift(torch.autograd.Function):
    """The shift by copying. Its gradient, and its tangent, are shifts."""

    @staticmethod
    def forward(ctx: Any, x_BHWC: Tensor, runs: tuple[Run, ...]) -> Tensor:
        ctx.runs = runs
        return _copy(x_BHWC, runs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        back = [(channels, -down, -right) for channels, down, right in ctx.runs]
        return axial_shift(gradients[0], back), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        return axial_shift(tangents[0], ctx.runs)

"""Resize weights that are bound to a token grid, so that a trained network runs on another image size.

A token-mixing weight holds one map over the patches for every unit that reads or writes the tokens. Resizing it
means resizing those maps. What must stay the same differs by side:

- the input side sums over tokens, so the sum of each unit's map is kept exactly: an image whose patches all look
  alike gives the same hidden activations on every grid;
- the output side writes one value for every token, so the map itself keeps its values and its shape.

Shape suffixes: N maps, T tokens of the old grid, U tokens of the new grid; in between H × W the sides of the old grid,
U × V those of the new one.
"""

import contextlib

import torch
import torch.nn.functional as F
from torch import Tensor

from mlpzoo.ops._torch import surely_equal

Grid = tuple[int, int]


def _side(old: int, new: int, like: Tensor) -> Tensor:
    """The linear map from one side of a grid to another, `(new, old)`: bicubic, antialiased when shrinking."""
    rows = torch.eye(old, dtype=like.dtype, device=like.device).reshape(1, old, 1, old)
    return F.interpolate(rows, size=(1, new), mode="bicubic", antialias=True, align_corners=False)[0, :, 0].T


def _resize_maps(w_NT: Tensor, old_grid: Grid, new_grid: Grid) -> Tensor:
    """Bicubic, antialiased when shrinking, in at least float32; `(maps, old tokens)` to `(maps, new tokens)`.

    Interpolation is linear along each side, so it is two products, many times faster than `F.interpolate` of all maps.
    """
    if w_NT.shape[-1] != old_grid[0] * old_grid[1]:
        raise ValueError(
            f"these weights span {w_NT.shape[-1]} tokens, but the old grid {old_grid[0]}×{old_grid[1]} has "
            f"{old_grid[0] * old_grid[1]}"
        )
    kind = w_NT.device.type
    # The meta device, which computes nothing, has no autocast to switch off.
    with torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else contextlib.nullcontext():
        w_NHW = w_NT.to(torch.promote_types(w_NT.dtype, torch.float32)).unflatten(-1, old_grid)
        down_UH, across_VW = (_side(old, new, w_NHW) for old, new in zip(old_grid, new_grid, strict=True))
        return torch.einsum("uh,nhw,vw->nuv", down_UH, w_NHW, across_VW).flatten(1)


def resize_output_tokens(w_NT: Tensor, old_grid: Grid, new_grid: Grid) -> Tensor:
    """Resize maps that write tokens: values and shape of each map are kept.

    Args:
        w_NT: `(maps, old tokens)`; a weight whose *output* is the tokens, transposed, or a bias as `(1, old tokens)`.
        old_grid: height and width of the grid the weight was trained on, in patches.
        new_grid: height and width of the grid wanted, in patches.

    Returns:
        `(maps, new tokens)` in the dtype of `w_NT`; `w_NT` itself when the grids are equal.

    Raises:
        ValueError: when `w_NT` does not span `old_grid`.
    """
    if surely_equal(old_grid, new_grid):
        return w_NT
    return _resize_maps(w_NT, old_grid, new_grid).to(w_NT.dtype)


def resize_input_tokens(w_NT: Tensor, old_grid: Grid, new_grid: Grid) -> Tensor:
    """Resize maps that read tokens: each map keeps its sum, so each unit keeps its answer to a constant image.

    Args:
        w_NT: `(maps, old tokens)`; a weight whose *input* is the tokens.
        old_grid: height and width of the grid the weight was trained on, in patches.
        new_grid: height and width of the grid wanted, in patches.

    Returns:
        `(maps, new tokens)` in the dtype of `w_NT`; `w_NT` itself when the grids are equal.

    Raises:
        ValueError: when `w_NT` does not span `old_grid`.
    """
    if surely_equal(old_grid, new_grid):
        return w_NT
    w_NU = _resize_maps(w_NT, old_grid, new_grid)
    w_NU = w_NU * (w_NT.shape[-1] / w_NU.shape[-1])
    # Interpolation loses a little of the sum at the borders. It is given back evenly, not by a factor: the sum of
    # a map that is half positive and half negative is near zero, and a factor would blow the map up.
    missing_N1 = w_NT.to(w_NU.dtype).sum(-1, keepdim=True) - w_NU.sum(-1, keepdim=True)
    return (w_NU + missing_N1 / w_NU.shape[-1]).to(w_NT.dtype)


def resize_axis(w: Tensor, axis: int, role: str, old_grid: Grid, new_grid: Grid) -> Tensor:
    """Resize one axis of a weight of any rank, each vector along it a map over a grid or over one of its sides.

    Args:
        w: the weight.
        axis: the axis that spans positions.
        role: `"in"` for an axis that is summed over (see `resize_input_tokens`) or `"out"` for one that writes (see
            `resize_output_tokens`), over all positions; with `_height` or `_width` appended over those of one side.
        old_grid: height and width of the grid the weight was trained on, in positions.
        new_grid: height and width of the grid wanted, in positions.

    Returns:
        The weight with another size along the axis, in its dtype.

    Raises:
        ValueError: for an unknown role, or when the axis does not span the old grid.
    """
    side, _, line = role.partition("_")
    if side not in ("in", "out") or line not in ("", "height", "width"):
        raise ValueError(f"unknown role '{role}' of an axis: 'in' or 'out', perhaps with '_height' or '_width'")
    if line:
        place = ("height", "width").index(line)
        old_grid, new_grid = (1, old_grid[place]), (1, new_grid[place])
    resize = resize_input_tokens if side == "in" else resize_output_tokens
    maps = w.movedim(axis, -1)
    resized = resize(maps.reshape(-1, maps.shape[-1]), old_grid, new_grid)
    return resized.reshape(*maps.shape[:-1], -1).movedim(-1, axis)

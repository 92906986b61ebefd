"""Restore images of any size, in memory bounded by a tile.

Shape suffixes: B batch, C image channels, H × W pixels.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

Progress = Callable[[int, int], None]
"""Told how many passes of the network are done, of how many."""


def restore(
    model: nn.Module,
    image: Tensor,
    *,
    tile: int | None = None,
    overlap: int | None = None,
    self_ensemble: bool = False,
    progress: Progress | None = None,
) -> Tensor:
    """Restore an image or a batch of any size.

    The image is padded to the multiple the network needs, by reflection and evenly on both sides, as the authors'
    `run_eval.py` does, and the result is cropped. Larger images than memory allows are restored by tiles: all begin at
    multiples of that multiple, neighbours share `overlap` pixels or more, the outer quarter of what they share is
    thrown away and the middle half blended. A network whose receptive field reaches at most a quarter of the overlap
    gives the same result as without tiles. MAXIM's reaches everywhere: its grids span the tile, whatever its size, and
    its channel attention averages over it. So its tiles blend without seams, but are not what the whole gives.

    Args:
        model: a restoration network; it is put in evaluation mode. Any module will do that takes and gives
            `(batch, channels, height, width)`, or gives lists of such whose last entry is meant; its attribute
            `size_multiple`, 1 if it has none, divides the sides it takes.
        image: `(channels, height, width)` or `(batch, channels, height, width)`, floating point in [0, 1].
        tile: side of a tile in pixels, a multiple of what the network needs; None for the whole image at once.
        overlap: pixels that neighbouring tiles share at least, such a multiple and at most half a tile; by default
            the smallest that is a quarter of the tile or more, if half a tile allows.
        self_ensemble: whether to average over the eight rotations and reflections of the image, at eight times the
            cost.
        progress: called after every pass of the network.

    Returns:
        The restored image, of the shape, dtype and device of `image`. Values may leave [0, 1] a little: clip them
        before saving.

    Raises:
        TypeError: when `image` is no floating-point tensor.
        ValueError: when its shape, `tile` or `overlap` is unusable.
    """
    if not isinstance(image, Tensor) or not image.is_floating_point():
        kind = image.dtype if isinstance(image, Tensor) else type(image).__name__
        raise TypeError(f"image must be a floating-point tensor with values in [0, 1], got {kind}")
    if image.ndim not in (3, 4) or not image.numel():
        raise ValueError(f"image must be (channels, height, width), or a batch of such, got {tuple(image.shape)}")
    overlap = check_tiles(model, tile, overlap)
    multiple = size_multiple(model)
    x_BCHW = image if image.ndim == 4 else image[None]
    height, width = x_BCHW.shape[2:]
    (rows, top), (columns, left) = _padding(height, multiple), _padding(width, multiple)
    turns = [(flip, quarter) for flip in (False, True) for quarter in range(4)] if self_ensemble else [(False, 0)]
    passes = len(turns) * sum(1 for _ in _tiles(len(rows), len(columns), tile, overlap, multiple))
    done = 0

    model.eval()
    anchor = next(model.parameters(), x_BCHW)
    # In half precision, sums of many tiles would round too often.
    restored = torch.zeros_like(x_BCHW, dtype=torch.promote_types(x_BCHW.dtype, torch.float32))
    with torch.no_grad():
        for flip, quarter in turns:
            # Tiles are taken from the image and added to the result one by one: neither is padded or turned as a whole.
            sources = _turned(rows, columns, flip, quarter)
            places = _turned(torch.arange(len(rows)) - top, torch.arange(len(columns)) - left, flip, quarter)
            for down, across, weights in _tiles(len(sources[0]), len(sources[1]), tile, overlap, multiple):
                x_BCTT = _take(x_BCHW, sources, down, across)
                outputs: Any = model(x_BCTT.to(anchor.device, anchor.dtype))
                while isinstance(outputs, list | tuple):
                    outputs = outputs[-1]
                found = outputs.to(restored.device, restored.dtype)
                del outputs
                _add(restored, found if weights is None else found * weights.to(found), places, down, across)
                done += 1
                if progress is not None:
                    progress(done, passes)
    return restored.div_(len(turns)).to(image.dtype).reshape(image.shape)


def size_multiple(model: nn.Module) -> int:
    """What divides the sides that a network takes."""
    return int(getattr(model, "size_multiple", 1))


def check_tiles(model: nn.Module, tile: int | None, overlap: int | None) -> int:
    """The overlap to use.

    Raises:
        ValueError: when the tile or the overlap does not suit the network.
    """
    multiple = size_multiple(model)
    if tile is None:
        if overlap is not None:
            raise ValueError("overlap is between tiles: give tile as well")
        return 0
    if tile < 1 or tile % multiple:
        nearest = max(1, round(tile / multiple)) * multiple
        raise ValueError(
            f"tile must be a multiple of {multiple} pixels for this network, such as {nearest}; got {tile}"
        )
    if overlap is None:
        return min(math.ceil(tile / 4 / multiple), tile // 2 // multiple) * multiple
    if overlap < 0 or overlap % multiple or 2 * overlap > tile:
        raise ValueError(
            f"overlap must be a multiple of {multiple} pixels for this network, from 0 to half the tile of {tile}; "
            f"got {overlap}"
        )
    return overlap


def _reflect(index: Tensor, size: int) -> Tensor:
    """Indices of any integer into a line of `size`, mirrored at the centres of its ends as often as it takes."""
    if size == 1:
        return torch.zeros_like(index)
    period = 2 * (size - 1)
    index = index % period
    return torch.where(index < size, index, period - index)


def _padding(size: int, multiple: int) -> tuple[Tensor, int]:
    """Where each pixel of the padded line comes from, and where the line begins in it.

    As the authors, an odd line first gets one pixel more at its end, and the rest is padded around that.
    """
    even = size + size % 2 if multiple % 2 == 0 else size
    padded = math.ceil(even / multiple) * multiple
    before = (padded - even) // 2
    to_even = _reflect(torch.arange(even), size)
    return to_even[_reflect(torch.arange(padded) - before, even)], before


def _starts(size: int, tile: int, overlap: int, multiple: int) -> list[int]:
    """Where tiles begin: as few as will do, evenly spread, at multiples of `multiple`."""
    if size <= tile:
        return [0]
    number = math.ceil((size - overlap) / (tile - overlap))
    return [i * (size - tile) // (number - 1) // multiple * multiple for i in range(number)]


def _windows(size: int, tile: int, overlap: int, multiple: int) -> list[tuple[slice, Tensor]]:
    """Tiles of a line: where each lies and what it weighs there. The weights of all sum to one everywhere."""
    starts = _starts(size, tile, overlap, multiple)
    tile = min(tile, size)
    weights = torch.ones(len(starts), size, dtype=torch.float64)
    for i, start in enumerate(starts):
        weights[i, :start] = weights[i, start + tile :] = 0
    for i, (first, second) in enumerate(itertools.pairwise(starts)):
        shared = first + tile - second
        # Rises from 0 to 1 over the middle half of what the two share.
        rise = ((torch.arange(shared, dtype=torch.float64) + 0.5 - shared / 4) / max(shared / 2, 1)).clamp(0, 1)
        weights[i, second : first + tile] *= 1 - rise
        weights[i + 1, second : first + tile] *= rise
    # Where three tiles meet, the products of the ramps sum to less than one.
    weights /= weights.sum(0)
    return [(slice(s, s + tile), w[s : s + tile].float()) for s, w in zip(starts, weights, strict=True)]


def _tiles(
    height: int, width: int, tile: int | None, overlap: int, multiple: int
) -> Iterator[tuple[slice, slice, Tensor | None]]:
    """Rows, columns and weights of every tile; one tile without weights where one is enough."""
    if tile is None or (height <= tile and width <= tile):
        yield slice(None), slice(None), None
        return
    for rows, down in _windows(height, tile, overlap, multiple):
        for columns, across in _windows(width, tile, overlap, multiple):
            yield rows, columns, down[:, None] * across


Axes = tuple[Tensor, Tensor, bool]
"""Of a turned picture, where its rows and columns lie in the picture; and whether its rows are that one's columns."""


def _turned(rows: Tensor, columns: Tensor, flip: bool, quarter: int) -> Axes:
    """What becomes of a picture's rows and columns when it is mirrored, if told so, and turned as by `torch.rot90`."""
    swapped = False
    if flip:
        columns = columns.flip(0)
    for _ in range(quarter):
        rows, columns, swapped = columns.flip(0), rows, not swapped
    return rows, columns, swapped


def _take(x_BCHW: Tensor, axes: Axes, down: slice, across: slice) -> Tensor:
    """A tile of the turned picture."""
    rows, columns, swapped = axes[0][down].to(x_BCHW.device), axes[1][across].to(x_BCHW.device), axes[2]
    if swapped:
        return x_BCHW[:, :, columns[:, None], rows].transpose(2, 3)
    return x_BCHW[:, :, rows[:, None], columns]


def _add(x_BCHW: Tensor, tile_BCTT: Tensor, axes: Axes, down: slice, across: slice) -> None:
    """Add a tile of the turned picture to the picture; what lies outside is padding."""
    rows, columns, swapped = axes[0][down], axes[1][across], axes[2]
    if swapped:
        rows, columns, tile_BCTT = columns, rows, tile_BCTT.transpose(2, 3)
    inside = [(line >= 0) & (line < size) for line, size in zip((rows, columns), x_BCHW.shape[2:], strict=True)]
    down_, across_ = (mask.nonzero()[:, 0].to(x_BCHW.device) for mask in inside)
    rows, columns = rows[inside[0]].to(x_BCHW.device), columns[inside[1]].to(x_BCHW.device)
    x_BCHW[:, :, rows[:, None], columns] += tile_BCTT[:, :, down_[:, None], across_]

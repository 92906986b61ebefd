"""Cut a map into blocks or by a grid, so that one linear map over tokens mixes it locally or globally.

Both see the map as a lattice of cells. Blocks have a fixed size and mix the positions inside one cell, so their reach
is local; a grid has a fixed number of cells and mixes the positions that lie alike in all of them, so its reach is the
whole map, dilated (MAXIM, arXiv:2201.02973, section 3.2).

Shape suffixes: B batch, H × W positions, C channels, T positions mixed, N sets of them, P × Q cells of R × S positions.
"""

from einops import rearrange
from torch import Tensor

KINDS = ("block", "grid")


def partition_reference(x_BHWC: Tensor, kind: str, size: int) -> Tensor:
    """The same as `partition`, in einops."""
    if kind == "block":
        return rearrange(x_BHWC, "b (p r) (q s) c -> b (r s) (p q) c", r=size, s=size).contiguous()
    return rearrange(x_BHWC, "b (p r) (q s) c -> b (p q) (r s) c", p=size, q=size).contiguous()


def unpartition_reference(x_BTNC: Tensor, kind: str, size: int, height: int, width: int) -> Tensor:
    """The same as `unpartition`, in einops."""
    if kind == "block":
        p, q = height // size, width // size
        return rearrange(x_BTNC, "b (r s) (p q) c -> b (p r) (q s) c", r=size, p=p, q=q).contiguous()
    r, s = height // size, width // size
    return rearrange(x_BTNC, "b (p q) (r s) c -> b (p r) (q s) c", p=size, r=r, s=s).contiguous()


def partition(x_BHWC: Tensor, kind: str, size: int) -> Tensor:
    """Gather what a block or a grid mixes into one axis.

    The mixed axis stands before all others, so a linear map over it is a single matrix product for each image.

    Args:
        x_BHWC: map, `(batch, height, width, channels)`, whose sides `size` divides.
        kind: `"block"`: mix the `size` × `size` positions of a block. `"grid"`: mix the `size` × `size` cells.
        size: side of a block in positions, or of the grid in cells.

    Returns:
        `(batch, size², sets, channels)`.

    Raises:
        ValueError: for an unknown kind, or a map that does not divide.
    """
    B, H, W, C = x_BHWC.shape
    rows, columns = _cells(kind, size, H, W)
    x_BPRQSC = x_BHWC.reshape(B, rows, H // rows, columns, W // columns, C)
    order = (0, 2, 4, 1, 3, 5) if kind == "block" else (0, 1, 3, 2, 4, 5)
    return x_BPRQSC.permute(order).reshape(B, size * size, H * W // (size * size), C)


def unpartition(x_BTNC: Tensor, kind: str, size: int, height: int, width: int) -> Tensor:
    """Undo `partition`.

    Args:
        x_BTNC: `(batch, size², sets, channels)`.
        kind: as in `partition`.
        size: as in `partition`.
        height: of the map.
        width: of the map.

    Returns:
        The map, `(batch, height, width, channels)`.

    Raises:
        ValueError: for an unknown kind, or a map that does not divide.
    """
    B, C = x_BTNC.shape[0], x_BTNC.shape[3]
    rows, columns = _cells(kind, size, height, width)
    if kind == "block":
        x = x_BTNC.reshape(B, size, size, rows, columns, C).permute(0, 3, 1, 4, 2, 5)
    else:
        x = x_BTNC.reshape(B, size, size, height // rows, width // columns, C).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(B, height, width, C)


def _cells(kind: str, size: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of cells."""
    if kind not in KINDS:
        raise ValueError(f"unknown kind '{kind}' of partition: choose 'block' or 'grid'")
    if height % size or width % size:
        raise ValueError(f"a map of {height}×{width} does not divide by {size}, the {kind}'s side")
    return (height // size, width // size) if kind == "block" else (size, size)

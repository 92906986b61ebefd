"""A linear map over the positions of each partition of a map, shared by sets of channels (RepMLPNet).

Shape suffixes: B batch, C channels, H × W positions, P × Q partitions of R × S positions, Z share sets, K channels of a
share set, T positions of a partition read, U positions written, N rows: partitions of Z channels each.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mlpzoo.ops.dispatch import one_call
from mlpzoo.ops.window_mixing import window_mixing


def rows_of(x_BHWC: Tensor, sets: int, window: int) -> Tensor:
    """A map cut into partitions, and those into rows of a channel of each share set: `(rows, sets, window, window)`.

    Channel c belongs to share set c modulo sets. Rows come in the order of image, partition, channel.
    """
    x = x_BHWC.unflatten(3, (-1, sets)).unflatten(2, (-1, window)).unflatten(1, (-1, window))
    return x.permute(0, 1, 3, 5, 6, 2, 4).flatten(0, 3)


def map_of(y_NZRS: Tensor, like_BHWC: Tensor, moved: bool) -> Tensor:
    """Rows put together to a map.

    Args:
        y_NZRS: rows, as `rows_of` orders them.
        like_BHWC: the map that they are of.
        moved: whether rows are read as if they came in the order of image, channel, partition. The authors' code does
            so: with several partitions each lands in another place and another group of channels.
    """
    batch, height, width, channels = like_BHWC.shape
    sets, window = y_NZRS.shape[1:3]
    rows, columns, group = height // window, width // window, channels // sets
    if moved:
        y = y_NZRS.reshape(batch, group, rows, columns, sets, window, window).permute(0, 2, 5, 3, 6, 1, 4)
    else:
        y = y_NZRS.reshape(batch, rows, columns, group, sets, window, window).permute(0, 1, 5, 2, 6, 3, 4)
    return y.reshape(batch, height, width, channels)


def rows_mixed(x_NZRS: Tensor, w_ZUT: Tensor, b_ZU: Tensor | None = None, impl: str = "auto") -> Tensor:
    """Mix the positions of each row, in each share set by its own weight; `"reference"` is a grouped convolution."""
    if impl == "reference":
        bias = None if b_ZU is None else b_ZU.flatten()
        y = F.conv1d(x_NZRS.flatten(1).unsqueeze(2), w_ZUT.flatten(0, 1).unsqueeze(2), bias, groups=len(w_ZUT))
        return y.view_as(x_NZRS)
    x_ZTN = x_NZRS.flatten(2).permute(1, 2, 0)
    y_ZUN = torch.bmm(w_ZUT, x_ZTN) if b_ZU is None else torch.baddbmm(b_ZU.unsqueeze(2), w_ZUT, x_ZTN)
    return y_ZUN.permute(2, 0, 1).unflatten(2, x_NZRS.shape[2:])


@one_call
def partition_mixing(
    x_BHWC: Tensor, w_ZUT: Tensor, b_ZU: Tensor, window: int, moved: bool, impl: str = "auto"
) -> Tensor:
    """Mix the positions of each partition, in each share set of channels by its own weight.

    Source: `RepMLPBlock` in DingXiaoH/RepMLP, `repmlpnet.py` at 3eff13f, in its deploy form.

    Args:
        x_BHWC: map, `(batch, height, width, channels)`; sides are multiples of `window`.
        w_ZUT: weight, `(share sets, positions written, positions read)`, both window², by row first.
        b_ZU: bias, `(share sets, positions written)`.
        window: side of a partition in positions.
        moved: whether several partitions change places as in the authors' code, see `map_of`.
        impl: `"auto"` or `"reference"`.

    Returns:
        A map of the same shape.

    Raises:
        ValueError: for an unknown `impl`.
    """
    if impl not in ("auto", "reference"):
        raise ValueError(f"unknown impl '{impl}' of partition_mixing: choose 'auto' or 'reference'")
    by_rows = impl == "reference" or (moved and torch.compiler.is_compiling())
    if by_rows or (moved and x_BHWC.shape[1] * x_BHWC.shape[2] > window**2):
        return map_of(rows_mixed(rows_of(x_BHWC, len(w_ZUT), window), w_ZUT, b_ZU, impl), x_BHWC, moved)
    return window_mixing(x_BHWC, w_ZUT, b_ZU, window, interleaved=True)

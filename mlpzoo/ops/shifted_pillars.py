"""What the four neighbours of a position say, a quarter of the channels each (Caterpillar, arXiv:2305.17644).

Shape suffixes: B batch, C channels, H × W positions, Q a quarter of the channels out.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mlpzoo.ops.dispatch import one_call

SIDES = ((0, 0, 0, 1), (0, 0, 1, 0), (1, 0, 0, 0), (0, 1, 0, 0))
"""Zeros that stand in for neighbours beyond the border, as `F.pad` takes them, of each quarter: t, b, r, l."""


def _moved(x_BCHW: Tensor, padding: tuple[int, ...]) -> Tensor:
    """The map moved by one position: an entry of `SIDES` says where zeros come in, and what lies opposite goes."""
    _, right, _, bottom = padding
    height, width = x_BCHW.shape[2:]
    return F.pad(x_BCHW, padding)[:, :, bottom : bottom + height, right : right + width]


def shifted_pillars_reference(x_BCHW: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The same map as `shifted_pillars`, as the authors write it: four moved maps, four convolutions."""
    kernels = weight.chunk(4)
    biases = (None,) * 4 if bias is None else bias.chunk(4)
    quarters = zip(SIDES, kernels, biases, strict=True)
    return torch.cat([F.conv2d(_moved(x_BCHW, padding), w, b) for padding, w, b in quarters], 1)


@one_call
def shifted_pillars(x_BCHW: Tensor, weight: Tensor, bias: Tensor | None, impl: str = "auto") -> Tensor:
    """Project four copies of a map, each moved by one position, to a quarter of the channels each.

    A projection of a moved map is the projection of the map, moved: one product makes all quarters, and those, which
    are a quarter of what would be moved otherwise, are moved.

    Source: `localMix` of sunjin19126/Caterpillar, `caterpillar.py` at 7dac802.

    Args:
        x_BCHW: map, `(batch, channels, height, width)`, best in PyTorch's channels-last format.
        weight: kernels of the four, `(channels out, channels, 1, 1)`. The first quarter of the outputs sees the
            neighbour below, the second the one above, the third the one on the left, the fourth the one on the right.
        bias: their biases, `(channels out,)`, added where zeros have come in as well; or None.
        impl: `"auto"` or `"reference"`.

    Returns:
        `(batch, channels out, height, width)`.

    Raises:
        ValueError: for an unknown `impl`.
    """
    if impl == "reference":
        return shifted_pillars_reference(x_BCHW, weight, bias)
    if impl != "auto":
        raise ValueError(f"unknown impl '{impl}' of shifted_pillars: choose 'auto' or 'reference'")
    z_BHWC = F.linear(x_BCHW.permute(0, 2, 3, 1), weight.flatten(1))
    height, width = z_BHWC.shape[1:3]
    below, above, left, right = z_BHWC.chunk(4, -1)
    y_BHWC = torch.cat(
        (
            F.pad(below[:, 1:], (0, 0, 0, 0, 0, 1)),
            F.pad(above[:, : height - 1], (0, 0, 0, 0, 1, 0)),
            F.pad(left[:, :, : width - 1], (0, 0, 1, 0)),
            F.pad(right[:, :, 1:], (0, 0, 0, 1)),
        ),
        -1,
    )
    return (y_BHWC if bias is None else y_BHWC + bias).permute(0, 3, 1, 2)

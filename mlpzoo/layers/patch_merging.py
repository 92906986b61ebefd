"""Patch merging: squares of four positions become one (Swin Transformer, arXiv:2103.14030, section 3.1).

Shape suffixes: B batch, H × W positions, C channels, R row and S column in a square.
"""

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from mlpzoo.layers.linear import apply_linear
from mlpzoo.ops.resize import Grid


def four_neighbours(x_BHWC: Tensor) -> Tensor:
    """Squares of four positions side by side as channels, by row first; zeros where a side is odd.

    The order is (row, column) = (0, 0), (1, 0), (0, 1), (1, 1).
    """
    height, width = x_BHWC.shape[1:3]
    if not torch.compiler.is_compiling() and height % 2 == 0 and width % 2 == 0:
        x_BHRWSC = x_BHWC.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))
        return x_BHRWSC.permute(0, 1, 3, 4, 2, 5).flatten(3)
    # Nothing here depends on whether a side is odd.
    x_BHWC = F.pad(x_BHWC, [0, 0, 0, 1, 0, 1])
    places = [(row, column) for column in (0, 1) for row in (0, 1)]
    return torch.cat([x_BHWC[:, r : r + height : 2, c : c + width : 2] for r, c in places], dim=3)


# A traced graph keeps it as one call: symbolic sizes cannot be compared while tracing.
torch.fx.wrap("four_neighbours")


class PatchMerging(nn.Module):
    """Four neighbours side by side as channels, a norm, a linear layer without a bias.

    Source: `PatchMerging` of Swin-MLP's authors and of AS-MLP's.

    Args:
        dim: channels.
        out_dim: channels of the smaller map.
        norm: over the four neighbours' channels.
        linear_layer: class of the linear layer, see `mlpzoo.layers.pointwise`.
        impl: which implementation of `mlpzoo.ops.linear` runs.
        device: where the parameters live.
        dtype: their type.

    Shape:
        `(batch, height, width, dim)` to `(batch, ⌈height / 2⌉, ⌈width / 2⌉, out_dim)`.
    """

    stride = 2

    def __init__(
        self,
        dim: int,
        out_dim: int,
        norm: nn.Module,
        *,
        linear_layer: type[nn.Linear] = nn.Linear,
        impl: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.impl = impl
        self.norm = norm
        self.reduction = linear_layer(4 * dim, out_dim, bias=False, device=device, dtype=dtype)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the smaller map."""
        return apply_linear(self.reduction, self.norm(four_neighbours(x_BHWC)), impl=self.impl)

    def grid_after(self, grid: Grid) -> Grid:
        """Height and width of the map for those of the one before."""
        return -(-grid[0] // 2), -(-grid[1] // 2)

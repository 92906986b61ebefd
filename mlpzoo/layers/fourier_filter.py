"""Filters in the frequency domain that are bound to a grid.

Shape suffixes: B batch, H × W positions, F frequencies along the width, C channels, K filters, 2 real and imaginary.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlpzoo.layers.grid_bound import GridBound, GridFound, Shapes
from mlpzoo.ops.fourier_filter import fourier_filter
from mlpzoo.ops.resize import Grid


class FourierFilter(GridBound):
    """Multiply the spectrum of a map by learned complex weights (GFNet, arXiv:2107.00645, section 3.2).

    Source: `GlobalFilter` of raoyongming/GFNet, `gfnet.py`.

    Args:
        filters: a filter for each channel of the map; or how many are mixed by `mix_BKC`, see `ops.fourier_filter`.
        grid: height and width of the map.
        impl: which implementation of `mlpzoo.ops.fourier_filter` runs.
        device: where the parameters live.
        dtype: their type.

    Shape:
        `(batch, height, width, channels)` to the same.
    """

    def __init__(
        self,
        filters: int,
        grid: Grid,
        *,
        impl: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.grid = (grid[0], grid[1])
        self.impl = impl
        shape = (grid[0], grid[1] // 2 + 1, filters, 2)
        self.complex_weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw from a normal distribution of standard deviation 0.02, as the authors do."""
        nn.init.normal_(self.complex_weight, std=0.02)

    def forward(self, x_BHWC: Tensor, mix_BKC: Tensor | None = None) -> Tensor:
        """`(batch, height, width, channels)` to the same."""
        return fourier_filter(x_BHWC, self.complex_weight, mix_BKC, self.impl)

    def weights_at(self, new_grid: Grid) -> Iterator[tuple[str, Tensor]]:
        """The filters at another grid: bicubic over the frequencies, corners aligned, as the authors resize them."""
        value = self.complex_weight
        if new_grid != self.grid:
            wide = value.flatten(2).permute(2, 0, 1)[None].to(torch.promote_types(value.dtype, torch.float32))
            size = (new_grid[0], new_grid[1] // 2 + 1)
            wide = F.interpolate(wide, size=size, mode="bicubic", align_corners=True)
            value = wide[0].permute(1, 2, 0).unflatten(2, value.shape[2:]).to(value.dtype)
        yield "complex_weight", value

    def grid_in(self, shapes: Shapes, prefix: str = "") -> GridFound:
        """The height, and the frequencies along the width."""
        height, frequencies, *_ = shapes.get(f"{prefix}complex_weight", (None, None))
        return GridFound(height, frequencies=frequencies)

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"filters={self.complex_weight.shape[2]}, grid={self.grid}"

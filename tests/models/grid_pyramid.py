"""A pyramid with weights bound to the grids of two of its stages, for tests: one by axes, one over all positions.

Shape suffixes: B batch, H × W positions, C channels.
"""

import dataclasses
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mlpzoo.layers import ConvEmbed, Downsample, GridBound, TokenLinear
from mlpzoo.layers.grid_bound import GridAxes
from mlpzoo.models import Family, GridBoundConfig, PyramidBackbone, PyramidConfig


class AxisMixing(GridBound):
    """A linear map along the width, then one along the height."""

    grid_axes: ClassVar[GridAxes] = {
        "across.weight": ("out_width", "in_width"),
        "across.bias": ("out_width",),
        "down.weight": ("out_height", "in_height"),
        "down.bias": ("out_height",),
    }

    def __init__(self, grid: tuple[int, int], **dd: Any) -> None:
        super().__init__()
        self.grid = grid
        self.across = nn.Linear(grid[1], grid[1], **dd)
        self.down = nn.Linear(grid[0], grid[0], **dd)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        x_BCHW = self.across(x_BHWC.permute(0, 3, 1, 2))
        return self.down(x_BCHW.transpose(2, 3)).permute(0, 3, 2, 1)


class FullMixing(GridBound):
    """A linear map over all positions, without a bias."""

    grid_axes: ClassVar[GridAxes] = {"tokens.weight": ("out", "in"), "tokens.bias": ("out",)}

    def __init__(self, grid: tuple[int, int], **dd: Any) -> None:
        super().__init__()
        self.grid = grid
        self.tokens = TokenLinear(grid[0] * grid[1], grid[0] * grid[1], bias=False, **dd)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        return self.tokens(x_BHWC.flatten(1, 2)).unflatten(1, x_BHWC.shape[1:3])


@dataclasses.dataclass(frozen=True, kw_only=True)
class GridPyramidConfig(PyramidConfig, GridBoundConfig):
    """Settings, small unless told otherwise."""

    embed_dims: tuple[int, ...] = (8, 12, 16)
    depths: tuple[int, ...] = (1, 2, 1)
    mlp_ratios: tuple[float, ...] = (1, 1, 1)
    img_size: int | tuple[int, int] = (48, 64)
    num_classes: int = 7
    full: bool = True
    """Whether the last stage mixes all positions at once, and not by axes."""
    axes: bool = True
    """Whether the stage before mixes by axes, and not at all."""


class GridPyramid(PyramidBackbone):
    """Patches of 4, downsampling by 2: nothing bound in the first stage, axes in the second, all in the third."""

    family = "grid_pyramid"
    config: GridPyramidConfig

    def build_stem(self, **dd: Any) -> nn.Module:
        return ConvEmbed(self.config.in_chans, self.config.embed_dims[0], 4, 4, **dd)

    def build_downsample(self, stage: int, **dd: Any) -> nn.Module:
        return Downsample(self.config.embed_dims[stage - 1], self.config.embed_dims[stage], 3, 2, 1, **dd)

    def build_mixing(self, stage: int, number: int, **dd: Any) -> nn.Module:
        if stage == 2:
            mixing = FullMixing if self.config.full else AxisMixing
            return mixing(self.stage_grids[stage], **dd)
        if stage == 1 and self.config.axes:
            return AxisMixing(self.stage_grids[stage], **dd)
        return nn.Identity()


FAMILY = Family(
    name="grid_pyramid",
    title="Pyramid of the tests",
    paper="",
    code="",
    license="MIT",
    model=GridPyramid,
    variants={"grid_pyramid": GridPyramidConfig()},
)


def create(**options: Any) -> GridPyramid:
    """The network, with weights large enough that every one matters."""
    dtype = options.pop("dtype", None)
    model = GridPyramid(GridPyramidConfig(**options), dtype=dtype)
    for i, parameter in enumerate(model.parameters()):
        nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(i))
    return model.eval()


def image(height: int, width: int) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))

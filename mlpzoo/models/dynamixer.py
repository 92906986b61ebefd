"""DynaMixer: a vision MLP architecture with dynamic mixing (Wang et al., 2022, https://arxiv.org/abs/2201.12083).

Authors' code: ziyuwwang/DynaMixer, `models/dynamixer.py` at 038b73b (MIT).
What differs: what generates the mixing of a line has learned how long lines are. It is resized to lines of other
lengths, so all multiples of 14 pixels work; the authors' networks take 224×224 alone.

Shape suffixes: B batch, H × W positions, C channels, O lines, L positions of a line, Z heads, R reduced channels.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from mlpzoo.layers import ConvEmbed, Downsample, SplitReweight
from mlpzoo.layers.grid_bound import GridBound, GridFound, Shapes
from mlpzoo.layers.linear import apply_linear, rest
from mlpzoo.layers.split_reweight import reweighted_and_projected
from mlpzoo.models._config import GridBoundConfig
from mlpzoo.models._family import Family
from mlpzoo.models._keymap import KeyMap
from mlpzoo.models._pyramid import PyramidBackbone, PyramidConfig
from mlpzoo.models._pyramid_files import number_stages, stage_rules
from mlpzoo.ops.generated_mixing import generated_mixing
from mlpzoo.ops.resize import Grid, resize_axis


@dataclasses.dataclass(frozen=True, kw_only=True)
class DynaMixerConfig(PyramidConfig, GridBoundConfig):
    """Settings of a DynaMixer.

    Attributes:
        patch_size: side of the stem's patches in pixels, which do not overlap.
        halvings: whether each stage begins with a map of half the height and width; the first never does.
        num_heads: heads of each stage, groups of channels with a mixing of their own.
        reduced_dim: channels of a head that the mixing is generated from.
    """

    mlp_ratios: tuple[float, ...] = (3, 3, 3, 3)
    patch_size: int = 7
    halvings: tuple[bool, ...] = (False, True, False, False)
    num_heads: tuple[int, ...]
    reduced_dim: int = 2

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        self._require_for_each_stage("num_heads")
        self._require("patch_size", self.patch_size >= 1, "1 or more")
        self._require("reduced_dim", self.reduced_dim >= 1, "1 or more")
        object.__setattr__(self, "halvings", tuple(self.halvings))
        holds = len(self.halvings) == len(self.embed_dims) and not self.halvings[0]
        self._require("halvings", holds, "one of each stage, and not true of the first")
        stays = zip(self.halvings[1:], self.embed_dims, self.embed_dims[1:], strict=False)
        holds = all(halves or before == after for halves, before, after in stays)
        self._require("embed_dims", holds, "the same in a stage that halves nothing as in the one before")
        holds = all(dim % heads == 0 for dim, heads in zip(self.embed_dims, self.num_heads, strict=True))
        self._require("num_heads", holds, f"divisors of each stage's channels, {self.embed_dims}")

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """The patch's side, twice as much after each halving."""
        return tuple(self.patch_size * 2 ** sum(self.halvings[: stage + 1]) for stage in range(len(self.depths)))


class GeneratedMixing(GridBound):
    """Mix each line along one axis by a matrix generated from what its positions hold, in each head.

    Source: `DynaMixerOp` of the authors.

    Args:
        dim: channels.
        grid: height and width of the map, in positions.
        axis: 1 for lines along the height, 2 along the width.
        heads: groups of channels with a mixing of their own.
        reduced_dim: channels of a head that the mixing is generated from.
        impl: which implementation of `mlpzoo.ops.generated_mixing` runs.
        dd: `device` and `dtype` of the parameters.

    Shape:
        `(batch, height, width, dim)` to the same.
    """

    def __init__(self, dim: int, grid: Grid, axis: int, heads: int, reduced_dim: int, impl: str, **dd: Any) -> None:
        super().__init__()
        self.grid, self.axis, self.heads, self.impl = grid, axis, heads, impl
        length = grid[axis - 1]
        self.compress = nn.Linear(dim, heads * reduced_dim, **dd)
        self.generate = nn.Linear(length * reduced_dim, length**2, **dd)
        self.out = nn.Linear(dim, dim, **dd)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        reduced_BHWZR = apply_linear(self.compress, x_BHWC, impl=self.impl).unflatten(3, (self.heads, -1))
        told_BOZ = reduced_BHWZR.permute((0, 2, 3, 1, 4) if self.axis == 1 else (0, 1, 3, 2, 4)).flatten(3)
        logits_BOZST = apply_linear(self.generate, told_BOZ, impl=self.impl).unflatten(
            3, (self.grid[self.axis - 1], -1)
        )
        return apply_linear(self.out, generated_mixing(x_BHWC, logits_BOZST, self.axis, self.impl), impl=self.impl)

    def weights_at(self, new_grid: Grid) -> Iterator[tuple[str, Tensor]]:
        """The weights of `generate` for lines of another length: what it reads and both sides of the matrix."""
        line = ("height", "width")[self.axis - 1]
        length = self.grid[self.axis - 1]
        sides = (length, length)
        weight, bias = self.generate.weight.unflatten(1, (length, -1)).unflatten(0, sides), self.generate.bias
        for name, value in (("weight", weight), ("bias", bias.unflatten(0, sides))):
            for axis, role in enumerate(("out", "out", "in")[: value.ndim]):
                value = resize_axis(value, axis, f"{role}_{line}", self.grid, new_grid)
            value = value.flatten(0, 1)
            yield f"generate.{name}", value.flatten(1) if name == "weight" else value

    def grid_in(self, shapes: Shapes, prefix: str = "") -> GridFound:
        """The length of lines, from the square that is generated."""
        square = shapes.get(f"{prefix}generate.bias")
        length = math.isqrt(square[0]) if square else None
        return GridFound(height=length) if self.axis == 1 else GridFound(width=length)


class DynaMixing(nn.Module):
    """Generated mixing along the height and along the width and a linear layer, weighed, added and projected.

    Source: `DynaMixerBlock` of the authors.

    Shape:
        `(batch, height, width, dim)` to the same.
    """

    def __init__(self, dim: int, grid: Grid, heads: int, config: DynaMixerConfig, **dd: Any) -> None:
        super().__init__()
        self.impl = rest(config.impl)
        self.mix_h = GeneratedMixing(dim, grid, 1, heads, config.reduced_dim, self.impl, **dd)
        self.mix_w = GeneratedMixing(dim, grid, 2, heads, config.reduced_dim, self.impl, **dd)
        self.mlp_c = nn.Linear(dim, dim, bias=False, **dd)
        self.reweight = SplitReweight(dim, impl=self.impl, **dd)
        self.proj = nn.Linear(dim, dim, **dd)
        self.proj_drop = nn.Dropout(config.proj_drop_rate)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        h_BHWC, w_BHWC = self.mix_h(x_BHWC), self.mix_w(x_BHWC)
        c_BHWC = apply_linear(self.mlp_c, x_BHWC, impl=self.impl)
        x_BHWC = reweighted_and_projected(self.reweight, self.proj, h_BHWC, w_BHWC, c_BHWC, impl=self.impl)
        return self.proj_drop(x_BHWC)


class DynaMixer(PyramidBackbone):
    """Patches, stages of DynaMixer blocks with a 2×2 convolution in front of one of them, LayerNorm, mean, head."""

    family = "dynamixer"
    config: DynaMixerConfig

    def build_stem(self, **dd: Any) -> nn.Module:
        """The patches."""
        config = self.config
        return ConvEmbed(config.in_chans, config.embed_dims[0], config.patch_size, config.patch_size, **dd)

    def build_downsample(self, stage: int, **dd: Any) -> nn.Module:
        """A 2×2 convolution of stride 2 where the stage halves the map."""
        before, after = self.config.embed_dims[stage - 1 : stage + 1]
        return Downsample(before, after, 2, 2, **dd) if self.config.halvings[stage] else nn.Identity()

    def build_mixing(self, stage: int, number: int, **dd: Any) -> nn.Module:
        """A `DynaMixing`."""
        config = self.config
        return DynaMixing(config.embed_dims[stage], self.stage_grids[stage], config.num_heads[stage], config, **dd)


IMAGENET: dict[str, Any] = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD, "crop_pct": 0.9}

FAMILY = Family(
    name="dynamixer",
    title="DynaMixer",
    paper="https://arxiv.org/abs/2201.12083",
    code="https://github.com/ziyuwwang/DynaMixer/blob/038b73b/models/dynamixer.py",
    license="MIT",
    model=DynaMixer,
    # The authors' data config crops 0.9, that of the large model 0.875. No files are released.
    data={**IMAGENET, "pool_size": (16, 16)},
    variants={
        "dynamixer_s": DynaMixerConfig(
            embed_dims=(192, 384, 384, 384), depths=(4, 3, 8, 3), num_heads=(8, 16, 16, 16), drop_path_rate=0.1
        ),
        "dynamixer_m": DynaMixerConfig(
            embed_dims=(256, 256, 512, 512),
            depths=(4, 3, 14, 3),
            halvings=(False, False, True, False),
            num_heads=(8, 8, 16, 16),
            drop_path_rate=0.1,
        ),
        "dynamixer_l": DynaMixerConfig(
            embed_dims=(256, 512, 512, 512),
            depths=(8, 8, 16, 4),
            num_heads=(8, 16, 16, 16),
            reduced_dim=8,
            drop_path_rate=0.3,
        ),
    },
    formats=(
        KeyMap("the authors' .pth", stage_rules(r"mix_[hw]\.(?:out|compress|generate)|mlp_c"), rename=number_stages),
    ),
)

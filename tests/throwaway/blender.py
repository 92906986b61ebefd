"""Blender: a made-up network, to show what a family's file holds.

Shape suffixes: B batch, T tokens, C channels.
"""

import dataclasses
import math
from typing import Any, ClassVar

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from mlpzoo.layers import GridBound, TokenLinear, create_activation
from mlpzoo.layers.folding import may_merge, wide, with_values
from mlpzoo.layers.grid_bound import GridAxes
from mlpzoo.models import Family, IsotropicBackbone, IsotropicConfig, Weights
from mlpzoo.models._keymap import KeyMap, Rule
from mlpzoo.ops.resize import Grid


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlenderConfig(IsotropicConfig):
    """Settings of a Blender.

    Attributes:
        speed: what every entry of the scales starts from.
    """

    speed: float = 0.5


class ChannelBlend(nn.Module):
    """Linear, BatchNorm over the channels, activation: `(B, T, C)` to the same."""

    norm_after: ClassVar = {"fc": "norm"}

    def __init__(self, dim: int, act_layer: str, **dd: Any) -> None:
        super().__init__()
        self.fc = nn.Linear(dim, dim, **dd)
        self.norm = ChannelNorm(dim, **dd)
        self.act = create_activation(act_layer)

    def forward(self, x_BTC: Tensor) -> Tensor:
        # Not transposed to (B, C, T): compilers expect other strides of what leaves the norm than it has.
        y_BTC = self.fc(x_BTC)
        return self.act(self.norm(y_BTC.flatten(0, 1)).reshape(y_BTC.shape))


ChannelNorm = nn.BatchNorm1d


class ScaledLinear(nn.Module):
    """A linear layer and a scale of each channel, which is merged with it: `(B, T, C)` to the same."""

    def __init__(self, dim: int, scale: float, **dd: Any) -> None:
        super().__init__()
        self.init_scale = scale
        self.fc = nn.Linear(dim, dim, **dd)
        self.scale = nn.Parameter(torch.empty(dim, **dd))

    def forward(self, x_BTC: Tensor) -> Tensor:
        return self.scale * self.fc(x_BTC)

    def folded(self) -> nn.Module:
        if not may_merge(self.fc):
            return self
        scale_C = wide(self.scale)
        return with_values(self.fc, scale_C[:, None] * wide(self.fc.weight), scale_C * wide(self.fc.bias))


class BlenderBlock(GridBound):
    """Tokens, then channels, each with a skip: `(B, T, C)` to the same."""

    grid_axes: ClassVar[GridAxes] = {"blend.weight": ("out", "in"), "blend.bias": ("out",)}

    def __init__(self, dim: int, grid: Grid, config: BlenderConfig, drop_path: float, **dd: Any) -> None:
        super().__init__()
        self.grid = grid
        self.blend = TokenLinear(math.prod(grid), math.prod(grid), impl=config.impl, **dd)
        self.channels = ChannelBlend(dim, config.act_layer, **dd)
        self.drop = nn.Dropout(config.proj_drop_rate)
        self.out = ScaledLinear(dim, config.speed, **dd)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x_BTC: Tensor) -> Tensor:
        x_BTC = x_BTC + self.drop_path(self.blend(x_BTC))
        return x_BTC + self.drop_path(self.out(self.drop(self.channels(x_BTC))))


class Blender(IsotropicBackbone):
    """Patch embedding, `depth` blocks, LayerNorm, mean over tokens, linear head."""

    family = "blender"
    config: BlenderConfig

    def build_block(self, *, drop_path: float, **dd: Any) -> nn.Module:
        return BlenderBlock(self.config.embed_dim, self.stem.grid, self.config, drop_path, **dd)

    def reset_parameters(self) -> None:
        for module in self.modules():
            if isinstance(module, ScaledLinear):
                nn.init.constant_(module.scale, module.init_scale)
            elif isinstance(module, nn.Conv2d | nn.Linear | nn.LayerNorm | ChannelNorm | TokenLinear):
                module.reset_parameters()


FAMILY = Family(
    name="blender",
    title="Blender",
    paper="https://arxiv.org/abs/0000.00000",
    code="https://github.com/nobody/blender/blob/0000000/blender.py",
    license="MIT",
    model=Blender,
    variants={
        "blender_s16": BlenderConfig(embed_dim=64, depth=3),
        "blender_b16": BlenderConfig(embed_dim=96, depth=4),
    },
    weights={"blender_s16.in1k": Weights(url="https://example.com/blender_s.pth", license="MIT")},
    formats=(
        KeyMap(
            "the authors' .pth",
            (
                Rule(r"patches\.(weight|bias)", r"stem.proj.\1"),
                Rule(r"layers\.(\d+)\.tokens\.(weight|bias)", r"blocks.\1.blend.\2"),
                Rule(r"layers\.(\d+)\.up\.(weight|bias)", r"blocks.\1.channels.fc.\2"),
                Rule(r"layers\.(\d+)\.bn\.(\w+)", r"blocks.\1.channels.norm.\2"),
                Rule(r"layers\.(\d+)\.down\.(weight|bias)", r"blocks.\1.out.fc.\2"),
                Rule(r"layers\.(\d+)\.gamma", r"blocks.\1.out.scale"),
                Rule(r"ln\.(weight|bias)", r"norm.\1"),
                Rule(r"fc\.(weight|bias)", r"head.\1"),
            ),
        ),
    ),
)

"""ConvMLP: hierarchical convolutional MLPs for vision (Li et al., 2021, https://arxiv.org/abs/2109.04454).

Authors' code: SHI-Labs/Convolutional-MLPs, `src/convmlp.py` at 092bf71 (Apache-2.0).
What differs: maps keep their channels last throughout. A map is a feature when a stage is entered, before its blocks,
and the last one after them: those are the maps that the authors' detectors read.

Shape suffixes: B batch, I image channels, H × W pixels or positions, C channels.
"""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import DropPath
from torch import Tensor, nn

from mlpzoo.layers import Downsample, MlpBlock
from mlpzoo.layers.linear import rest
from mlpzoo.models._family import Family, Weights
from mlpzoo.models._keymap import KeyMap, Rule
from mlpzoo.models._pyramid import PyramidBackbone, PyramidConfig
from mlpzoo.ops import channels_last
from mlpzoo.ops.resize import Grid


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvMLPConfig(PyramidConfig):
    """Settings of a ConvMLP. The first stage is of convolutions, the others of MLPs.

    Stochastic depth ramps up from 0 to `drop_path_rate` within each stage of MLPs.
    """

    drop_path_rate: float = 0.1

    @property
    def first_conv(self) -> str:
        """The first convolution of the tokenizer."""
        return "stem.0.conv"

    @property
    def stem_width(self) -> int:
        """It has half the channels of the first stage."""
        return self.embed_dims[0] // 2


class ConvNormReLU(nn.Module):
    """Convolution without bias, BatchNorm, ReLU: `(B, C, H, W)` to the same, in the memory format that comes in."""

    norm_after: ClassVar = {"conv": "norm"}

    def __init__(self, in_chans: int, out_chans: int, kernel_size: int, stride: int = 1, **dd: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chans, out_chans, kernel_size, stride, kernel_size // 2, bias=False, **dd)
        self.norm = nn.BatchNorm2d(out_chans, **dd)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """`(batch, in_chans, height, width)` to `(batch, out_chans, height', width')`."""
        return F.relu(self.norm(self.conv(x_BCHW)))


class ConvTokenizer(nn.Sequential):
    """Three convolutions and a maximum pooling: an image to `(B, H, W, C)` at a stride of 4."""

    stride = 4

    def __init__(self, in_chans: int, dim: int, *, impl: str, **dd: Any) -> None:
        super().__init__(
            ConvNormReLU(in_chans, dim // 2, 3, 2, **dd),
            ConvNormReLU(dim // 2, dim // 2, 3, **dd),
            ConvNormReLU(dim // 2, dim, 3, **dd),
        )
        self.impl = impl

    def grid_after(self, grid: Grid) -> Grid:
        """Height and width of the map for those of an image: a quarter, rounded up."""
        return -(-grid[0] // 4), -(-grid[1] // 4)

    def forward(self, x_BIHW: Tensor) -> Tensor:
        """`(batch, in_chans, height, width)` to `(batch, height', width', dim)`; sides are rounded up."""
        x_BCHW = super().forward(x_BIHW if self.impl == "reference" else channels_last(x_BIHW))
        return F.max_pool2d(x_BCHW, 3, 2, 1).permute(0, 2, 3, 1)


class ConvBlock(nn.Sequential):
    """1×1, 3×3 and 1×1 convolutions under a skip, each with its ReLU: `(B, H, W, C)` to the same."""

    def __init__(self, dim: int, hidden: int, **dd: Any) -> None:
        super().__init__(
            ConvNormReLU(dim, hidden, 1, **dd),
            ConvNormReLU(hidden, hidden, 3, **dd),
            ConvNormReLU(hidden, dim, 1, **dd),
        )

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        return x_BHWC + super().forward(x_BHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class ConvMLPBlock(nn.Module):
    """An MLP over the channels, a 3×3 depthwise convolution without a skip, another MLP: `(B, H, W, C)` to the same."""

    def __init__(self, config: ConvMLPConfig, stage: int, drop_path: float, **dd: Any) -> None:
        super().__init__()
        dim = config.embed_dims[stage]
        hidden = int(dim * config.mlp_ratios[stage])
        options: dict[str, Any] = {
            "act_layer": config.act_layer,
            "drop": config.proj_drop_rate,
            "impl": rest(config.impl),
            **dd,
        }
        self.norm1 = nn.LayerNorm(dim, eps=config.norm_eps, **dd)
        self.channel_mlp1 = MlpBlock(dim, hidden, **options)
        self.connect_norm = nn.LayerNorm(dim, eps=config.norm_eps, **dd)
        self.connect = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False, **dd)
        self.norm2 = nn.LayerNorm(dim, eps=config.norm_eps, **dd)
        self.channel_mlp2 = MlpBlock(dim, hidden, **options)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        x_BHWC = x_BHWC + self.drop_path(self.channel_mlp1(self.norm1(x_BHWC)))
        x_BHWC = self.connect(self.connect_norm(x_BHWC).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x_BHWC + self.drop_path(self.channel_mlp2(self.norm2(x_BHWC)))


class ConvMLP(PyramidBackbone):
    """Convolutions, then stages of MLPs joined by depthwise convolutions; LayerNorm, mean, head."""

    family = "convmlp"
    config: ConvMLPConfig
    parts_are_a_chain = False

    def build_stem(self, **dd: Any) -> nn.Module:
        """The tokenizer."""
        return ConvTokenizer(self.config.in_chans, self.config.embed_dims[0], impl=self.config.impl, **dd)

    def build_downsample(self, stage: int, **dd: Any) -> nn.Module:
        """A 3×3 convolution of stride 2."""
        before, after = self.config.embed_dims[stage - 1 : stage + 1]
        return Downsample(before, after, 3, 2, 1, **dd)

    def build_block(self, stage: int, number: int, *, drop_path: float, **dd: Any) -> nn.Module:
        """A block of convolutions in the first stage, which has no stochastic depth, and of MLPs in the others."""
        config = self.config
        dim = config.embed_dims[stage]
        if stage == 0:
            return ConvBlock(dim, int(dim * config.mlp_ratios[0]), **dd)
        place, last = number - sum(config.depths[:stage]), max(config.depths[stage] - 1, 1)
        rate = config.drop_path_rate * (place / last if config.drop_path_decay else 1)
        return ConvMLPBlock(config, stage, rate, **dd)

    def walk(self, x: Tensor, last: int) -> Iterator[Tensor]:
        """The map that enters each stage's blocks; what leaves them of the last stage."""
        stage: Any
        for number, stage in enumerate(self.parts[: last + 1]):
            x = stage.downsample(x)
            if number < self.last_stage:
                yield x
            if number < last or number == self.last_stage:
                x = stage.run_blocks(x)
        if last == self.last_stage:
            yield x

    def reset_parameters(self) -> None:
        """Linear maps normal with deviation 0.02, convolutions by He over what they write to, biases as PyTorch."""
        super().reset_parameters()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def _describe_features(self) -> list[dict[str, Any]]:
        info = super()._describe_features()
        for entry in info[: self.last_stage]:
            entry["module"] += ".downsample"
        return info


def in_our_numbers(names: Sequence[str]) -> list[str]:
    """Count the layers of a sequence of convolutions by kind, and stages from the one of convolutions on."""

    def layer(match: re.Match[str]) -> str:
        place = int(match[2])
        return f"{match[1]}.{place // 3}.{'norm' if place % 3 else 'conv'}."

    def stage(match: re.Match[str]) -> str:
        leads_on = match[2] == "downsample_mlp"
        return f"stages.{int(match[1]) + (2 if leads_on else 1)}.{match[2]}."

    names = [re.sub(r"^(tokenizer\.block|conv_stages\.conv_blocks\.\d+)\.(\d)\.", layer, name) for name in names]
    return [re.sub(r"^stages\.(\d{1,4})\.(blocks|downsample_mlp)\.", stage, name) for name in names]


NORM = "weight|bias|running_mean|running_var|num_batches_tracked"
FORMAT = KeyMap(
    "the authors' .pth",
    (
        Rule(rf"tokenizer\.block\.(\d)\.(conv\.weight|norm\.(?:{NORM}))", r"stem.\1.\2"),
        Rule(rf"conv_stages\.conv_blocks\.(\d+)\.(\d)\.(conv\.weight|norm\.(?:{NORM}))", r"stages.0.blocks.\1.\2.\3"),
        Rule(r"conv_stages\.downsample\.(weight|bias)", r"stages.1.downsample.proj.\1"),
        Rule(r"stages\.(\d+)\.downsample_mlp\.downsample\.(weight|bias)", r"stages.\1.downsample.proj.\2"),
        Rule(
            r"stages\.(\d+)\.blocks\.(\d+)\."
            r"((?:norm[12]|connect_norm|channel_mlp[12]\.fc[12])\.(?:weight|bias)|connect\.weight)",
            r"stages.\1.blocks.\2.\3",
        ),
        Rule(r"norm\.(weight|bias)", r"norm.\1"),
        Rule(r"head\.(weight|bias)", r"head.\1"),
    ),
    rename=in_our_numbers,
)


def _file(size: str, top1: float) -> Weights:
    return Weights(
        url=f"https://shi-labs.com/projects/convmlp/checkpoints/convmlp_{size}_imagenet.pth",
        license="Apache-2.0",
        top1=top1,
        top1_source="README.md of SHI-Labs/Convolutional-MLPs at 092bf71",
        mean=IMAGENET_DEFAULT_MEAN,
        std=IMAGENET_DEFAULT_STD,
        crop_pct=0.9,
    )


def _config(first: int, depths: tuple[int, ...], ratio: int) -> ConvMLPConfig:
    dims = (first, 2 * first, 4 * first, 8 * first)
    return ConvMLPConfig(embed_dims=dims, depths=depths, mlp_ratios=(2, ratio, ratio, ratio))


FAMILY = Family(
    name="convmlp",
    title="ConvMLP",
    paper="https://arxiv.org/abs/2109.04454",
    code="https://github.com/SHI-Labs/Convolutional-MLPs/blob/092bf71/src/convmlp.py",
    license="Apache-2.0",
    model=ConvMLP,
    data={"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD, "crop_pct": 0.9, "pool_size": (7, 7)},
    variants={
        "convmlp_s": _config(64, (2, 2, 4, 2), 2),
        "convmlp_m": _config(64, (3, 3, 6, 3), 3),
        "convmlp_l": _config(96, (3, 4, 8, 3), 3),
    },
    weights={
        "convmlp_s.in1k": _file("s", 76.8),
        "convmlp_m.in1k": _file("m", 79.0),
        "convmlp_l.in1k": _file("l", 80.2),
    },
    formats=(FORMAT,),
)

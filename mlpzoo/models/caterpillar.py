"""Caterpillar: a pure-MLP architecture with shifted pillars concatenation (Sun et al., 2023).

Paper: https://arxiv.org/abs/2305.17644.
Authors' code: sunjin19126/Caterpillar, `caterpillar.py` at 7dac802 (MIT).
What differs: weights along the height and along the width are resized to images of any size, each along its own axis.
The four projections of shifted maps are one here, whose outputs are shifted instead. What mixes along the width is
called `proj_w` here, `proj_h` there.

Shape suffixes: B batch, C channels, H × W positions.
"""

import dataclasses
import itertools
import operator
import re
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from mlpzoo.layers import BatchNormNHWC, ConvEmbed, Downsample, create_activation
from mlpzoo.layers.axis_mixing import LocalAxialBlock
from mlpzoo.layers.folding import channel_scale, is_fixed
from mlpzoo.layers.linear import rest
from mlpzoo.models._config import GridBoundConfig
from mlpzoo.models._family import Family, Weights
from mlpzoo.models._keymap import KeyMap, Rule, pointwise_kernel
from mlpzoo.models._pyramid import PyramidBackbone, PyramidConfig
from mlpzoo.ops import fast_path
from mlpzoo.ops.shifted_pillars import shifted_pillars


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaterpillarConfig(PyramidConfig, GridBoundConfig):
    """Settings of a Caterpillar.

    Attributes:
        strides: on entering each stage, how many pixels or positions along each side become one. The authors take
            (4, 2, 2, 2) for images of 224 pixels, (3, 2, 2, 1) for 84, (1, 2, 2, 2) for 32 and (1, 2, 2, 1) for 28.
    """

    mlp_ratios: tuple[float, ...] = (3, 3, 3, 3)
    strides: tuple[int, ...] = (4, 2, 2, 2)

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        self._require_for_each_stage("strides")
        self._require("embed_dims", all(dim % 4 == 0 for dim in self.embed_dims), "multiples of 4")

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """The strides up to each stage, multiplied."""
        return tuple(itertools.accumulate(self.strides, operator.mul))

    def drop_path_rates(self, num_blocks: int) -> list[float]:
        """The stochastic depth rate of each block: as the authors have it, the last does not reach the rate itself."""
        if not self.drop_path_decay:
            return super().drop_path_rates(num_blocks)
        return [self.drop_path_rate * i / num_blocks for i in range(num_blocks)]


class ShiftedPillars(nn.Module):
    """BatchNorm, activation, what four neighbours say in a quarter of the channels each, fused.

    The quarters look one position down, up, left and right (the authors' t, b, r, l); beyond the border are zeros.

    Args:
        dim: channels, a multiple of 4.
        act: the activation.
        norm_eps: epsilon of the BatchNorm.
        impl: which implementation of `mlpzoo.ops.shifted_pillars` runs.
        dd: `device` and `dtype` of the parameters.

    Shape:
        `(batch, dim, height, width)` to the same.
    """

    def __init__(self, dim: int, act: nn.Module, *, norm_eps: float, impl: str, **dd: Any) -> None:
        super().__init__()
        self.impl = impl
        self.norm: nn.Module = nn.BatchNorm2d(dim, eps=norm_eps, **dd)
        self.act = act
        self.proj = nn.Conv2d(dim, dim, 1, **dd)
        self.fuse = nn.Conv2d(dim, dim, 1, **dd)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """`(batch, dim, height, width)` to the same."""
        x_BCHW = self.act(self.norm(x_BCHW))
        if fast_path(self.proj):
            return self.fuse(shifted_pillars(x_BCHW, self.proj.weight, self.proj.bias, self.impl))
        # A layer in its place, or one that is watched, sees one map, with zeros for neighbours beyond the border.
        below, above, left, right = self.proj(F.pad(x_BCHW, (1, 1, 1, 1))).chunk(4, 1)
        quarters = (below[..., 2:, 1:-1], above[..., :-2, 1:-1], left[..., 1:-1, :-2], right[..., 1:-1, 2:])
        return self.fuse(torch.cat(quarters, 1))

    def folded(self) -> nn.Module:
        """Itself with its BatchNorm fixed."""
        if is_fixed(self.norm):
            self.register_module("norm", channel_scale(self.norm))
        return self


class Caterpillar(PyramidBackbone):
    """Patches, stages of Caterpillar blocks with convolutions between, BatchNorm, mean, head."""

    family = "caterpillar"
    config: CaterpillarConfig
    pytorch_init = True

    def build_stem(self, **dd: Any) -> nn.Module:
        """Patches that do not overlap, without a bias."""
        config = self.config
        return ConvEmbed(
            config.in_chans,
            config.embed_dims[0],
            config.strides[0],
            config.strides[0],
            bias=False,
            impl=config.impl,
            **dd,
        )

    def build_downsample(self, stage: int, **dd: Any) -> nn.Module:
        """A convolution of the positions that become one, without a bias."""
        before, after = self.config.embed_dims[stage - 1 : stage + 1]
        return Downsample(
            before,
            after,
            self.config.strides[stage],
            self.config.strides[stage],
            bias=False,
            impl=self.config.impl,
            **dd,
        )

    def build_block(self, stage: int, number: int, *, drop_path: float, **dd: Any) -> nn.Module:
        """Shifted pillars and mixing along the axes, then an MLP."""
        config = self.config
        dim = config.embed_dims[stage]
        options: dict[str, Any] = {"norm_eps": config.norm_eps, "impl": rest(config.impl), **dd}
        return LocalAxialBlock(
            dim,
            ShiftedPillars(dim, create_activation(config.act_layer), **options),
            self.stage_grids[stage],
            int(dim * config.mlp_ratios[stage]),
            act_layer=config.act_layer,
            drop=config.proj_drop_rate,
            drop_path=drop_path,
            **options,
        )

    def build_norm(self, dim: int, **dd: Any) -> nn.Module:
        """A BatchNorm."""
        return BatchNormNHWC(dim, self.config.norm_eps, **dd)


def number_stages(names: Sequence[str]) -> list[str]:
    """The authors' one list holds an identity, then each stage's blocks, then the convolution to the next stage.

    `blocks.4.` becomes `stages.1.blocks.0.`, and `blocks.3.weight`, which is such a convolution,
    `stages.1.downsample.proj.weight`.
    """
    convolutions = sorted(int(place) for name in names for place in re.findall(r"^blocks\.(\d{1,4})\.weight$", name))

    def renamed(match: re.Match[str]) -> str:
        place = int(match[1])
        stage = sum(convolution < place for convolution in convolutions)
        if place in convolutions:
            return f"stages.{stage + 1}.downsample.proj."
        return f"stages.{stage}.blocks.{place - 1 - (convolutions[stage - 1] if stage else 0)}."

    return [re.sub(r"^blocks\.(\d{1,4})\.", renamed, name) for name in names]


BATCH_NORM = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
BLOCK = r"stages\.(\d+)\.blocks\.(\d+)\.0\."
OURS = r"stages.\1.blocks.\2."
FORMAT = KeyMap(
    "the authors' .pth",
    (
        Rule(r"patch_embed\.proj\.weight", "stem.proj.weight"),
        Rule(r"stages\.(\d+)\.downsample\.proj\.weight", r"stages.\1.downsample.proj.weight"),
        Rule(rf"{BLOCK}localMix\.BN\.{BATCH_NORM}", rf"{OURS}local.norm.\3"),
        *(
            Rule(rf"{BLOCK}localMix\.proj_{side}\.(weight|bias)", rf"{OURS}local.proj.\3", part=part)
            for part, side in enumerate("tbrl")
        ),
        Rule(rf"{BLOCK}localMix\.fuse\.(weight|bias)", rf"{OURS}local.fuse.\3"),
        Rule(rf"{BLOCK}globalMix\.BN\.{BATCH_NORM}", rf"{OURS}axial.norm.\3"),
        Rule(rf"{BLOCK}globalMix\.proj_h\.weight", rf"{OURS}axial.proj_w.weight", pointwise_kernel),
        Rule(rf"{BLOCK}globalMix\.proj_h\.bias", rf"{OURS}axial.proj_w.bias"),
        Rule(rf"{BLOCK}globalMix\.proj_w\.weight", rf"{OURS}axial.proj_h.weight", pointwise_kernel),
        Rule(rf"{BLOCK}globalMix\.proj_w\.bias", rf"{OURS}axial.proj_h.bias"),
        Rule(rf"{BLOCK}globalMix\.fuse\.weight", rf"{OURS}axial.fuse.weight"),
        Rule(rf"{BLOCK}channelMix\.LN\.(weight|bias)", rf"{OURS}norm.\3"),
        Rule(rf"{BLOCK}channelMix\.FeedForward\.(fc[12])\.(weight|bias)", rf"{OURS}mlp.\3.\4"),
        Rule(rf"norm\.{BATCH_NORM}", r"norm.bn.\1"),
        Rule(r"head\.(weight|bias)", r"head.\1"),
    ),
    rename=number_stages,
)
# The repository states no crop; timm's defaults, with which its code trains, are these.
IMAGENET: dict[str, Any] = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD, "crop_pct": 0.875}


def _config(dim: int, depths: tuple[int, ...], **options: Any) -> CaterpillarConfig:
    return CaterpillarConfig(embed_dims=(dim, 2 * dim, 4 * dim, 8 * dim), depths=depths, **options)


def _file(key: str, password: str, top1: float) -> Weights:
    return Weights(
        where=f"It is on Baidu, https://pan.baidu.com/s/{key} (password {password}): fetch it with a browser and pass "
        "checkpoint_path=",
        license="MIT",
        top1=top1,
        top1_source="README.md of sunjin19126/Caterpillar at 7dac802",
        **IMAGENET,
    )


FAMILY = Family(
    name="caterpillar",
    title="Caterpillar",
    paper="https://arxiv.org/abs/2305.17644",
    code="https://github.com/sunjin19126/Caterpillar/blob/7dac802/caterpillar.py",
    license="MIT",
    model=Caterpillar,
    data={**IMAGENET, "pool_size": (7, 7)},
    variants={
        "caterpillar_mi": _config(40, (2, 6, 10, 2)),
        "caterpillar_tx": _config(60, (2, 8, 14, 2)),
        "caterpillar_t": _config(80, (2, 8, 14, 2)),
        "caterpillar_s": _config(96, (2, 10, 24, 2)),
        "caterpillar_b": _config(112, (2, 10, 24, 2)),
        # For small images, without a file.
        "caterpillar_mi_cifar": _config(40, (2, 6, 10, 2), img_size=32, strides=(1, 2, 2, 2)),
    },
    weights={
        "caterpillar_mi.in1k": _file("1Bm7aE0tLYsEZvbhAvffIpA", "5srf", 76.3),
        "caterpillar_tx.in1k": _file("1Qh53y7FTFwIuRd8D1apHAQ", "qsru", 80.9),
        "caterpillar_t.in1k": _file("1_WkOfa3TLzlxoxnvjn7q6w", "nic3", 82.4),
        "caterpillar_s.in1k": _file("1Q9tVJZYvWHg86sOpPXRMIA", "h87n", 83.5),
        "caterpillar_b.in1k": _file("11SFhjx0lgGwnvivTmYQ6hA", "8ueq", 83.7),
    },
    formats=(FORMAT,),
)

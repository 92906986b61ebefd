"""Vision Permutator, ViP (Hou et al., 2022, https://arxiv.org/abs/2106.12368).

Authors' code: houqb/VisionPermutator, `models/vip.py` at 2cab2ce (MIT; its README adds: non-commercial use).
What differs: the segments that the channels are cut into follow the grid, height and width apart, so that other image
sizes and images that are not square can be trained; the authors' networks take 224×224 alone.
"""

import dataclasses
import itertools
import math
import operator
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn

from mlpzoo.layers import ConvEmbed, Downsample, WeightedPermuteMLP
from mlpzoo.models._config import GridBoundConfig
from mlpzoo.models._family import Family, Weights
from mlpzoo.models._keymap import KeyMap
from mlpzoo.models._pyramid import PyramidBackbone, PyramidConfig
from mlpzoo.models._pyramid_files import number_stages, stage_rules


@dataclasses.dataclass(frozen=True, kw_only=True)
class VipConfig(PyramidConfig, GridBoundConfig):
    """Settings of a Vision Permutator.

    Weights keep their shape at every image size, but they know positions by number: those trained at one size must be
    fine-tuned at another.

    Attributes:
        patch_size: side of a patch in pixels.
        strides: on entering each stage, how many positions along each side become one; 1 for the first.
    """

    mlp_ratios: tuple[float, ...] = (3, 3, 3, 3)
    patch_size: int = 7
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        self._require("patch_size", self.patch_size >= 1, "1 or more")
        self._require_for_each_stage("strides")
        self._require("strides", self.strides[0] == 1, "1 for the first stage")

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """The side of a patch, times the strides up to each stage."""
        return tuple(itertools.accumulate(self.strides, operator.mul, initial=self.patch_size))[1:]

    def stage_lengths(self, side: int) -> list[int]:
        """Positions of each stage along a side of so many pixels, rounded down."""
        lengths = [side // self.patch_size]
        for stride in self.strides[1:]:
            lengths.append(lengths[-1] // stride)
        return lengths

    def working_sides(self) -> list[int]:
        """Sides of an image, in pixels, that divide into patches and whose grids divide the channels of each stage."""
        reach = self.patch_size * math.prod(self.strides)
        candidates = range(reach, self.patch_size * self.embed_dims[0] + 1, reach)
        return [
            side
            for side in candidates
            if all(dim % length == 0 for dim, length in zip(self.embed_dims, self.stage_lengths(side), strict=True))
        ]

    @property
    def sizes_that_work(self) -> str:
        """The sentence for an error message."""
        sides = ", ".join(map(str, self.working_sides()))
        return f"the grid of every stage must divide its channels, so height and width may each be {sides} pixels"


class VisionPermutator(PyramidBackbone):
    """Patches, stages of Permute-MLP blocks with convolutions between where the map shrinks, LayerNorm, mean, head."""

    family = "vip"
    config: VipConfig

    def build_stem(self, **dd: Any) -> nn.Module:
        """Patches that do not overlap."""
        config = self.config
        return ConvEmbed(config.in_chans, config.embed_dims[0], config.patch_size, config.patch_size, **dd)

    def build_downsample(self, stage: int, **dd: Any) -> nn.Module:
        """A convolution of the patches that become one position, where there are any or the channels change."""
        before, after = self.config.embed_dims[stage - 1 : stage + 1]
        stride = self.config.strides[stage]
        return nn.Identity() if stride == 1 and before == after else Downsample(before, after, stride, stride, **dd)

    def build_mixing(self, stage: int, number: int, **dd: Any) -> nn.Module:
        """A `WeightedPermuteMLP` with as many segments as the stage's grid is high and wide."""
        config = self.config
        return WeightedPermuteMLP(
            config.embed_dims[stage],
            self.stage_grids[stage],
            proj_drop=config.proj_drop_rate,
            impl=config.impl,
            **dd,
        )


IMAGENET: dict[str, Any] = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
DRIVE = (
    "It is on Google Drive, linked from the table in the README of https://github.com/houqb/VisionPermutator: fetch it "
    "with a browser and pass checkpoint_path="
)
LICENSE = "MIT (the README adds: non-commercial use)"
README = "README.md of houqb/VisionPermutator at 2cab2ce"


def _file(top1: float, crop_pct: float) -> Weights:
    return Weights(url=None, where=DRIVE, license=LICENSE, top1=top1, top1_source=README, crop_pct=crop_pct, **IMAGENET)


FORMATS = (KeyMap("the authors' .pth", stage_rules(r"mlp_[chw]"), rename=number_stages),)


FAMILY = Family(
    name="vip",
    title="Vision Permutator",
    paper="https://arxiv.org/abs/2106.12368",
    code="https://github.com/houqb/VisionPermutator/blob/2cab2ce/models/vip.py",
    license=LICENSE,
    model=VisionPermutator,
    # No file is released for vip_s14; the crop is the one its code names.
    data={**IMAGENET, "crop_pct": 0.9, "pool_size": (16, 16)},
    # The sizes are those of the authors' code. Its comment gives vip_m7 55,534,632 parameters; it has 55,272,488.
    variants={
        "vip_s14": VipConfig(depths=(4, 3, 8, 3), strides=(1, 1, 1, 1), embed_dims=(384, 384, 384, 384), patch_size=14),
        "vip_s7": VipConfig(depths=(4, 3, 8, 3), strides=(1, 2, 1, 1), embed_dims=(192, 384, 384, 384)),
        "vip_m7": VipConfig(depths=(4, 3, 14, 3), strides=(1, 1, 2, 1), embed_dims=(256, 256, 512, 512)),
        "vip_l7": VipConfig(depths=(8, 8, 16, 4), strides=(1, 2, 1, 1), embed_dims=(256, 512, 512, 512)),
    },
    weights={
        "vip_s7.in1k": _file(81.5, 0.9),
        "vip_m7.in1k": _file(82.7, 0.9),
        "vip_l7.in1k": _file(83.2, 0.875),
    },
    formats=FORMATS,
)

"""sMLPNet: sparse MLP for image recognition, is self-attention really necessary? (Tang et al., 2022).

Paper: https://arxiv.org/abs/2109.05422.
Authors' code: microsoft/SPACH, `models/smlp.py` at dcede1e (MIT).
What differs: weights along the height and along the width are resized to images of any size, each along its own axis;
the authors' networks take 224×224 alone. What mixes along the width is called `proj_w` here, `proj_h` there.

Shape suffixes: B batch, C channels, H × W positions.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn

from mlpzoo.layers import BatchNormNHWC, ConvEmbed, Downsample
from mlpzoo.layers.axis_mixing import LocalAxialBlock
from mlpzoo.layers.depthwise_mixing import DepthwiseMixing
from mlpzoo.layers.linear import rest
from mlpzoo.models._config import GridBoundConfig
from mlpzoo.models._family import Family, Weights
from mlpzoo.models._keymap import KeyMap, Rule, pointwise_kernel
from mlpzoo.models._pyramid import PyramidBackbone, PyramidConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class SMLPNetConfig(PyramidConfig, GridBoundConfig):
    """Settings of an sMLPNet."""

    mlp_ratios: tuple[float, ...] = (3, 3, 3, 3)


class SMLPNet(PyramidBackbone):
    """Patches, stages of sparse MLP blocks with 2×2 convolutions between, BatchNorm, mean, head."""

    family = "smlpnet"
    config: SMLPNetConfig
    pytorch_init = True

    def build_stem(self, **dd: Any) -> nn.Module:
        """Patches of 4 pixels, without a bias."""
        return ConvEmbed(self.config.in_chans, self.config.embed_dims[0], 4, 4, bias=False, impl=self.config.impl, **dd)

    def build_downsample(self, stage: int, **dd: Any) -> nn.Module:
        """A 2×2 convolution of stride 2, without a bias."""
        before, after = self.config.embed_dims[stage - 1 : stage + 1]
        return Downsample(before, after, 2, 2, bias=False, impl=self.config.impl, **dd)

    def build_block(self, stage: int, number: int, *, drop_path: float, **dd: Any) -> nn.Module:
        """A depthwise convolution and mixing along the axes, then an MLP."""
        config = self.config
        dim = config.embed_dims[stage]
        return LocalAxialBlock(
            dim,
            DepthwiseMixing(dim, config.act_layer, config.norm_eps, **dd),
            self.stage_grids[stage],
            int(dim * config.mlp_ratios[stage]),
            act_layer=config.act_layer,
            norm_eps=config.norm_eps,
            drop=config.proj_drop_rate,
            drop_path=drop_path,
            impl=rest(config.impl),
            **dd,
        )

    def build_norm(self, dim: int, **dd: Any) -> nn.Module:
        """A BatchNorm."""
        return BatchNormNHWC(dim, self.config.norm_eps, **dd)


def number_stages(shapes: Mapping[str, Sequence[int]]) -> list[str]:
    """The authors number blocks through all stages; a stage ends where the channels change.

    `token_mix.3.` becomes `token_mix.1.1.`, say. Names stay as they are where shapes are not known.
    """
    width: dict[int, int] = {}
    for name, shape in shapes.items():
        match = re.match(r"token_mix\.(\d{1,4})\.1\.fuse\.weight$", name)
        if match and len(shape) == 4:
            width[int(match[1])] = shape[0]
    places: dict[str, str] = {}
    stage = first = 0
    for number in sorted(width):
        if number and width[number] != width.get(number - 1):
            stage, first = stage + 1, number
        places[str(number)] = f"{stage}.{number - first}"

    def renamed(match: re.Match[str]) -> str:
        return f"{match[1]}_mix.{places[match[2]]}." if match[2] in places else match[0]

    return [re.sub(r"^(token|channel)_mix\.(\d+)\.", renamed, name) for name in shapes]


BATCH_NORM = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
BLOCK = r"token_mix\.(\d+)\.(\d+)\."
OURS = r"stages.\1.blocks.\2."
FORMAT = KeyMap(
    "the authors' .pth",
    (
        Rule(r"to_patch_embedding\.0\.0\.weight", "stem.proj.weight"),
        Rule(r"to_patch_embedding\.(\d+)\.0\.weight", r"stages.\1.downsample.proj.weight"),
        Rule(rf"{BLOCK}0\.conv_merge\.BN\.{BATCH_NORM}", rf"{OURS}local.norm.\3"),
        Rule(rf"{BLOCK}0\.conv_merge\.Conv\.weight", rf"{OURS}local.conv.weight"),
        Rule(rf"{BLOCK}1\.BN\.{BATCH_NORM}", rf"{OURS}axial.norm.\3"),
        Rule(rf"{BLOCK}1\.proj_h\.weight", rf"{OURS}axial.proj_w.weight", pointwise_kernel),
        Rule(rf"{BLOCK}1\.proj_h\.bias", rf"{OURS}axial.proj_w.bias"),
        Rule(rf"{BLOCK}1\.proh_w\.weight", rf"{OURS}axial.proj_h.weight", pointwise_kernel),
        Rule(rf"{BLOCK}1\.proh_w\.bias", rf"{OURS}axial.proj_h.bias"),
        Rule(rf"{BLOCK}1\.fuse\.weight", rf"{OURS}axial.fuse.weight"),
        Rule(r"channel_mix\.(\d+)\.(\d+)\.1\.(weight|bias)", rf"{OURS}norm.\3"),
        Rule(r"channel_mix\.(\d+)\.(\d+)\.2\.net\.0\.(weight|bias)", rf"{OURS}mlp.fc1.\3"),
        Rule(r"channel_mix\.(\d+)\.(\d+)\.2\.net\.3\.(weight|bias)", rf"{OURS}mlp.fc2.\3"),
        Rule(rf"batch_norm\.{BATCH_NORM}", r"norm.bn.\1"),
        Rule(r"mlp_head\.0\.(weight|bias)", r"head.\1"),
    ),
    rename_by_shapes=number_stages,
)
IMAGENET: dict[str, Any] = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD, "crop_pct": 0.875}


def _config(dim: int, depths: tuple[int, ...], drop_path_rate: float = 0.0) -> SMLPNetConfig:
    dims = (dim, 2 * dim, 4 * dim, 8 * dim)
    return SMLPNetConfig(embed_dims=dims, depths=depths, drop_path_rate=drop_path_rate)


def _file(name: str, top1: float) -> Weights:
    return Weights(
        url=f"https://github.com/microsoft/SPACH/releases/download/v1.0/{name}.pth",
        license="MIT",
        top1=top1,
        top1_source="README.md of microsoft/SPACH at dcede1e",
        **IMAGENET,
    )


FAMILY = Family(
    name="smlpnet",
    title="sMLPNet",
    paper="https://arxiv.org/abs/2109.05422",
    code="https://github.com/microsoft/SPACH/blob/dcede1e/models/smlp.py",
    license="MIT",
    model=SMLPNet,
    data={**IMAGENET, "pool_size": (7, 7)},
    variants={
        "smlpnet_tiny": _config(80, (2, 8, 14, 2)),
        "smlpnet_small": _config(96, (2, 10, 24, 2), 0.2),
        "smlpnet_base": _config(112, (2, 10, 24, 2), 0.3),
    },
    weights={"smlpnet_small.in1k": _file("smlp_s", 83.1), "smlpnet_base.in1k": _file("smlp_b", 83.4)},
    formats=(FORMAT,),
)

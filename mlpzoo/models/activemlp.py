"""ActiveMLP: an MLP-like architecture with active token mixer (Wei et al., 2023, https://arxiv.org/abs/2203.06108).

Authors' code: microsoft/ActiveMLP, `models/activemlp.py` at fb44035 (MIT).
What differs: image channels and patches are free. The paper's later title is "Active token mixer".
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from mlpzoo.layers import ConvEmbed, Downsample, ResidualBlock, SplitReweight
from mlpzoo.layers.linear import apply_linear, rest
from mlpzoo.layers.split_reweight import reweighted_and_projected
from mlpzoo.models._family import Family, Weights
from mlpzoo.models._keymap import KeyMap, Rule, pointwise_kernel
from mlpzoo.models._pyramid import PyramidBackbone, PyramidConfig, Stage
from mlpzoo.models._recompute import recomputed
from mlpzoo.ops.offset_linear import offset_linear


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActiveMlpConfig(PyramidConfig):
    """Settings of an ActiveMLP.

    Attributes:
        patch_size: side of the stem's patches in pixels, which overlap where it exceeds `patch_stride`.
        patch_stride: pixels from one patch to the next.
        share_dims: consecutive channels that share an offset, for each stage.
        offset_interval: after so many blocks of a stage, new offsets are made.
    """

    mlp_ratios: tuple[float, ...] = (4, 4, 4, 4)
    patch_size: int = 7
    patch_stride: int = 4
    share_dims: tuple[int, ...] = (2, 4, 4, 8)
    offset_interval: int = 2

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        self._require("patch_stride", self.patch_stride >= 1, "1 or more")
        self._require("patch_size", self.patch_size >= self.patch_stride, f"patch_stride {self.patch_stride} or more")
        self._require_for_each_stage("share_dims")
        shared = all(dim % share == 0 for dim, share in zip(self.embed_dims, self.share_dims, strict=True))
        self._require("share_dims", shared, f"divisors of embed_dims {self.embed_dims}")
        self._require("offset_interval", self.offset_interval >= 1, "1 or more")
        # The last block of a stage makes none.
        self._require(
            "depths", min(self.depths) >= 2, "2 or more for each stage, for the first block makes the offsets"
        )

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """The stem's stride, and twice as much for each stage that follows."""
        return tuple(self.patch_stride * 2**stage for stage in range(len(self.depths)))

    def makes_offsets(self, stage: int, number: int) -> bool:
        """Whether a block makes new offsets; `number` counts from 0 over all stages."""
        block = number - sum(self.depths[:stage])
        return block % self.offset_interval == 0 and block != self.depths[stage] - 1


class OffsetLinear(nn.Module):
    """`mlpzoo.ops.offset_linear` with its weight and bias.

    Source: `atm_h` and `atm_w` of the authors.

    Args:
        dim: channels.
        axis: 1 to read along the height, 2 along the width.
        impl: which implementation runs.
        dd: `device` and `dtype` of the parameters.

    Shape:
        `(batch, height, width, dim)` and offsets `(batch, height, width, groups)` to `(batch, height, width, dim)`.
    """

    def __init__(self, dim: int, axis: int, impl: str, **dd: Any) -> None:
        super().__init__()
        self.axis, self.impl = axis, impl
        self.weight = nn.Parameter(torch.empty(dim, dim, **dd))
        self.bias = nn.Parameter(torch.empty(dim, **dd))

    def forward(self, x_BHWC: Tensor, offsets_BHWG: Tensor) -> Tensor:
        """A map and offsets to a map."""
        return offset_linear(x_BHWC, offsets_BHWG, self.weight, self.bias, self.axis, self.impl)


class ActiveMixing(nn.Module):
    """What is read along the width, along the height, and at the position itself, weighed, added and projected.

    Source: `ATMLayer` of the authors.

    Args:
        dim: channels.
        drop: dropout rate after the projection.
        impl: which implementation of the ops runs.
        dd: `device` and `dtype` of the parameters.

    Shape:
        `(batch, height, width, dim)` and offsets `(batch, height, width, 2 × groups)`, those along the width first, to
        `(batch, height, width, dim)`.
    """

    def __init__(self, dim: int, *, drop: float, impl: str, **dd: Any) -> None:
        super().__init__()
        self.impl = impl
        self.atm_w = OffsetLinear(dim, 2, impl, **dd)
        self.atm_h = OffsetLinear(dim, 1, impl, **dd)
        self.atm_c = nn.Linear(dim, dim, bias=False, **dd)
        self.reweight = SplitReweight(dim, impl=impl, **dd)
        self.proj = nn.Linear(dim, dim, **dd)
        self.proj_drop = nn.Dropout(drop)

    def forward(self, x_BHWC: Tensor, offsets_BHWG: Tensor) -> Tensor:
        """A map and offsets to a map."""
        across_BHWG, down_BHWG = offsets_BHWG.chunk(2, dim=3)
        w_BHWC, h_BHWC = self.atm_w(x_BHWC, across_BHWG), self.atm_h(x_BHWC, down_BHWG)
        c_BHWC = apply_linear(self.atm_c, x_BHWC, impl=self.impl)
        x_BHWC = reweighted_and_projected(self.reweight, self.proj, w_BHWC, h_BHWC, c_BHWC, impl=self.impl)
        return self.proj_drop(x_BHWC)


class ActiveBlock(ResidualBlock):
    """`ActiveMixing` and an MLP over the channels, each after a norm and with a skip.

    `offset_layer` makes the offsets for this block and those after it; an identity where they are those of a block
    before.

    Shape:
        `(batch, height, width, dim)` and offsets to `(batch, height, width, dim)`.
    """

    offset_layer: nn.Module

    def forward(self, x_BHWC: Tensor, offsets_BHWG: Tensor) -> Tensor:  # type: ignore[override]
        """A map and offsets to a map."""
        x_BHWC = x_BHWC + self.drop_path(self.attn(self.norm1(x_BHWC), offsets_BHWG))
        return x_BHWC + self.drop_path(self.mlp(self.norm2(x_BHWC)))


class ConditionalPosition(nn.Module):
    """A 3×3 depthwise convolution with a skip (conditional position encoding, arXiv:2102.10882).

    Source: `PEG` of the authors.

    Shape:
        `(batch, height, width, dim)` to the same.
    """

    def __init__(self, dim: int, **dd: Any) -> None:
        super().__init__()
        self.proj = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, **dd)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        return x_BHWC + self.proj(x_BHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class ActiveStage(Stage):
    """Downsample (identity in the first stage), then blocks, some of which make offsets for those that follow.

    A position encoding that all share runs in front of each block that makes offsets.
    """

    def __init__(self, downsample: nn.Module, position: nn.Module, blocks: nn.Sequential) -> None:
        super().__init__(downsample, blocks)
        self.position = position

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """The map of the stage before to this one's."""
        x_BHWC = offsets_BHWG = self.downsample(x_BHWC)
        blocks: Any = self.blocks
        for block in blocks:
            if not isinstance(block.offset_layer, nn.Identity):
                x_BHWC = self.position(x_BHWC)
                offsets_BHWG = block.offset_layer(x_BHWC)
            inputs = (x_BHWC, offsets_BHWG)
            x_BHWC = recomputed(block, *inputs) if self.grad_checkpointing else block(*inputs)
        return x_BHWC


class ActiveMlp(PyramidBackbone):
    """Overlapping patches, stages of active blocks with convolutions of stride 2 between, LayerNorm, mean, head."""

    family = "activemlp"
    config: ActiveMlpConfig

    def build_stem(self, **dd: Any) -> nn.Module:
        """The overlapping patches."""
        config = self.config
        dim, size, stride = config.embed_dims[0], config.patch_size, config.patch_stride
        padding = (size - stride + 1) // 2
        return ConvEmbed(config.in_chans, dim, size, stride, padding, impl=rest(config.impl), **dd)

    def build_downsample(self, stage: int, **dd: Any) -> nn.Module:
        """A 3×3 convolution of stride 2."""
        before, after = self.config.embed_dims[stage - 1 : stage + 1]
        return Downsample(before, after, 3, 2, 1, impl=rest(self.config.impl), **dd)

    def build_block(self, stage: int, number: int, *, drop_path: float, **dd: Any) -> nn.Module:
        """An `ActiveBlock`."""
        config = self.config
        dim, impl = config.embed_dims[stage], rest(config.impl)
        block = ActiveBlock(
            dim,
            ActiveMixing(dim, drop=config.proj_drop_rate, impl=impl, **dd),
            int(dim * config.mlp_ratios[stage]),
            act_layer=config.act_layer,
            norm_eps=config.norm_eps,
            drop=config.proj_drop_rate,
            drop_path=drop_path,
            recompute=self.recompute_mlp,
            impl=impl,
            **dd,
        )
        block.offset_layer = nn.Identity()
        if config.makes_offsets(stage, number):
            groups = 2 * (dim // config.share_dims[stage])
            norm = nn.LayerNorm(dim, eps=config.norm_eps, **dd)
            block.offset_layer = nn.Sequential(norm, nn.Linear(dim, groups, **dd))
        return block

    def build_stage(self, stage: int, downsample: nn.Module, blocks: nn.Sequential) -> Stage:
        """An `ActiveStage`."""
        weight = self.stem.get_parameter("proj.weight")
        position = ConditionalPosition(self.config.embed_dims[stage], device=weight.device, dtype=weight.dtype)
        return ActiveStage(downsample, position, blocks)

    def reset_parameters(self) -> None:
        """Draw linear layers of every kind as the base does, and convolutions by their fan-out, as the authors do."""
        super().reset_parameters()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.weight[0, 0].numel() * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)
                assert module.bias is not None
                nn.init.zeros_(module.bias)


IMAGENET: dict[str, Any] = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
README = "README.md of microsoft/ActiveMLP at fb44035, measured with the averaged weights (model_ema in the file)"


def _file(drive: str, top1: float) -> Weights:
    where = (
        f"It is on Google Drive, https://drive.google.com/file/d/{drive}: fetch it with a browser and pass "
        "checkpoint_path="
    )
    return Weights(where=where, license="MIT", top1=top1, top1_source=README, crop_pct=0.875, **IMAGENET)


def downsample_apart(names: Sequence[str]) -> list[str]:
    """Count what leads into a stage to that stage; the authors have it in the last block of the one before.

    `blocks.0.1.downsample.` becomes `downsample.1.`
    """

    def counted(match: re.Match[str]) -> str:
        return f"downsample.{int(match[1]) + 1}."

    return [re.sub(r"^blocks\.(\d{1,4})\.\d+\.downsample\.", counted, name) for name in names]


BLOCK = r"blocks\.(\d+)\.(\d+)\."
OURS = r"stages.\1.blocks.\2."

FORMATS = (
    KeyMap(
        "the authors' .pth",
        (
            Rule(r"patch_embed\.proj\.(weight|bias)", r"stem.proj.\1"),
            Rule(r"downsample\.(\d+)\.proj\.(weight|bias)", r"stages.\1.downsample.proj.\2"),
            Rule(r"pos_blocks\.(\d+)\.proj\.(weight|bias)", r"stages.\1.position.proj.\2"),
            Rule(rf"{BLOCK}(norm[12]|mlp\.fc[12]|offset_layer\.[01])\.(weight|bias)", rf"{OURS}\3.\4"),
            Rule(rf"{BLOCK}atm\.fusion\.(fc[12])\.(weight|bias)", rf"{OURS}attn.reweight.\3.\4"),
            Rule(rf"{BLOCK}atm\.(atm_[hwc]|proj)\.(weight|bias)", rf"{OURS}attn.\3.\4", pointwise_kernel),
            Rule(r"norm_(\d+)\.(weight|bias)", r"feature_norms.\1.\2"),
            Rule(r"(norm|head)\.(weight|bias)", r"\1.\2"),
        ),
        rename=downsample_apart,
    ),
)

DIMS = (64, 128, 320, 512)


FAMILY = Family(
    name="activemlp",
    title="ActiveMLP",
    paper="https://arxiv.org/abs/2203.06108",
    code="https://github.com/microsoft/ActiveMLP/blob/fb44035/models/activemlp.py",
    license="MIT",
    model=ActiveMlp,
    data={**IMAGENET, "pool_size": (7, 7)},
    # The sizes are those of the authors' code, whose default drop path rate is 0.1; none is stated for a variant.
    variants={
        "activemlp_xtiny": ActiveMlpConfig(depths=(2, 2, 4, 2), embed_dims=DIMS),
        "activemlp_tiny": ActiveMlpConfig(depths=(2, 3, 10, 3), embed_dims=DIMS),
        "activemlp_small": ActiveMlpConfig(
            depths=(3, 4, 18, 3), embed_dims=DIMS, mlp_ratios=(8, 8, 4, 4), offset_interval=6
        ),
        "activemlp_base": ActiveMlpConfig(
            depths=(3, 8, 27, 3), embed_dims=DIMS, mlp_ratios=(8, 8, 4, 4), offset_interval=6
        ),
        "activemlp_large": ActiveMlpConfig(depths=(3, 4, 24, 3), embed_dims=(96, 192, 384, 768), offset_interval=6),
    },
    # No file is released for the small and the base one.
    weights={
        "activemlp_xtiny.in1k": _file("1JjWFDJM097a2sX9zw2oOisCT-7T43-DV", 79.7),
        "activemlp_tiny.in1k": _file("1eFv5SsGr6ZpupY0wB-N2mjVhQLSo92o-", 82.0),
        "activemlp_large.in1k": _file("1aIEnq_5-oS8jiLr2W8ryLabmzHTmR3J0", 83.8),
    },
    formats=FORMATS,
)

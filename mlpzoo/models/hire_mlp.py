"""Hire-MLP: vision MLP via hierarchical rearrangement (Guo et al., 2022, https://arxiv.org/abs/2108.13341).

Authors' code: ggjy/Hire-Wave-MLP.pytorch, `mlp_based/hire_mlp.py` at 7ef7ddd, and for dense prediction
`mmseg-v0.11/mmseg/models/backbones/hire_mlp.py` (no licence file; its README shows an MIT badge).
What differs: image channels and patches are free; a region's weights are ordered by position first, by channel second,
which the key map sees to; a side too short for what is missing to a whole region is wrapped around more than once,
where the authors' code fails. Of the authors' ways to pad, only the circular one is here, that of all their networks.
"""

import dataclasses
import functools
from typing import Any, ClassVar

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from mlpzoo.layers import BatchNormNHWC, ConvEmbed, ResidualBlock, SplitReweight, pointwise
from mlpzoo.layers.folding import (
    has_hooks,
    is_fixed,
    may_merge,
    rounded,
    scale_and_shift,
    with_map_before,
    with_norm_after,
)
from mlpzoo.layers.linear import apply_linear, apply_linear_to, rest
from mlpzoo.layers.pointwise import pointwise_conv
from mlpzoo.layers.split_reweight import reweighted_and_projected
from mlpzoo.models._family import Family, Weights
from mlpzoo.models._keymap import KeyMap, Rule, pointwise_kernel
from mlpzoo.models._pyramid import PyramidBackbone, PyramidConfig
from mlpzoo.models._pyramid_files import number_stages
from mlpzoo.ops import channels_last, gather_regions, linear, scatter_regions


@dataclasses.dataclass(frozen=True, kw_only=True)
class HireMlpConfig(PyramidConfig):
    """Settings of a Hire-MLP.

    Attributes:
        patch_size: side of the stem's patches in pixels, which overlap where it exceeds `patch_stride`.
        patch_stride: pixels from one patch to the next.
        region_sizes: positions of a region, for each stage (`pixel` in the authors' code).
        step_strides: after so many blocks of a stage the steps repeat, for each stage.
        step_dilations: positions of a step; block j of a stage rolls the map by (j mod stride) · dilation.
    """

    mlp_ratios: tuple[float, ...] = (4, 4, 4, 4)
    patch_size: int = 7
    patch_stride: int = 4
    region_sizes: tuple[int, ...] = (4, 3, 3, 2)
    step_strides: tuple[int, ...] = (2, 2, 3, 2)
    step_dilations: tuple[int, ...] = (2, 2, 1, 1)

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        self._require("patch_stride", self.patch_stride >= 1, "1 or more")
        self._require("patch_size", self.patch_size >= self.patch_stride, f"patch_stride {self.patch_stride} or more")
        for name in ("region_sizes", "step_strides", "step_dilations"):
            self._require_for_each_stage(name)
        self._require("embed_dims", all(dim % 2 == 0 for dim in self.embed_dims), "even numbers")

    def step(self, stage: int, number: int) -> int:
        """Positions by which a block rolls the map; `number` counts from 0 over all stages."""
        block = number - sum(self.depths[:stage])
        return block % self.step_strides[stage] * self.step_dilations[stage]

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """The stem's stride, and twice as much for each stage that follows."""
        return tuple(self.patch_stride * 2**stage for stage in range(len(self.depths)))


class HireStem(ConvEmbed):
    """A convolution whose patches overlap, BatchNorm, ReLU.

    Shape:
        `(batch, in_chans, height, width)` to `(batch, height', width', out_chans)`.
    """

    norm_after: ClassVar = {"proj": "norm"}

    def __init__(
        self, in_chans: int, out_chans: int, kernel_size: int, stride: int, norm_eps: float, impl: str, **dd: Any
    ) -> None:
        # 2 for 7 pixels at a stride of 4, 1 for 3 positions at a stride of 2.
        padding = (kernel_size - stride + 1) // 2
        super().__init__(in_chans, out_chans, kernel_size, stride, padding, impl=impl, **dd)
        self.norm = nn.BatchNorm2d(out_chans, eps=norm_eps, **dd)
        self.act = nn.ReLU()

    def embed(self, x_BCHW: Tensor) -> Tensor:
        """What `forward` does, for an image or a map that has its channels second."""
        if self.impl != "reference":
            x_BCHW = channels_last(x_BCHW)
        return self.act(self.norm(self.proj(x_BCHW))).permute(0, 2, 3, 1)


class HireDownsample(HireStem):
    """The same from the map of one stage to that of the next.

    Shape:
        `(batch, height, width, in_chans)` to `(batch, ⌈height / 2⌉, ⌈width / 2⌉, out_chans)`.
    """

    norm_after: ClassVar = {"proj": "norm"}

    def __init__(self, in_chans: int, out_chans: int, norm_eps: float, impl: str, **dd: Any) -> None:
        super().__init__(in_chans, out_chans, 3, 2, norm_eps, impl, **dd)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, in_chans)` to the smaller map."""
        return self.embed(x_BHWC.permute(0, 3, 1, 2))


class RegionLinear(nn.Module):
    """A linear layer to the channels of a region.

    Its weight is ordered by position first, and its bias by channel first, as in the authors' files: a bias does not
    say how many positions a region has. So it is no `nn.Linear`, whose parameters tools would take as they are.

    Shape:
        `(..., in_features)` to `(..., size × dim)`.
    """

    def __init__(self, in_features: int, dim: int, size: int, *, impl: str, **dd: Any) -> None:
        super().__init__()
        self.in_features, self.out_features, self.size, self.impl = in_features, size * dim, size, impl
        self.weight = nn.Parameter(torch.empty(size * dim, in_features, **dd))
        self.bias = nn.Parameter(torch.empty(size * dim, **dd))

    @property
    def ordered_bias(self) -> Tensor:
        """The bias by position first."""
        return self.bias.unflatten(0, (-1, self.size)).t().flatten()

    def forward(self, x: Tensor) -> Tensor:
        """`(..., in_features)` to `(..., size × dim)`."""
        if self.impl == "reference":
            return pointwise_conv(x, self.weight, self.ordered_bias)
        return linear(x, self.weight, self.ordered_bias, impl=self.impl)


class RegionMlp(nn.Module):
    """Positions of a region and their channels, mixed by a perceptron with half as many hidden units as channels.

    Source: `mlp_h1`, `mlp_h1_norm`, `mlp_h2` of the authors' `HireMLP`, and the rearrangements around them.

    Args:
        dim: channels, even.
        size: positions of a region.
        step: positions by which the map is rolled before, and back after.
        axis: 1 for regions along the height, 2 along the width.
        norm_eps: epsilon of the norm.
        impl: which implementation of `mlpzoo.ops.gather_regions` runs; if `"reference"`, of every op inside.
        dd: `device` and `dtype` of the parameters.

    Shape:
        `(batch, height, width, dim)` to the same.
    """

    def __init__(self, dim: int, size: int, step: int, axis: int, norm_eps: float, impl: str, **dd: Any) -> None:
        super().__init__()
        self.size, self.step, self.axis, self.impl = size, step, axis, impl
        self.fc1 = pointwise(impl)(size * dim, dim // 2, bias=False, **dd)
        self.norm = nn.BatchNorm2d(dim // 2, eps=norm_eps, **dd)
        self.act = nn.ReLU()
        self.fc2: nn.Module = RegionLinear(dim // 2, dim, size, impl=impl, **dd)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        gather = functools.partial(gather_regions, size=self.size, step=self.step, axis=self.axis, impl=self.impl)
        # The rearranged map is not kept for the backward pass: the map itself is, for all three branches.
        y_BPQE = apply_linear_to(self.fc1, gather, x_BHWC, impl=self.impl)
        y_BPQE = self.act(self.norm(y_BPQE.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
        return scatter_regions(self.fc2(y_BPQE), self.size, self.step, self.axis, x_BHWC.shape[self.axis], self.impl)

    def folded(self) -> nn.Module:
        """Itself, with the norm in the layer before it, and all of the second layer ordered by position first."""
        if may_merge(self.fc1) and is_fixed(self.norm):
            self.fc1 = with_norm_after(self.fc1, self.norm)
            self.register_module("norm", nn.Identity())
        if isinstance(self.fc2, RegionLinear) and self.impl != "reference" and not has_hooks(self.fc2):
            plain = nn.Linear(self.fc2.in_features, self.fc2.out_features, device="meta")
            plain.weight, plain.bias = self.fc2.weight, rounded(self.fc2.ordered_bias, self.fc2.bias)
            self.fc2 = plain
        return self


class HireMixing(nn.Module):
    """Perceptrons over regions along the height and along the width and a linear layer, weighed, added and projected.

    Source: `HireMLP` of the authors.

    Args:
        dim: channels, even.
        size: positions of a region.
        step: positions by which the map is rolled.
        drop: dropout rate after the projection.
        norm_eps: epsilon of the norms.
        impl: which implementation of the ops runs.
        dd: `device` and `dtype` of the parameters.

    Shape:
        `(batch, height, width, dim)` to the same.
    """

    def __init__(self, dim: int, size: int, step: int, *, drop: float, norm_eps: float, impl: str, **dd: Any) -> None:
        super().__init__()
        self.impl = impl
        self.mlp_h = RegionMlp(dim, size, step, 1, norm_eps, impl, **dd)
        self.mlp_w = RegionMlp(dim, size, step, 2, norm_eps, impl, **dd)
        self.mlp_c = pointwise(impl)(dim, dim, **dd)
        self.reweight = SplitReweight(dim, impl=impl, **dd)
        self.proj = pointwise(impl)(dim, dim, **dd)
        self.proj_drop = nn.Dropout(drop)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        h_BHWC, w_BHWC = self.mlp_h(x_BHWC), self.mlp_w(x_BHWC)
        c_BHWC = apply_linear(self.mlp_c, x_BHWC, impl=self.impl)
        x_BHWC = reweighted_and_projected(self.reweight, self.proj, h_BHWC, w_BHWC, c_BHWC, impl=self.impl)
        return self.proj_drop(x_BHWC)


class HireBlock(ResidualBlock):
    """`HireMixing` and an MLP over the channels, each after a BatchNorm and with a skip."""

    def folded(self) -> nn.Module:
        """Itself, with each norm in the linear layers that read it.

        Rolling, wrapping around and regrouping only move what the first norm gives, so its map commutes with them.
        """
        mixing, mlp, norm1, norm2 = self.attn, self.mlp, self.norm1, self.norm2
        assert isinstance(mixing, HireMixing)
        readers = (mixing.mlp_h.fc1, mixing.mlp_w.fc1, mixing.mlp_c)
        observed = has_hooks(mixing, mixing.mlp_h, mixing.mlp_w, norm1)
        if not observed and may_merge(*readers) and isinstance(norm1, BatchNormNHWC) and is_fixed(norm1.bn):
            scale_C, shift_C = scale_and_shift(norm1.bn)
            for branch in (mixing.mlp_h, mixing.mlp_w):
                branch.fc1 = with_map_before(branch.fc1, scale_C.repeat(branch.size), shift_C.repeat(branch.size))
            mixing.mlp_c = with_map_before(mixing.mlp_c, scale_C, shift_C)
            self.register_module("norm1", nn.Identity())
        observed = has_hooks(mlp, norm2)
        if not observed and may_merge(mlp.fc1) and isinstance(norm2, BatchNormNHWC) and is_fixed(norm2.bn):
            mlp.fc1 = with_map_before(mlp.fc1, *scale_and_shift(norm2.bn))
            self.register_module("norm2", nn.Identity())
        return self


class HireMlp(PyramidBackbone):
    """Overlapping patches, stages of Hire blocks with convolutions of stride 2 between, BatchNorm, mean, head."""

    family = "hire_mlp"
    config: HireMlpConfig
    draw_convolutions = True

    def build_stem(self, **dd: Any) -> nn.Module:
        """The overlapping patches."""
        config = self.config
        dim, impl = config.embed_dims[0], rest(config.impl)
        return HireStem(config.in_chans, dim, config.patch_size, config.patch_stride, config.norm_eps, impl, **dd)

    def build_downsample(self, stage: int, **dd: Any) -> nn.Module:
        """A 3×3 convolution of stride 2."""
        before, after = self.config.embed_dims[stage - 1 : stage + 1]
        return HireDownsample(before, after, self.config.norm_eps, rest(self.config.impl), **dd)

    def build_norm(self, dim: int, **dd: Any) -> nn.Module:
        """A BatchNorm."""
        return BatchNormNHWC(dim, self.config.norm_eps, **dd)

    def build_block(self, stage: int, number: int, *, drop_path: float, **dd: Any) -> nn.Module:
        """A `HireBlock`."""
        config = self.config
        dim, impl = config.embed_dims[stage], rest(config.impl)
        mixing = HireMixing(
            dim,
            config.region_sizes[stage],
            config.step(stage, number),
            drop=config.proj_drop_rate,
            norm_eps=config.norm_eps,
            impl=impl,
            **dd,
        )
        return HireBlock(
            dim,
            mixing,
            int(dim * config.mlp_ratios[stage]),
            act_layer=config.act_layer,
            norm_layer=BatchNormNHWC,
            norm_eps=config.norm_eps,
            drop=config.proj_drop_rate,
            drop_path=drop_path,
            recompute=self.recompute_mlp,
            linear_layer=pointwise(impl),
            impl=impl,
            **dd,
        )


def region_kernel(value: Tensor) -> Tensor:
    """From the authors' order of a region's numbers, by channel first, to ours, by position first.

    Of the two sides of a 1×1 kernel, the region is the longer, and the other is half as long as there are channels.
    """
    w = value.flatten(1)
    if w.shape[0] < w.shape[1]:
        return w.unflatten(1, (2 * w.shape[0], -1)).transpose(1, 2).flatten(1)
    return w.unflatten(0, (2 * w.shape[1], -1)).transpose(0, 1).flatten(0, 1)


RELEASES = "https://github.com/ggjy/Hire-Wave-MLP.pytorch/releases/download/log"
IMAGENET: dict[str, Any] = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD, "crop_pct": 0.875}
LICENSE = "none stated (the README shows an MIT badge, and there is no licence file)"
README = "README.md of ggjy/Hire-Wave-MLP.pytorch, whose evaluation crops 0.875 where its default_cfg says 0.9"


def _file(name: str, top1: float) -> Weights:
    return Weights(url=f"{RELEASES}/{name}.pth", license=LICENSE, top1=top1, top1_source=README, **IMAGENET)


BN = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
PLACE = r"network\.(\d+)\."
STAGE = r"stages.\1."
BLOCK = rf"{PLACE}(\d+)\."
OURS = r"stages.\1.blocks.\2."

FORMATS = (
    KeyMap(
        "the authors' .pth",
        (
            Rule(r"patch_embed\.proj\.(weight|bias)", r"stem.proj.\1"),
            Rule(rf"patch_embed\.norm\.{BN}", r"stem.norm.\1"),
            Rule(rf"{PLACE}proj\.(weight|bias)", rf"{STAGE}downsample.proj.\2"),
            Rule(rf"{PLACE}norm\.{BN}", rf"{STAGE}downsample.norm.\2"),
            Rule(rf"{BLOCK}(norm[12])\.{BN}", rf"{OURS}\3.bn.\4"),
            Rule(rf"{BLOCK}attn\.mlp_([hw])1\.weight", rf"{OURS}attn.mlp_\3.fc1.weight", region_kernel),
            Rule(rf"{BLOCK}attn\.mlp_([hw])1_norm\.{BN}", rf"{OURS}attn.mlp_\3.norm.\4"),
            Rule(rf"{BLOCK}attn\.mlp_([hw])2\.weight", rf"{OURS}attn.mlp_\3.fc2.weight", region_kernel),
            Rule(rf"{BLOCK}attn\.mlp_([hw])2\.bias", rf"{OURS}attn.mlp_\3.fc2.bias"),
            Rule(
                rf"{BLOCK}(attn\.mlp_c|attn\.reweight\.fc[12]|attn\.proj|mlp\.fc[12])\.(weight|bias)",
                rf"{OURS}\3.\4",
                pointwise_kernel,
            ),
            Rule(rf"feature_norms\.(\d+)\.{BN}", r"feature_norms.\1.bn.\2"),
            Rule(rf"norm\.{BN}", r"norm.bn.\1"),
            Rule(r"head\.(weight|bias)", r"head.\1"),
        ),
        rename=number_stages,
    ),
)


def _config(depths: tuple[int, ...], *dims: int) -> HireMlpConfig:
    return HireMlpConfig(depths=depths, embed_dims=dims)


FAMILY = Family(
    name="hire_mlp",
    title="Hire-MLP",
    paper="https://arxiv.org/abs/2108.13341",
    code="https://github.com/ggjy/Hire-Wave-MLP.pytorch/blob/7ef7ddd/mlp_based/hire_mlp.py",
    license=LICENSE,
    model=HireMlp,
    data={**IMAGENET, "pool_size": (7, 7)},
    # The sizes are those of the authors' code. Drop path rates: none for tiny, 0.2 for base; those of small and large
    # are not stated.
    variants={
        "hire_mlp_tiny": _config((2, 2, 4, 2), 64, 128, 320, 512),
        "hire_mlp_small": _config((3, 4, 10, 3), 64, 128, 320, 512),
        "hire_mlp_base": _config((4, 6, 24, 3), 64, 128, 320, 512),
        "hire_mlp_large": _config((4, 6, 24, 3), 96, 192, 384, 768),
    },
    # No file is released for the large one.
    weights={
        "hire_mlp_tiny.in1k": _file("hire_mlp_tiny", 79.7),
        "hire_mlp_small.in1k": _file("hire_mlp_small", 82.1),
        "hire_mlp_base.in1k": _file("hire_mlp_base", 83.2),
    },
    formats=FORMATS,
)

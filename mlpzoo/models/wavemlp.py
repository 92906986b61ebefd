"""Wave-MLP: an image patch is a wave, phase-aware vision MLP (Tang et al., 2022, https://arxiv.org/abs/2111.12294).

Authors' code: huawei-noah/Efficient-AI-Backbones, `wavemlp_pytorch/models/wavemlp.py` at f90e129 (Apache-2.0).
What differs: image channels and patches are free. What the authors pass as layers, modes and norms is named.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from mlpzoo.layers import BatchNormNHWC, ConvEmbed, Downsample, GroupNorm1, ResidualBlock, SplitReweight, pointwise
from mlpzoo.layers.folding import has_hooks, is_fixed, may_merge, scale_and_shift, with_map_before
from mlpzoo.layers.linear import apply_linear, rest
from mlpzoo.layers.split_reweight import reweighted_and_projected
from mlpzoo.models._family import Family, Weights
from mlpzoo.models._keymap import KeyMap, Rule, pointwise_kernel
from mlpzoo.models._pyramid import PyramidBackbone, PyramidConfig
from mlpzoo.models._pyramid_files import number_stages
from mlpzoo.ops.phase_mix import phase_mix

PHASES = ("linear", "depthwise")
NORMS = ("batch", "group")


@dataclasses.dataclass(frozen=True, kw_only=True)
class WaveMlpConfig(PyramidConfig):
    """Settings of a Wave-MLP.

    Attributes:
        patch_size: side of the stem's patches in pixels, which overlap where it exceeds `patch_stride`.
        patch_stride: pixels from one patch to the next.
        window_size: positions along an axis that each output of the mixing sees, odd.
        phase: how phases are estimated: `"linear"` from each position's channels (`fc` in the authors' code) or
            `"depthwise"` from each channel's 3×3 neighbourhood.
        norm: `"batch"` for BatchNorm or `"group"` for GroupNorm of one group; phases have BatchNorm always.
        embed_norm: whether a norm follows the stem and what leads into each stage.
    """

    mlp_ratios: tuple[float, ...] = (4, 4, 4, 4)
    patch_size: int = 7
    patch_stride: int = 4
    window_size: int = 7
    phase: str = "linear"
    norm: str = "batch"
    embed_norm: bool = True

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        self._require("patch_stride", self.patch_stride >= 1, "1 or more")
        self._require("patch_size", self.patch_size >= self.patch_stride, f"patch_stride {self.patch_stride} or more")
        self._require("window_size", self.window_size >= 1 and self.window_size % 2 == 1, "odd, and 1 or more")
        self._require("phase", self.phase in PHASES, " or ".join(map(repr, PHASES)))
        self._require("norm", self.norm in NORMS, " or ".join(map(repr, NORMS)))

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """The stem's stride, and twice as much for each stage that follows."""
        return tuple(self.patch_stride * 2**stage for stage in range(len(self.depths)))


class Phase(nn.Module):
    """A linear layer or a 3×3 depthwise convolution, BatchNorm, ReLU: from a map to phases in radians.

    Source: `theta_h_conv` and `theta_w_conv` of the authors.

    Shape:
        `(batch, height, width, dim)` to the same.
    """

    norm_after: ClassVar = {"proj": "norm"}

    def __init__(self, dim: int, kind: str, norm_eps: float, impl: str, **dd: Any) -> None:
        super().__init__()
        self.impl = impl
        self.proj: nn.Module
        if kind == "linear":
            self.proj = pointwise(impl)(dim, dim, **dd)
        else:
            self.proj = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False, **dd)
        self.norm = nn.BatchNorm2d(dim, eps=norm_eps, **dd)
        self.act = nn.ReLU()

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        if isinstance(self.proj, nn.Conv2d):
            x_BCHW = self.proj(x_BHWC.permute(0, 3, 1, 2))
        else:
            x_BCHW = apply_linear(self.proj, x_BHWC, impl=self.impl).permute(0, 3, 1, 2)
        return self.act(self.norm(x_BCHW)).permute(0, 2, 3, 1)


class WaveSum(nn.Module):
    """`mlpzoo.ops.phase_mix` with its weights.

    Source: `tfc_h` and `tfc_w` of the authors, which are convolutions and start as such.

    Args:
        dim: channels.
        window: positions along the axis, odd.
        axis: 1 to mix along the height, 2 along the width.
        impl: which implementation runs.
        dd: `device` and `dtype` of the weights.

    Shape:
        two of `(batch, height, width, dim)` to one: amplitudes and phases.
    """

    def __init__(self, dim: int, window: int, axis: int, impl: str, **dd: Any) -> None:
        super().__init__()
        self.impl = impl
        sides = (window, 1) if axis == 1 else (1, window)
        self.weight = nn.Parameter(torch.empty(dim, 2, *sides, **dd))

    def reset_parameters(self) -> None:
        """As PyTorch draws a convolution's weight."""
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, z_BHWC: Tensor, theta_BHWC: Tensor) -> Tensor:
        """Amplitudes and phases to their sum over the window."""
        return phase_mix(z_BHWC, theta_BHWC, self.weight, self.impl)


class PhaseAwareMixing(nn.Module):
    """Waves mixed along the width and along the height and a linear layer, weighed, added and projected.

    Source: `PATM` of the authors. Its names are kept, so the branch `h` mixes along the width.

    Args:
        dim: channels.
        window: positions along an axis that each output sees.
        phase: see `WaveMlpConfig`.
        drop: dropout rate after the projection.
        norm_eps: epsilon of the norms of the phases.
        impl: which implementation of the ops runs.
        dd: `device` and `dtype` of the parameters.

    Shape:
        `(batch, height, width, dim)` to the same.
    """

    def __init__(
        self, dim: int, window: int, phase: str, *, drop: float, norm_eps: float, impl: str, **dd: Any
    ) -> None:
        super().__init__()
        self.impl = impl
        layer = pointwise(impl)
        self.fc_h = layer(dim, dim, bias=False, **dd)
        self.fc_w = layer(dim, dim, bias=False, **dd)
        self.fc_c = layer(dim, dim, bias=False, **dd)
        self.theta_h = Phase(dim, phase, norm_eps, impl, **dd)
        self.theta_w = Phase(dim, phase, norm_eps, impl, **dd)
        self.tfc_h = WaveSum(dim, window, 2, impl, **dd)
        self.tfc_w = WaveSum(dim, window, 1, impl, **dd)
        self.reweight = SplitReweight(dim, impl=impl, **dd)
        self.proj = layer(dim, dim, **dd)
        self.proj_drop = nn.Dropout(drop)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        h_BHWC = self.tfc_h(apply_linear(self.fc_h, x_BHWC, impl=self.impl), self.theta_h(x_BHWC))
        w_BHWC = self.tfc_w(apply_linear(self.fc_w, x_BHWC, impl=self.impl), self.theta_w(x_BHWC))
        c_BHWC = apply_linear(self.fc_c, x_BHWC, impl=self.impl)
        x_BHWC = reweighted_and_projected(self.reweight, self.proj, h_BHWC, w_BHWC, c_BHWC, impl=self.impl)
        return self.proj_drop(x_BHWC)


class WaveBlock(ResidualBlock):
    """`PhaseAwareMixing` and an MLP over the channels, each after a norm and with a skip."""

    def folded(self) -> nn.Module:
        """Itself, with each BatchNorm in the linear layers that read it.

        A depthwise convolution pads with zeros, which know no shift: in front of it the BatchNorm stays.
        """
        mixing, mlp, norm1, norm2 = self.attn, self.mlp, self.norm1, self.norm2
        assert isinstance(mixing, PhaseAwareMixing)
        phases = (mixing.theta_h, mixing.theta_w)
        places = [*((mixing, name) for name in ("fc_h", "fc_w", "fc_c")), *((phase, "proj") for phase in phases)]
        readers: list[Any] = [getattr(owner, name) for owner, name in places]
        mergeable = may_merge(*readers) and all(isinstance(reader, nn.Linear) for reader in readers)
        observed = has_hooks(mixing, *phases, norm1)
        if not observed and mergeable and isinstance(norm1, BatchNormNHWC) and is_fixed(norm1.bn):
            scale_C, shift_C = scale_and_shift(norm1.bn)
            for (owner, name), reader in zip(places, readers, strict=True):
                setattr(owner, name, with_map_before(reader, scale_C, shift_C))
            self.register_module("norm1", nn.Identity())
        observed = has_hooks(mlp, norm2)
        if not observed and may_merge(mlp.fc1) and isinstance(norm2, BatchNormNHWC) and is_fixed(norm2.bn):
            mlp.fc1 = with_map_before(mlp.fc1, *scale_and_shift(norm2.bn))
            self.register_module("norm2", nn.Identity())
        return self


class WaveMlp(PyramidBackbone):
    """Overlapping patches, stages of wave blocks with convolutions of stride 2 between, a norm, mean, head."""

    family = "wavemlp"
    config: WaveMlpConfig

    def build_norm(self, dim: int, **dd: Any) -> nn.Module:
        """A BatchNorm, or a GroupNorm of one group."""
        if self.config.norm == "batch":
            return BatchNormNHWC(dim, self.config.norm_eps, **dd)
        return GroupNorm1(dim, self.config.norm_eps, impl=rest(self.config.impl), **dd)

    def build_stem(self, **dd: Any) -> nn.Module:
        """The overlapping patches."""
        config = self.config
        dim, size, stride = config.embed_dims[0], config.patch_size, config.patch_stride
        norm = self.build_norm(dim, **dd) if config.embed_norm else None
        padding = (size - stride + 1) // 2
        return ConvEmbed(config.in_chans, dim, size, stride, padding, norm=norm, impl=rest(config.impl), **dd)

    def build_downsample(self, stage: int, **dd: Any) -> nn.Module:
        """A 3×3 convolution of stride 2."""
        before, after = self.config.embed_dims[stage - 1 : stage + 1]
        norm = self.build_norm(after, **dd) if self.config.embed_norm else None
        return Downsample(before, after, 3, 2, 1, norm=norm, impl=rest(self.config.impl), **dd)

    def build_block(self, stage: int, number: int, *, drop_path: float, **dd: Any) -> nn.Module:
        """A `WaveBlock`."""
        config = self.config
        dim, impl = config.embed_dims[stage], rest(config.impl)
        mixing = PhaseAwareMixing(
            dim,
            config.window_size,
            config.phase,
            drop=config.proj_drop_rate,
            norm_eps=config.norm_eps,
            impl=impl,
            **dd,
        )
        norms: dict[str, Any] = {"batch": BatchNormNHWC, "group": functools.partial(GroupNorm1, impl=impl)}
        return WaveBlock(
            dim,
            mixing,
            int(dim * config.mlp_ratios[stage]),
            act_layer=config.act_layer,
            norm_layer=norms[config.norm],
            norm_eps=config.norm_eps,
            drop=config.proj_drop_rate,
            drop_path=drop_path,
            recompute=self.recompute_mlp,
            linear_layer=pointwise(impl),
            impl=impl,
            **dd,
        )

    def reset_parameters(self) -> None:
        """Draw the head as the authors do (`cls_init_weights`), all that is a convolution to them as PyTorch does."""
        for module in self.modules():
            if isinstance(getattr(module, "weight", None), nn.Parameter):
                module.reset_parameters()  # type: ignore[operator]
        self.reset_classifier_parameters()


def kernel_of_phase(value: Tensor) -> Tensor:
    """A 1×1 kernel as the weight of a linear layer; that of a depthwise convolution as it is."""
    return pointwise_kernel(value) if value.shape[2:] == (1, 1) else value


def stages_and_batch_norms(names: Sequence[str]) -> list[str]:
    """Number stages, and tell BatchNorms, which have statistics, from GroupNorms of the same name."""
    names = number_stages(names)
    normed = {name.removesuffix("running_mean") for name in names if name.endswith(".running_mean")}
    parts = (name.rpartition(".") for name in names)
    return [f"{at}.bn.{leaf}" if f"{at}." in normed else f"{at}{dot}{leaf}" for at, dot, leaf in parts]


IMAGENET: dict[str, Any] = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
RELEASES = "https://github.com/huawei-noah/CV-Backbones/releases/download/wavemlp"
README = (
    "README.md of wavemlp_pytorch in huawei-noah/Efficient-AI-Backbones at f90e129, which crops by timm's data config"
)


def _file(name: str, top1: float) -> Weights:
    url = f"{RELEASES}/WaveMLP_{name}.pth.tar"
    return Weights(url=url, license="Apache-2.0", top1=top1, top1_source=README, crop_pct=0.9, **IMAGENET)


NORM = r"((?:bn\.)?(?:weight|bias|running_mean|running_var|num_batches_tracked))"
PLACE = r"network\.(\d+)\."
STAGE = r"stages.\1."
BLOCK = rf"{PLACE}(\d+)\."
OURS = r"stages.\1.blocks.\2."

FORMATS = (
    KeyMap(
        "the authors' .pth.tar",
        (
            Rule(r"patch_embed\.proj\.(weight|bias)", r"stem.proj.\1"),
            Rule(rf"patch_embed\.norm\.{NORM}", r"stem.norm.\1"),
            Rule(rf"{PLACE}proj\.(weight|bias)", rf"{STAGE}downsample.proj.\2"),
            Rule(rf"{PLACE}norm\.{NORM}", rf"{STAGE}downsample.norm.\2"),
            Rule(rf"{BLOCK}(norm[12])\.{NORM}", rf"{OURS}\3.\4"),
            Rule(rf"{BLOCK}attn\.tfc_([hw])\.weight", rf"{OURS}attn.tfc_\3.weight"),
            Rule(
                rf"{BLOCK}attn\.theta_([hw])_conv\.0\.(weight|bias)", rf"{OURS}attn.theta_\3.proj.\4", kernel_of_phase
            ),
            Rule(rf"{BLOCK}attn\.theta_([hw])_conv\.1\.bn\.(\w+)", rf"{OURS}attn.theta_\3.norm.\4"),
            Rule(
                rf"{BLOCK}(attn\.fc_[hwc]|attn\.reweight\.fc[12]|attn\.proj|mlp\.fc[12])\.(weight|bias)",
                rf"{OURS}\3.\4",
                pointwise_kernel,
            ),
            Rule(rf"(feature_norms\.\d+|norm)\.{NORM}", r"\1.\2"),
            Rule(r"head\.(weight|bias)", r"head.\1"),
        ),
        rename=stages_and_batch_norms,
    ),
)

DIMS = (64, 128, 320, 512)


FAMILY = Family(
    name="wavemlp",
    title="Wave-MLP",
    paper="https://arxiv.org/abs/2111.12294",
    code="https://github.com/huawei-noah/Efficient-AI-Backbones/blob/f90e129/wavemlp_pytorch/models/wavemlp.py",
    license="Apache-2.0",
    model=WaveMlp,
    data={**IMAGENET, "pool_size": (7, 7)},
    # The sizes are those of the authors' code. Drop path rates: 0.1 but for the base one, whose is not stated.
    variants={
        "wavemlp_t_dw": WaveMlpConfig(depths=(2, 2, 4, 2), embed_dims=DIMS, phase="depthwise"),
        "wavemlp_t": WaveMlpConfig(depths=(2, 2, 4, 2), embed_dims=DIMS),
        "wavemlp_s": WaveMlpConfig(depths=(2, 3, 10, 3), embed_dims=DIMS, norm="group"),
        "wavemlp_m": WaveMlpConfig(
            depths=(3, 4, 18, 3), embed_dims=DIMS, mlp_ratios=(8, 8, 4, 4), norm="group", embed_norm=False
        ),
        "wavemlp_b": WaveMlpConfig(
            depths=(2, 2, 18, 2), embed_dims=(96, 192, 384, 768), norm="group", embed_norm=False
        ),
    },
    # No file is released for the base one.
    weights={
        "wavemlp_t_dw.in1k": _file("T_dw", 80.1),
        "wavemlp_t.in1k": _file("T", 80.9),
        "wavemlp_s.in1k": _file("S", 82.9),
        "wavemlp_m.in1k": _file("M", 83.3),
    },
    formats=FORMATS,
)

"""ShiftViT: when shift operation meets vision transformer (Wang et al., 2022, https://arxiv.org/abs/2201.10801).

Authors' code: microsoft/SPACH, `models/shiftvit.py` at dcede1e (MIT).
What differs: image channels and patches are free. The names follow the released files (`shiftvit_tiny_r2.pth`), where
the authors' code has the words the other way round (`shiftvit_r2_tiny`).
"""

import dataclasses
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import DropPath
from torch import Tensor, nn

from mlpzoo.layers import ConvEmbed, Downsample, GroupNorm1, MlpBlock, pointwise
from mlpzoo.layers.linear import rest
from mlpzoo.models._family import Family, Weights
from mlpzoo.models._keymap import KeyMap, Rule, pointwise_kernel
from mlpzoo.models._pyramid import PyramidBackbone, PyramidConfig
from mlpzoo.models._pyramid_files import downsample_first
from mlpzoo.ops import axial_shift
from mlpzoo.ops.axial_shift import Run


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShiftVitConfig(PyramidConfig):
    """Settings of a ShiftViT.

    Attributes:
        patch_size: side of the stem's patches in pixels, which do not overlap.
        n_div: groups that the channels are cut into, of which four are shifted, one in each direction.
    """

    patch_size: int = 4
    n_div: int = 12

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        self._require("patch_size", self.patch_size >= 1, "1 or more")
        narrowest = min(self.embed_dims)
        self._require("n_div", 4 <= self.n_div <= narrowest, f"4 or more, and at most embed_dims' smallest {narrowest}")

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """The patch's side, and twice as much for each stage that follows."""
        return tuple(self.patch_size * 2**stage for stage in range(len(self.depths)))


def shift_runs(dim: int, n_div: int) -> list[Run]:
    """One group of channels each reads the right, left, lower and upper neighbour; all others stay."""
    group = dim // n_div
    runs = [(group, 0, 1), (group, 0, -1), (group, 1, 0), (group, -1, 0)]
    return [*runs, (dim - 4 * group, 0, 0)] if dim > 4 * group else runs


class ShiftVitBlock(nn.Module):
    """A shift of some channels by one position, then an MLP with a skip around it alone.

    Source: `ShiftViTBlock` of the authors, which calls its only norm the second.

    Args:
        dim: channels.
        mlp_dim: hidden units of the MLP.
        n_div: groups that the channels are cut into.
        act_layer: name of the activation.
        norm_eps: epsilon of the norm.
        drop: dropout rate inside the MLP.
        drop_path: stochastic depth rate.
        recompute: see `MlpBlock`.
        impl: which implementation of `mlpzoo.ops.axial_shift` runs; if `"reference"`, of every op inside.
        dd: `device` and `dtype` of the parameters.

    Shape:
        `(batch, height, width, dim)` to the same.
    """

    def __init__(
        self,
        dim: int,
        mlp_dim: int,
        n_div: int,
        *,
        act_layer: str,
        norm_eps: float,
        drop: float,
        drop_path: float,
        recompute: bool,
        impl: str,
        **dd: Any,
    ) -> None:
        super().__init__()
        self.runs = shift_runs(dim, n_div)
        self.impl = rest(impl)
        self.norm2 = GroupNorm1(dim, norm_eps, impl=self.impl, **dd)
        self.mlp = MlpBlock(
            dim,
            mlp_dim,
            act_layer=act_layer,
            drop=drop,
            recompute=recompute,
            linear_layer=pointwise(impl),
            impl=self.impl,
            **dd,
        )
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        x_BHWC = axial_shift(x_BHWC, self.runs, self.impl)
        return x_BHWC + self.drop_path(self.mlp(self.norm2(x_BHWC)))


class ShiftVitDownsample(Downsample):
    """A norm, then a convolution of the patches that become one position; what fills no patch is not seen.

    Shape:
        `(batch, height, width, in_chans)` to `(batch, ⌊height / 2⌋, ⌊width / 2⌋, out_chans)`.
    """

    def __init__(self, in_chans: int, out_chans: int, norm: nn.Module, impl: str, **dd: Any) -> None:
        super().__init__(in_chans, out_chans, 2, 2, bias=False, impl=impl, **dd)
        self.norm_before = norm

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, in_chans)` to the smaller map."""
        return super().forward(self.norm_before(x_BHWC))


class ShiftVit(PyramidBackbone):
    """Patches, stages of shift blocks with a norm and a convolution between, GroupNorm, mean, head."""

    family = "shiftvit"
    config: ShiftVitConfig
    draw_convolutions = True

    def build_stem(self, **dd: Any) -> nn.Module:
        """Patches that do not overlap, and a norm."""
        config = self.config
        dim, patch = config.embed_dims[0], config.patch_size
        norm = self.build_norm(dim, **dd)
        return ConvEmbed(config.in_chans, dim, patch, patch, norm=norm, impl=rest(config.impl), **dd)

    def build_downsample(self, stage: int, **dd: Any) -> nn.Module:
        """A norm and a 2×2 convolution of stride 2."""
        before, after = self.config.embed_dims[stage - 1 : stage + 1]
        return ShiftVitDownsample(before, after, self.build_norm(before, **dd), rest(self.config.impl), **dd)

    def build_norm(self, dim: int, **dd: Any) -> nn.Module:
        """A GroupNorm of one group."""
        return GroupNorm1(dim, self.config.norm_eps, impl=rest(self.config.impl), **dd)

    def build_block(self, stage: int, number: int, *, drop_path: float, **dd: Any) -> nn.Module:
        """A `ShiftVitBlock`."""
        config = self.config
        dim = config.embed_dims[stage]
        return ShiftVitBlock(
            dim,
            int(dim * config.mlp_ratios[stage]),
            config.n_div,
            act_layer=config.act_layer,
            norm_eps=config.norm_eps,
            drop=config.proj_drop_rate,
            drop_path=drop_path,
            recompute=self.recompute_mlp,
            impl=config.impl,
            **dd,
        )


RELEASES = "https://github.com/microsoft/SPACH/releases/download/v1.0"
IMAGENET: dict[str, Any] = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD, "crop_pct": 0.875}
README = "README.md of microsoft/SPACH at dcede1e"


def _file(name: str, top1: float) -> Weights:
    return Weights(url=f"{RELEASES}/{name}.pth", license="MIT", top1=top1, top1_source=README, **IMAGENET)


FORMATS = (
    KeyMap(
        "the authors' .pth",
        (
            Rule(r"patch_embed\.(proj|norm)\.(weight|bias)", r"stem.\1.\2"),
            Rule(
                r"layers\.(\d+)\.blocks\.(\d+)\.(norm2|mlp\.fc[12])\.(weight|bias)",
                r"stages.\1.blocks.\2.\3.\4",
                pointwise_kernel,
            ),
            Rule(r"layers\.(\d+)\.downsample\.norm\.(weight|bias)", r"stages.\1.downsample.norm_before.\2"),
            Rule(r"layers\.(\d+)\.downsample\.reduction\.weight", r"stages.\1.downsample.proj.weight"),
            Rule(r"(norm|head)\.(weight|bias)", r"\1.\2"),
        ),
        rename=downsample_first,
    ),
)


def _config(depths: tuple[int, ...], ratio: float, dim: int = 96, n_div: int = 12) -> ShiftVitConfig:
    dims = (dim, 2 * dim, 4 * dim, 8 * dim)
    return ShiftVitConfig(depths=depths, embed_dims=dims, mlp_ratios=(ratio,) * 4, n_div=n_div)


FAMILY = Family(
    name="shiftvit",
    title="ShiftViT",
    paper="https://arxiv.org/abs/2201.10801",
    code="https://github.com/microsoft/SPACH/blob/dcede1e/models/shiftvit.py",
    license="MIT",
    model=ShiftVit,
    data={**IMAGENET, "pool_size": (7, 7)},
    # The sizes are those of the authors' code, whose drop path rates are 0.2 for tiny, 0.4 for small and 0.5 for base
    # (0.6 for base_r2).
    variants={
        "shiftvit_tiny_light": _config((2, 2, 6, 2), 4),
        "shiftvit_tiny_r2": _config((6, 8, 18, 6), 2),
        "shiftvit_tiny_r4": _config((2, 2, 12, 3), 4),
        "shiftvit_small_light": _config((2, 2, 18, 2), 4),
        "shiftvit_small_r2": _config((10, 18, 36, 10), 2),
        "shiftvit_small_r4": _config((2, 6, 24, 4), 4),
        "shiftvit_base_light": _config((2, 2, 18, 2), 4, dim=128, n_div=16),
        "shiftvit_base_r2": _config((10, 18, 36, 10), 2, dim=128, n_div=16),
        "shiftvit_base_r4": _config((4, 6, 22, 4), 4, dim=128, n_div=16),
    },
    weights={
        "shiftvit_tiny_light.in1k": _file("shiftvit_tiny_light", 79.4),
        "shiftvit_tiny_r2.in1k": _file("shiftvit_tiny_r2", 81.7),
        "shiftvit_small_light.in1k": _file("shiftvit_small_light", 81.6),
        "shiftvit_small_r2.in1k": _file("shiftvit_small_r2", 82.8),
    },
    formats=FORMATS,
)

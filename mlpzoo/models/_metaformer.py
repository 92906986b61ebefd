"""MetaFormer as a frame: stages of blocks whose token mixer is a field of the config.

The papers that fill it: PoolFormer (Yu et al., 2022, https://arxiv.org/abs/2111.11418), the baselines (Yu et al., 2023,
https://arxiv.org/abs/2210.13452), RIFormer (Wang et al., 2023, https://arxiv.org/abs/2304.05659), DFFormer and
CDFFormer (Tatsunami and Taki, 2024, https://arxiv.org/abs/2303.03932). Each has a file of its own with its variants.

Shape suffixes: B batch, I image channels, H × W positions, T tokens, C channels, K filters.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from mlpzoo.layers import ConvEmbed, Downsample, GroupNorm1, MlpBlock, pointwise
from mlpzoo.layers.folding import may_merge, mergeable, rounded, wide
from mlpzoo.layers.fourier_filter import FourierFilter
from mlpzoo.layers.grid_bound import GridAxes, GridBound
from mlpzoo.layers.linear import apply_linear, rest
from mlpzoo.models._pyramid import PyramidBackbone, PyramidConfig
from mlpzoo.ops import token_linear
from mlpzoo.ops.resize import Grid

STAR_RELU = "star_relu"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetaFormerConfig(PyramidConfig):
    """Settings of a MetaFormer. The defaults are those of the baselines; `FirstMetaFormerConfig` has the first paper's.

    Attributes:
        token_mixers: each stage's, by name: `"pool"`, `"identity"`, `"random"`, `"affine"`, `"separable_conv"`,
            `"global_filter"` or `"dynamic_filter"`.
        map_norms: whether the norms of the blocks are over height, width and channels together, or over channels alone.
        bias: whether norms and linears of the blocks have biases.
        embed_norms: whether the stem is followed, and a downsampling preceded, by a LayerNorm without bias.
        layer_scale_init: first value of a factor for each channel on both branches of a block; None for no factor.
        res_scale_stages: the stages, counted from 0, whose blocks have a factor for each channel on the skip.
        act_layer: name of the activation, see `mlpzoo.layers.create_activation`, or `"star_relu"`.
    """

    mlp_ratios: tuple[float, ...] = (4, 4, 4, 4)
    token_mixers: tuple[str, ...]
    map_norms: bool = True
    bias: bool = False
    embed_norms: bool = True
    layer_scale_init: float | None = None
    res_scale_stages: tuple[int, ...] = (2, 3)
    act_layer: str = STAR_RELU
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        for name in ("token_mixers", "res_scale_stages"):
            # JSON has no tuples: a config that went through a file comes back with lists.
            object.__setattr__(self, name, tuple(getattr(self, name)))
        known = ", ".join(map(repr, MIXERS))
        holds = len(self.token_mixers) == len(self.embed_dims) and set(self.token_mixers) <= set(MIXERS)
        self._require("token_mixers", holds, f"one of {known} for each stage, as many as embed_dims has")

    @property
    def in_timm(self) -> bool:
        """timm has those that pool."""
        return set(self.token_mixers) == {"pool"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class FirstMetaFormerConfig(MetaFormerConfig):
    """Settings of a MetaFormer as its first paper has it, with the defaults of PoolFormer."""

    token_mixers: tuple[str, ...] = ("pool", "pool", "pool", "pool")
    bias: bool = True
    embed_norms: bool = False
    layer_scale_init: float | None = 1e-5
    res_scale_stages: tuple[int, ...] = ()
    act_layer: str = "gelu"
    norm_eps: float = 1e-5


class StarReLU(nn.Module):
    """`scale · relu(x)² + bias`, a learned number each (arXiv:2210.13452, section 3.1): any shape to the same."""

    def __init__(self, **dd: Any) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, **dd))
        self.bias = nn.Parameter(torch.zeros(1, **dd))

    def reset_parameters(self) -> None:
        """Start as the square of ReLU, as the authors do."""
        nn.init.ones_(self.scale)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same."""
        return torch.addcmul(self.bias, self.scale, F.relu(x).square())


class PoolMixing(nn.Module):
    """The mean of the 3×3 neighbourhood, minus the position itself: `(B, H, W, C)` to the same."""

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, channels)` to the same."""
        y_BCHW = F.avg_pool2d(x_BHWC.permute(0, 3, 1, 2), 3, 1, 1, count_include_pad=False)
        return y_BCHW.permute(0, 2, 3, 1) - x_BHWC


class RandomMixing(GridBound):
    """Tokens mixed by a random matrix that is never trained: `(B, H, W, C)` to the same.

    Source: `RandomMixing` of sail-sg/metaformer, `metaformer_baselines.py`.
    """

    grid_axes: ClassVar[GridAxes] = {"random_matrix": ("out", "in")}

    def __init__(self, grid: Grid, *, impl: str = "auto", **dd: Any) -> None:
        super().__init__()
        self.grid = grid
        self.impl = impl
        tokens = grid[0] * grid[1]
        self.random_matrix = nn.Parameter(torch.empty(tokens, tokens, **dd), requires_grad=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform numbers through a softmax: each row is a weighting of all tokens."""
        with torch.no_grad():
            self.random_matrix.copy_(self.random_matrix.uniform_().softmax(-1))

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, channels)` to the same."""
        return token_linear(x_BHWC.flatten(1, 2), self.random_matrix, impl=rest(self.impl)).view_as(x_BHWC)


@mergeable
class AffineMixing(nn.Module):
    """A factor and a shift for each channel, minus the map itself (RIFormer, arXiv:2304.05659, section 3.3)."""

    def __init__(self, dim: int, **dd: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim, **dd))
        self.bias = nn.Parameter(torch.zeros(dim, **dd))

    def reset_parameters(self) -> None:
        """Start as a map that is zero everywhere, as the authors do."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """`(..., channels)` to the same."""
        return torch.addcmul(self.bias, self.weight, x) - x


class ExpandedMixing(nn.Module):
    """Linear to twice the channels, StarReLU, a mixing of positions, linear back; no biases.

    Source: `SepConv` of sail-sg/metaformer; `DynamicFilter` of okojoalg/dfformer, `models/dfformer.py`.
    """

    def __init__(self, dim: int, mixing: nn.Module, *, impl: str = "auto", **dd: Any) -> None:
        super().__init__()
        self.impl = rest(impl)
        self.pwconv1 = nn.Linear(dim, 2 * dim, bias=False, **dd)
        self.act1 = StarReLU(**dd)
        self.mixing = mixing
        self.pwconv2 = nn.Linear(2 * dim, dim, bias=False, **dd)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        return self.project(self.mixing(self.expand(x_BHWC)))

    def expand(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to twice the channels, activated."""
        return self.act1(apply_linear(self.pwconv1, x_BHWC, impl=self.impl))

    def project(self, x_BHWC: Tensor) -> Tensor:
        """Twice the channels to `(batch, height, width, dim)`."""
        return apply_linear(self.pwconv2, x_BHWC, impl=self.impl)


class DepthwiseConv(nn.Conv2d):
    """A 7×7 depthwise convolution without bias: `(B, H, W, C)` to the same."""

    def __init__(self, dim: int, **dd: Any) -> None:
        super().__init__(dim, dim, 7, padding=3, groups=dim, bias=False, **dd)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        return super().forward(x_BHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class DynamicMixing(ExpandedMixing):
    """An `ExpandedMixing` by four Fourier filters, in proportions that follow from the mean of the map.

    Source: `DynamicFilter` of okojoalg/dfformer, `models/dfformer.py`; arXiv:2303.03932, section 3.2.
    """

    FILTERS = 4

    def __init__(self, dim: int, grid: Grid, *, impl: str = "auto", **dd: Any) -> None:
        super().__init__(dim, FourierFilter(self.FILTERS, grid, impl=rest(impl), **dd), impl=impl, **dd)
        self.reweight = MlpBlock(dim, dim // 4, self.FILTERS * 2 * dim, bias=False, impl=rest(impl), **dd)
        self.reweight.act = StarReLU(**dd)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        mix_BKC = self.reweight(x_BHWC.mean((1, 2))).unflatten(1, (self.FILTERS, -1)).softmax(1)
        return self.project(self.mixing(self.expand(x_BHWC), mix_BKC))


def global_filter(dim: int, grid: Grid, *, impl: str = "auto", **dd: Any) -> nn.Module:
    """An `ExpandedMixing` by a Fourier filter for each channel."""
    return ExpandedMixing(dim, FourierFilter(2 * dim, grid, impl=rest(impl), **dd), impl=impl, **dd)


# Each takes the channels, the grid of the stage (None where no weight is bound to one) and the options of its layers.
MIXERS: dict[str, Callable[..., nn.Module]] = {
    "pool": lambda dim, grid, *, impl, **dd: PoolMixing(),
    "identity": lambda dim, grid, *, impl, **dd: nn.Identity(),
    "random": lambda dim, grid, *, impl, **dd: RandomMixing(grid, impl=impl, **dd),
    "affine": lambda dim, grid, *, impl, **dd: AffineMixing(dim, **dd),
    "separable_conv": lambda dim, grid, *, impl, **dd: ExpandedMixing(
        dim, DepthwiseConv(2 * dim, **dd), impl=impl, **dd
    ),
    "global_filter": global_filter,
    "dynamic_filter": DynamicMixing,
}


class MetaFormerBlock(nn.Module):
    """Token mixing, then an MLP over the channels, each after a norm and with a skip: `(B, H, W, C)` to the same."""

    def __init__(
        self,
        config: MetaFormerConfig,
        stage: int,
        mixer: nn.Module,
        *,
        drop_path: float,
        linear_layer: type[nn.Linear],
        **dd: Any,
    ) -> None:
        super().__init__()
        dim = config.embed_dims[stage]

        def build_scale(first: float | None) -> nn.Parameter | None:
            return None if first is None else nn.Parameter(torch.full((dim,), first, **dd))

        residual = 1.0 if stage in config.res_scale_stages else None
        self.norm1 = block_norm(config, dim, **dd)
        self.token_mixer = mixer
        self.norm2 = block_norm(config, dim, **dd)
        hidden = int(dim * config.mlp_ratios[stage])
        act = "relu" if config.act_layer == STAR_RELU else config.act_layer
        self.mlp = MlpBlock(
            dim,
            hidden,
            act_layer=act,
            drop=config.proj_drop_rate,
            bias=config.bias,
            linear_layer=linear_layer,
            impl=rest(config.impl),
            **dd,
        )
        if config.act_layer == STAR_RELU:
            self.mlp.act = StarReLU(**dd)
        self.ls1, self.ls2 = build_scale(config.layer_scale_init), build_scale(config.layer_scale_init)
        self.res_scale1, self.res_scale2 = build_scale(residual), build_scale(residual)
        self.first_scale = config.layer_scale_init
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def reset_parameters(self) -> None:
        """Draw the factors of the branches and the skips anew."""
        for scale, first in (
            (self.ls1, self.first_scale),
            (self.ls2, self.first_scale),
            (self.res_scale1, 1.0),
            (self.res_scale2, 1.0),
        ):
            if scale is not None:
                nn.init.constant_(scale, first or 0.0)

    def folded(self) -> nn.Module:
        """The affine map put into the norm before it: (a - 1)·norm(x) + b, as the authors' `switch_to_deploy` does."""
        norm, mixer = self.norm1, self.token_mixer
        if isinstance(norm, GroupNorm1) and isinstance(mixer, AffineMixing) and may_merge(norm, mixer):
            factor_C = wide(mixer.weight) - 1
            assert norm.bias is not None
            bias = rounded(factor_C * wide(norm.bias) + wide(mixer.bias), norm.bias)
            norm.weight, norm.bias = rounded(factor_C * wide(norm.weight), norm.weight), bias
            self.token_mixer = nn.Identity()
        return self

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        mixed = self.drop_path(_scaled(self.token_mixer(self.norm1(x_BHWC)), self.ls1))
        x_BHWC = _scaled(x_BHWC, self.res_scale1) + mixed
        mixed = self.drop_path(_scaled(self.mlp(self.norm2(x_BHWC)), self.ls2))
        return _scaled(x_BHWC, self.res_scale2) + mixed


def _scaled(x: Tensor, scale: Tensor | None) -> Tensor:
    return x if scale is None else x * scale


def block_norm(config: MetaFormerConfig, dim: int, **dd: Any) -> nn.Module:
    """A norm of a block."""
    if config.map_norms:
        return GroupNorm1(dim, config.norm_eps, bias=config.bias, impl=rest(config.impl), **dd)
    return nn.LayerNorm(dim, config.norm_eps, bias=config.bias, **dd)


class NormedDownsample(Downsample):
    """A LayerNorm without bias, then a `Downsample`: `(B, H, W, C)` to the next stage's map."""

    def __init__(self, dim: int, out_dim: int, *, norm_eps: float, **options: Any) -> None:
        super().__init__(dim, out_dim, 3, 2, 1, **options)
        self.pre_norm = nn.LayerNorm(
            dim, norm_eps, bias=False, device=self.proj.weight.device, dtype=self.proj.weight.dtype
        )

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to `(batch, height', width', out_dim)`."""
        return super().forward(self.pre_norm(x_BHWC))


class MetaFormer(PyramidBackbone):
    """Overlapping patches, stages of MetaFormer blocks with convolutions of stride 2 between, norm, mean, head."""

    config: MetaFormerConfig

    def build_stem(self, **dd: Any) -> nn.Module:
        """A 7×7 convolution of stride 4."""
        config = self.config
        dim = config.embed_dims[0]
        norm = nn.LayerNorm(dim, config.norm_eps, bias=False, **dd) if config.embed_norms else None
        return ConvEmbed(config.in_chans, dim, 7, 4, 2, norm=norm, impl=rest(config.impl), **dd)

    def build_downsample(self, stage: int, **dd: Any) -> nn.Module:
        """A 3×3 convolution of stride 2."""
        before, after = self.config.embed_dims[stage - 1 : stage + 1]
        impl = rest(self.config.impl)
        if self.config.embed_norms:
            return NormedDownsample(before, after, norm_eps=self.config.norm_eps, impl=impl, **dd)
        return Downsample(before, after, 3, 2, 1, impl=impl, **dd)

    def build_mixing(self, stage: int, number: int, **dd: Any) -> nn.Module:
        """The token mixer of the stage."""
        config = self.config
        grid = self.stage_grids[stage] if self.stage_grids else None
        return MIXERS[config.token_mixers[stage]](config.embed_dims[stage], grid, impl=config.impl, **dd)

    def build_block(self, stage: int, number: int, *, drop_path: float, **dd: Any) -> nn.Module:
        """One `MetaFormerBlock`."""
        mixer = self.build_mixing(stage, number, **dd)
        layer = self.linear_layer()
        return MetaFormerBlock(self.config, stage, mixer, drop_path=drop_path, linear_layer=layer, **dd)

    def linear_layer(self) -> type[nn.Linear]:
        """The class of the linears in the blocks' MLPs."""
        return nn.Linear

    def reset_parameters(self) -> None:
        """Linear maps (and convolutions, see `draw_convolutions`) normal with deviation 0.02; the rest as PyTorch."""
        super().reset_parameters()
        for module in self.modules():
            if isinstance(module, StarReLU | RandomMixing | FourierFilter | MetaFormerBlock):
                module.reset_parameters()


class FirstMetaFormer(MetaFormer):
    """A MetaFormer of the first paper: the norm before the mean, and those of the features, are over the whole map."""

    def build_norm(self, dim: int, **dd: Any) -> nn.Module:
        """A norm over the whole map."""
        return GroupNorm1(dim, self.config.norm_eps, impl=rest(self.config.impl), **dd)

    def linear_layer(self) -> type[nn.Linear]:
        """The authors' linears are 1×1 convolutions."""
        return pointwise(self.config.impl)

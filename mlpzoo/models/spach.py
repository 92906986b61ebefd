"""SPACH in its MLP form: a battle of network structures (Zhao et al., 2021, https://arxiv.org/abs/2108.13002).

Authors' code: microsoft/SPACH, `models/spach/spach_ms.py` at dcede1e (MIT).
What differs: token-mixing weights are resized to images of any size; the authors' networks take 224×224 alone. The
repository also builds networks of one resolution, and others that mix by convolution or attention: they are not here.

Shape suffixes: B batch, H × W positions, T tokens, C channels.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import DropPath
from torch import Tensor, nn

from mlpzoo.layers import ConvEmbed, Downsample, GroupNorm1, MlpBlock, TokenLinear, TokenMixing
from mlpzoo.layers.linear import rest
from mlpzoo.models._config import GridBoundConfig
from mlpzoo.models._family import Family, Weights
from mlpzoo.models._keymap import KeyMap, Rule, flat
from mlpzoo.models._pyramid import PyramidBackbone, PyramidConfig
from mlpzoo.ops import channels_second
from mlpzoo.ops.resize import Grid


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpachConfig(PyramidConfig, GridBoundConfig):
    """Settings of a SPACH-MLP-MS.

    Attributes:
        token_mlp_dims: hidden units of each stage's token-mixing MLPs, 0 for a stage without; the authors take half of
            the positions that there are at 224 pixels, and the first stage has none.
        layer_scale_init: first value of the token mixing's factor for each channel.
    """

    token_mlp_dims: tuple[int, ...] = (0, 392, 98, 24)
    layer_scale_init: float = 1e-4
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        values = tuple(self.token_mlp_dims)
        object.__setattr__(self, "token_mlp_dims", values)
        holds = len(values) == len(self.embed_dims) and min(values) >= 0
        self._require("token_mlp_dims", holds, "a number of 0 or more for each stage, as many as embed_dims has")


class SpachBlock(nn.Module):
    """Token mixing and a 3×3 depthwise convolution of the same map, then an MLP: `(B, H, W, C)` to the same.

    Args:
        dim: channels.
        grid: height and width of the map, in positions.
        token_mlp_dim: hidden units of the token mixing; 0 for none.
        mlp_dim: hidden units of the MLP over the channels.
        config: the network's.
        drop_path: stochastic depth rate of the token mixing and of the MLP.
        dd: `device` and `dtype` of the parameters.
    """

    def __init__(
        self,
        dim: int,
        grid: Grid,
        token_mlp_dim: int,
        mlp_dim: int,
        config: SpachConfig,
        *,
        drop_path: float,
        **dd: Any,
    ) -> None:
        super().__init__()
        eps, impl = config.norm_eps, config.impl
        options: dict[str, Any] = {"act_layer": config.act_layer, "drop": config.proj_drop_rate, **dd}
        self.layer_scale_init = config.layer_scale_init
        self.mixes = token_mlp_dim > 0
        if self.mixes:
            self.norm1 = nn.LayerNorm(dim, eps=eps, **dd)
            self.token_mixing = TokenMixing(grid, token_mlp_dim, impl=impl, **options)
            self.gamma = nn.Parameter(torch.full((dim,), config.layer_scale_init, **dd))
        self.pos_conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, **dd)
        self.norm2 = nn.LayerNorm(dim, eps=eps, **dd)
        self.mlp = MlpBlock(dim, mlp_dim, impl=rest(impl), **options)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        y_BHWC = x_BHWC + self.pos_conv(channels_second(x_BHWC)).permute(0, 2, 3, 1)
        if self.mixes:
            mixed_BTC = self.token_mixing(self.norm1(x_BHWC).flatten(1, 2))
            y_BHWC = y_BHWC + self.drop_path(self.gamma * mixed_BTC.view_as(x_BHWC))
        return y_BHWC + self.drop_path(self.mlp(self.norm2(y_BHWC)))


class Spach(PyramidBackbone):
    """Patches, stages of SPACH blocks with 2×2 convolutions between, LayerNorm, mean, head."""

    family = "spach"
    config: SpachConfig

    def build_stem(self, **dd: Any) -> nn.Module:
        """Patches of 4 pixels, and a LayerNorm."""
        config, dim = self.config, self.config.embed_dims[0]
        norm = nn.LayerNorm(dim, eps=config.norm_eps, **dd)
        return ConvEmbed(config.in_chans, dim, 4, 4, norm=norm, impl=config.impl, **dd)

    def build_downsample(self, stage: int, **dd: Any) -> nn.Module:
        """A 2×2 convolution without a bias, and a norm over the whole map."""
        before, after = self.config.embed_dims[stage - 1 : stage + 1]
        impl = self.config.impl
        norm = GroupNorm1(after, impl=rest(impl), **dd)
        return Downsample(before, after, 2, 2, bias=False, norm=norm, impl=impl, **dd)

    def build_block(self, stage: int, number: int, *, drop_path: float, **dd: Any) -> nn.Module:
        """One `SpachBlock`."""
        config = self.config
        dim = config.embed_dims[stage]
        hidden = config.token_mlp_dims[stage], int(dim * config.mlp_ratios[stage])
        return SpachBlock(dim, self.stage_grids[stage], *hidden, config, drop_path=drop_path, **dd)

    def reset_parameters(self) -> None:
        """Linear maps Xavier-uniform without bias, convolutions Kaiming-normal by their outputs, head zero."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm | nn.GroupNorm):
                module.reset_parameters()
            elif isinstance(module, SpachBlock) and module.mixes:
                nn.init.constant_(module.gamma, module.layer_scale_init)
            elif isinstance(module, nn.Linear | TokenLinear):
                nn.init.xavier_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        self.reset_classifier_parameters()


def to_stage(match: re.Match[str]) -> str:
    """`layer2.0.net.1.` is a downsampling, and blocks are numbered from 1 where there is one; `layer1` has none."""
    stage, place = int(match[1]) - 1, int(match[2])
    if stage and place == 0:
        return f"stages.{stage}.downsample."
    return f"stages.{stage}.blocks.{place - 1 if stage else place}."


def number_stages(names: Sequence[str]) -> list[str]:
    """From `layer2.1.` to `stages.1.blocks.0.`, and from `layer2.0.` to `stages.1.downsample.`."""
    return [re.sub(r"^layer([1-9])\.(\d{1,4})\.", to_stage, name) for name in names]


WB = r"\.(weight|bias)"
BLOCK = r"(stages\.\d+\.blocks\.\d+)\."
DOWN = r"(stages\.\d+\.downsample)\.net\.1\."
FORMAT = KeyMap(
    "the authors' .pth",
    (
        Rule(rf"stem\.proj{WB}", r"stem.proj.\1"),
        Rule(rf"norm1{WB}", r"stem.norm.\1"),
        Rule(rf"{DOWN}0\.weight", r"\1.proj.weight"),
        Rule(rf"{DOWN}1{WB}", r"\1.norm.\2"),
        Rule(rf"{BLOCK}gamma_1", r"\1.gamma", flat),
        Rule(rf"{BLOCK}spatial_func\.(fc[12]){WB}", r"\1.token_mixing.\2.\3"),
        Rule(rf"{BLOCK}channel_func\.(fc[12]){WB}", r"\1.mlp.\2.\3"),
        Rule(rf"{BLOCK}(norm[12]){WB}", r"\1.\2.\3"),
        Rule(rf"{BLOCK}cpe_net\.net\.1{WB}", r"\1.pos_conv.\2"),
        Rule(rf"norm2{WB}", r"norm.\1"),
        Rule(rf"head{WB}", r"head.\1"),
    ),
    rename=number_stages,
)
IMAGENET: dict[str, Any] = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD, "crop_pct": 0.875}


def _config(dim: int, depths: tuple[int, ...], ratio: float) -> SpachConfig:
    # The stochastic depth is that of the authors' training commands.
    dims = (dim, 2 * dim, 4 * dim, 8 * dim)
    return SpachConfig(embed_dims=dims, depths=depths, mlp_ratios=(ratio,) * 4, drop_path_rate=0.1)


def _file(name: str, top1: float) -> Weights:
    return Weights(
        url=f"https://github.com/microsoft/SPACH/releases/download/v1.0/{name}.pth",
        license="MIT",
        top1=top1,
        top1_source="README.md of microsoft/SPACH at dcede1e",
        **IMAGENET,
    )


FAMILY = Family(
    name="spach",
    title="SPACH",
    paper="https://arxiv.org/abs/2108.13002",
    code="https://github.com/microsoft/SPACH/blob/dcede1e/models/spach/spach_ms.py",
    license="MIT",
    model=Spach,
    data={**IMAGENET, "pool_size": (7, 7)},
    variants={
        "spach_ms_xxs_mlp": _config(64, (2, 2, 6, 2), 2),
        "spach_ms_xs_mlp": _config(96, (3, 4, 12, 3), 2),
        "spach_ms_s_mlp": _config(128, (3, 4, 12, 3), 3),
    },
    weights={
        "spach_ms_xxs_mlp.in1k": _file("spach_ms_mlp_xxs", 74.5),
        "spach_ms_s_mlp.in1k": _file("spach_ms_mlp_s", 82.1),
    },
    formats=(FORMAT,),
)

"""GFNet: global filter networks for image classification (Rao et al., 2021, https://arxiv.org/abs/2107.00645).

Authors' code: raoyongming/GFNet, `gfnet.py` at 2de48b6 (MIT).
What differs: images need not be square; position embeddings and filters are resized to any grid as the authors resize
them for fine-tuning. The transforms also run as products with matrices, which exporters know.

Shape suffixes: B batch, I image channels, H × W positions, T tokens, C channels.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import DropPath
from torch import Tensor, nn

from mlpzoo.layers import ConvEmbed, Downsample, MlpBlock
from mlpzoo.layers.fourier_filter import FourierFilter
from mlpzoo.layers.grid_bound import GridBound, GridFound
from mlpzoo.layers.linear import rest
from mlpzoo.models._config import GridBoundConfig
from mlpzoo.models._family import Family, Weights
from mlpzoo.models._isotropic import IsotropicMapBackbone, IsotropicMapConfig
from mlpzoo.models._keymap import KeyMap, Rule
from mlpzoo.models._pyramid import PyramidBackbone, PyramidConfig, reset_linear
from mlpzoo.ops.resize import Grid


@dataclasses.dataclass(frozen=True, kw_only=True)
class GFNetConfig(IsotropicMapConfig, GridBoundConfig):
    """Settings of a GFNet of one resolution.

    Attributes:
        mlp_ratio: hidden units of an MLP for every channel.
    """

    mlp_ratio: float = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class GFNetPyramidConfig(PyramidConfig, GridBoundConfig):
    """Settings of a hierarchical GFNet.

    Attributes:
        layer_scale_init: first value of a block's factor for each channel.
    """

    mlp_ratios: tuple[float, ...] = (4, 4, 4, 4)
    layer_scale_init: float = 1e-5
    norm_eps: float = 1e-6


class PositionedEmbed(GridBound, ConvEmbed):
    """Patches that do not overlap, plus a learned number for each position and channel: an image to `(B, H, W, C)`."""

    def __init__(self, in_chans: int, dim: int, patch_size: int, img_size: Grid, **dd: Any) -> None:
        super().__init__(in_chans, dim, patch_size, patch_size, **dd)
        self.grid = self.grid_after(img_size)
        self.pos_embed = nn.Parameter(torch.empty(1, self.grid[0] * self.grid[1], dim, **dd))

    def forward(self, x_BIHW: Tensor) -> Tensor:
        """`(batch, in_chans, height, width)` to `(batch, height', width', dim)`."""
        return self.embed(x_BIHW) + self.pos_embed.unflatten(1, self.grid)

    def weights_at(self, new_grid: Grid) -> Iterator[tuple[str, Tensor]]:
        """The embeddings at another grid, bicubic as the authors resize them."""
        value: Tensor = self.pos_embed
        if new_grid != self.grid:
            wide = value.unflatten(1, self.grid).permute(0, 3, 1, 2).to(torch.promote_types(value.dtype, torch.float32))
            wide = F.interpolate(wide, size=new_grid, mode="bicubic", align_corners=False)
            value = wide.flatten(2).transpose(1, 2).to(value.dtype)
        yield "pos_embed", value

    def grid_in(self, shapes: Mapping[str, tuple[int, ...]], prefix: str = "") -> GridFound:
        """How many positions a state dict of these shapes has."""
        shape = shapes.get(f"{prefix}pos_embed", ())
        return GridFound(tokens=shape[1] if len(shape) == 3 else None)


class GlobalFilterBlock(nn.Module):
    """Norm, filter, norm, MLP under one skip: `(B, H, W, C)` to the same."""

    def __init__(
        self,
        config: GFNetConfig | GFNetPyramidConfig,
        dim: int,
        mlp_ratio: float,
        grid: Grid,
        *,
        drop_path: float,
        layer_scale_init: float | None = None,
        **dd: Any,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=config.norm_eps, **dd)
        self.filter = FourierFilter(dim, grid, impl=rest(config.impl), **dd)
        self.norm2 = nn.LayerNorm(dim, eps=config.norm_eps, **dd)
        options: dict[str, Any] = {"act_layer": config.act_layer, "drop": config.proj_drop_rate}
        self.mlp = MlpBlock(dim, int(dim * mlp_ratio), impl=rest(config.impl), **options, **dd)
        self.layer_scale_init = layer_scale_init
        scaled = layer_scale_init is not None
        self.gamma = nn.Parameter(torch.full((dim,), layer_scale_init or 0.0, **dd)) if scaled else None
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def reset_parameters(self) -> None:
        """Draw the filter and the factors anew."""
        self.filter.reset_parameters()
        if self.gamma is not None:
            nn.init.constant_(self.gamma, self.layer_scale_init or 0.0)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        y_BHWC = self.mlp(self.norm2(self.filter(self.norm1(x_BHWC))))
        return x_BHWC + self.drop_path(y_BHWC if self.gamma is None else self.gamma * y_BHWC)


def reset_network(network: nn.Module) -> None:
    """Draw as the authors do: linear maps and positions normal with deviation 0.02, the rest as PyTorch."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            reset_linear(module)
        elif isinstance(module, nn.Conv2d | nn.LayerNorm | GlobalFilterBlock):
            module.reset_parameters()
        elif isinstance(module, PositionedEmbed):
            nn.init.trunc_normal_(module.pos_embed, std=0.02)


class GFNet(IsotropicMapBackbone):
    """Patches with positions, `depth` global filter blocks, LayerNorm, mean, head; a `GFNetPyramid` for its config."""

    family = "gfnet"
    config: GFNetConfig

    def __new__(cls, config: GFNetConfig | GFNetPyramidConfig | None = None, **dd: Any) -> Any:
        """The network that a config describes, of one resolution or of several; copies are made without a config."""
        return GFNetPyramid(config, **dd) if isinstance(config, GFNetPyramidConfig) else super().__new__(cls)

    def build_embedding(self, **dd: Any) -> None:
        """Create `stem`."""
        config = self.config
        self.stem = PositionedEmbed(config.in_chans, config.embed_dim, config.patch_size, config.image_size, **dd)

    def build_block(self, *, drop_path: float, **dd: Any) -> nn.Module:
        """One `GlobalFilterBlock`."""
        config = self.config
        grid = self.grid_at(config.image_size)
        return GlobalFilterBlock(config, config.embed_dim, config.mlp_ratio, grid, drop_path=drop_path, **dd)

    def reset_parameters(self) -> None:
        """Draw as the authors do."""
        reset_network(self)

    def reset_classifier_parameters(self) -> None:
        """Draw the head as every other linear map."""
        reset_network(self.head)

    def no_weight_decay(self) -> set[str]:
        """The position embeddings, which are no linear map."""
        return {"stem.pos_embed"}


class GFNetPyramid(PyramidBackbone):
    """Patches with positions, stages of global filter blocks with 2×2 convolutions between, LayerNorm, mean, head."""

    family = "gfnet"
    config: GFNetPyramidConfig

    def build_stem(self, **dd: Any) -> nn.Module:
        """Patches of 4 pixels, with positions."""
        return PositionedEmbed(self.config.in_chans, self.config.embed_dims[0], 4, self.config.image_size, **dd)

    def build_downsample(self, stage: int, **dd: Any) -> nn.Module:
        """A 2×2 convolution of stride 2."""
        before, after = self.config.embed_dims[stage - 1 : stage + 1]
        return Downsample(before, after, 2, 2, **dd)

    def build_block(self, stage: int, number: int, *, drop_path: float, **dd: Any) -> nn.Module:
        """One `GlobalFilterBlock` with a factor for each channel."""
        config = self.config
        return GlobalFilterBlock(
            config,
            config.embed_dims[stage],
            config.mlp_ratios[stage],
            self.stage_grids[stage],
            drop_path=drop_path,
            layer_scale_init=config.layer_scale_init,
            **dd,
        )

    def reset_parameters(self) -> None:
        """Draw as the authors do."""
        reset_network(self)

    def no_weight_decay(self) -> set[str]:
        """The position embeddings, which are no linear map."""
        return {"stem.pos_embed"}


LAYER = r"((?:norm[12]|mlp\.fc[12])\.(?:weight|bias)|filter\.complex_weight|gamma)"
END = (Rule(r"norm\.(weight|bias)", r"norm.\1"), Rule(r"head\.(weight|bias)", r"head.\1"))
FORMATS = (
    KeyMap(
        "the authors' .pth",
        (
            Rule(r"pos_embed", r"stem.pos_embed"),
            Rule(r"patch_embed\.proj\.(weight|bias)", r"stem.proj.\1"),
            Rule(rf"blocks\.(\d+)\.{LAYER}", r"blocks.\1.\2"),
            *END,
        ),
    ),
    KeyMap(
        "the authors' .pth of a pyramid",
        (
            Rule(r"pos_embed", r"stem.pos_embed"),
            Rule(r"patch_embed\.0\.proj\.(weight|bias)", r"stem.proj.\1"),
            Rule(r"patch_embed\.(\d+)\.proj\.(weight|bias)", r"stages.\1.downsample.proj.\2"),
            Rule(rf"blocks\.(\d+)\.(\d+)\.{LAYER}", r"stages.\1.blocks.\2.\3"),
            *END,
        ),
    ),
)

IMAGENET: dict[str, Any] = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD, "crop_pct": 0.875}


def _file(drive: str, top1: float) -> Weights:
    return Weights(
        where=f"It is on Google Drive, https://drive.google.com/file/d/{drive}: fetch it with a browser and pass "
        "checkpoint_path=",
        license="MIT",
        top1=top1,
        top1_source="README.md of raoyongming/GFNet at 2de48b6",
        **IMAGENET,
    )


WIDE = (96, 192, 384, 768)

FAMILY = Family(
    name="gfnet",
    title="GFNet",
    paper="https://arxiv.org/abs/2107.00645",
    code="https://github.com/raoyongming/GFNet/blob/2de48b6/gfnet.py",
    license="MIT",
    model=GFNet,
    data=IMAGENET,
    variants={
        "gfnet_ti": GFNetConfig(embed_dim=256, depth=12),
        "gfnet_xs": GFNetConfig(embed_dim=384, depth=12),
        "gfnet_s": GFNetConfig(embed_dim=384, depth=19, drop_path_rate=0.15),
        "gfnet_b": GFNetConfig(embed_dim=512, depth=19, drop_path_rate=0.25),
        "gfnet_h_ti": GFNetPyramidConfig(
            embed_dims=(64, 128, 256, 512), depths=(3, 3, 10, 3), layer_scale_init=1e-3, drop_path_rate=0.1
        ),
        "gfnet_h_s": GFNetPyramidConfig(embed_dims=WIDE, depths=(3, 3, 10, 3), drop_path_rate=0.2),
        "gfnet_h_b": GFNetPyramidConfig(
            embed_dims=WIDE, depths=(3, 3, 27, 3), layer_scale_init=1e-6, drop_path_rate=0.4
        ),
    },
    weights={
        "gfnet_ti.in1k": _file("1_xrfC7c_ccZnVicYDnrViOA_T1N-xoHI", 74.6),
        "gfnet_xs.in1k": _file("1paf9gQWdsLXrG58R77yJ3U0FiNINg9xN", 78.6),
        "gfnet_s.in1k": _file("18aRey_1abWNMmSL7TZQ4WxpplLRCDGEl", 80.0),
        "gfnet_b.in1k": _file("1OncnXYAXpdjZBq4JK5Y3xacIHOIMePQo", 80.7),
        "gfnet_h_ti.in1k": _file("1Nrq5sfHD9RklCMl6WkcVrAWI5vSVzwSm", 80.1),
        "gfnet_h_s.in1k": _file("1w4d7o1LTBjmSkb5NKzgXBBiwdBOlwiie", 81.5),
        "gfnet_h_b.in1k": _file("1F900_-yPH7GFYfTt60xn4tu5a926DYL0", 82.9),
    },
    formats=FORMATS,
)

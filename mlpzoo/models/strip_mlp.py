"""Strip-MLP: efficient token interaction for vision MLP (Cao et al., 2023, https://arxiv.org/abs/2307.11458).

Authors' code: Med-Process/Strip_MLP, `models/strip_mlp.py` at 492d705 (no licence file; a badge and a line in the
file's header say MIT).
What differs: weights along the height and along the width and the tables of positions are resized to images of any
size, each along its own axis; the authors' networks take 224×224 alone. What mixes along the width is called `mix_w`
here, `proj_h` there.

Shape suffixes: B batch, C channels, H × W positions.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import DropPath
from torch import Tensor, nn

from mlpzoo.layers import BatchNormNHWC, ConvEmbed, Downsample, SplitReweight, create_activation
from mlpzoo.layers.axis_mixing import fuse
from mlpzoo.layers.depthwise_mixing import DepthwiseMixing
from mlpzoo.layers.grid_bound import GridAxes, GridBound
from mlpzoo.layers.linear import apply_linear, rest
from mlpzoo.models._config import GridBoundConfig
from mlpzoo.models._family import Family, Weights
from mlpzoo.models._pyramid import PyramidBackbone, PyramidConfig, Stage
from mlpzoo.models._recompute import recomputed
from mlpzoo.models.strip_mlp_files import FORMATS
from mlpzoo.ops.resize import Grid, resize_axis
from mlpzoo.ops.strip_mixing import strip_mixing


@dataclasses.dataclass(frozen=True, kw_only=True)
class StripMLPConfig(PyramidConfig, GridBoundConfig):
    """Settings of a Strip-MLP. The authors' stochastic depth is the same in every block."""

    mlp_ratios: tuple[float, ...] = (3, 3, 3, 3)
    drop_path_rate: float = 0.1
    drop_path_decay: bool = False

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        self._require("embed_dims", all(dim % 8 == 0 for dim in self.embed_dims), "multiples of 8")
        grows = all(after % before == 0 for before, after in itertools.pairwise(self.embed_dims))
        self._require("embed_dims", grows, "each a multiple of the one before, which shortcuts spread over it")


class StripMixing(nn.Module):
    """Whole lines mixed with their two neighbours, see `strip_mixing`: `(B, C, H, W)` to the same."""

    def __init__(self, groups: int, length: int, axis: int, impl: str, **dd: Any) -> None:
        super().__init__()
        self.axis = axis
        self.impl = impl
        self.weight = nn.Parameter(torch.empty(groups, length, length, 3, **dd))
        self.bias = nn.Parameter(torch.empty(groups * length, **dd))

    def reset_parameters(self) -> None:
        """Draw the parameters as PyTorch draws a convolution's."""
        bound = (3 * self.weight.shape[2]) ** -0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """`(batch, channels, height, width)` to the same."""
        return strip_mixing(x_BCHW, self.weight, self.bias, self.axis, self.impl)


class CascadeStripMixing(GridBound):
    """Lines along the width mixed, then lines along the height, each fused with the map itself.

    What is mixed has a learned vector of its position added, which depends on w − h.

    Args:
        dim: channels.
        groups: groups of channels with a weight of their own.
        grid: height and width of the map, in positions.
        config: the network's.
        dd: `device` and `dtype` of the parameters.

    Shape:
        `(batch, dim, height, width)` to the same.
    """

    grid_axes: ClassVar[GridAxes] = {
        "mix_w.weight": ("", "out_width", "in_width", ""),
        "mix_h.weight": ("", "out_height", "in_height", ""),
    }
    norm_after: ClassVar = {"fuse_w": "norm"}

    def __init__(self, dim: int, groups: int, grid: Grid, config: StripMLPConfig, **dd: Any) -> None:
        super().__init__()
        self.grid = grid
        self.impl = rest(config.impl)
        self.pos_w = nn.Parameter(torch.empty(sum(grid) + 1, dim, **dd))
        self.pos_h = nn.Parameter(torch.empty(sum(grid) + 1, dim, **dd))
        self.mix_w = StripMixing(groups, grid[1], 3, self.impl, **dd)
        self.fuse_w = nn.Conv2d(2 * dim, dim, 1, bias=False, **dd)
        self.norm: nn.Module = nn.BatchNorm2d(dim, eps=config.norm_eps, **dd)
        self.act = create_activation(config.act_layer)
        self.mix_h = StripMixing(groups, grid[0], 2, self.impl, **dd)
        self.fuse_h = nn.Conv2d(2 * dim, dim, 1, bias=False, **dd)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """`(batch, dim, height, width)` to the same."""
        mixed_BCHW = self.mix_w(x_BCHW + self.positions(self.pos_w))
        y_BCHW = self.act(self.norm(fuse(self.fuse_w, self.impl, mixed_BCHW, x_BCHW)))
        mixed_BCHW = self.mix_h(y_BCHW + self.positions(self.pos_h))
        return fuse(self.fuse_h, self.impl, x_BCHW, mixed_BCHW)

    def positions(self, table: Tensor) -> Tensor:
        """The vector of each position, `(dim, height, width)`: row w − h + height of the table."""
        height, width = self.grid
        rows_H = torch.arange(height, device=table.device)
        columns_W = torch.arange(width, device=table.device)
        return table[columns_W - rows_H[:, None] + height].permute(2, 0, 1)

    def weights_at(self, new_grid: Grid) -> Iterator[tuple[str, Tensor]]:
        """As in the base class, and the biases of each group, and the tables by what w − h is of the whole line."""
        yield from super().weights_at(new_grid)
        for name, mixing, role in (("mix_w", self.mix_w, "out_width"), ("mix_h", self.mix_h, "out_height")):
            bias = mixing.bias.unflatten(0, (len(mixing.weight), -1))
            yield f"{name}.bias", resize_axis(bias, 1, role, self.grid, new_grid).flatten()
        yield "pos_w", resized_table(self.pos_w, self.grid, new_grid)
        yield "pos_h", resized_table(self.pos_h, self.grid, new_grid)


def resized_table(table: Tensor, old_grid: Grid, new_grid: Grid) -> Tensor:
    """A table over w − h from −height to width at another grid: linear between rows, with the diagonal kept.

    Args:
        table: `(height + width + 1, channels)`.
        old_grid: height and width that it is for.
        new_grid: height and width wanted.
    """
    if old_grid == new_grid:
        return table
    (old_height, old_width), (height, width) = old_grid, new_grid
    offset = torch.arange(-height, width + 1, device=table.device, dtype=torch.float64)
    place = old_height + torch.where(offset < 0, offset * (old_height / height), offset * (old_width / width))
    low = place.floor().long().clamp(0, len(table) - 2)
    return torch.lerp(table[low], table[low + 1], (place - low).to(table.dtype)[:, None])


class StripTokenMixing(nn.Module):
    """Local mixing, then one half of the channels mixed along lines and the other by long depthwise convolutions.

    Shape:
        `(batch, dim, height, width)` to the same.
    """

    norm_after: ClassVar = {"proj": "norm"}

    def __init__(self, dim: int, grid: Grid, config: StripMLPConfig, **dd: Any) -> None:
        super().__init__()
        half = dim // 2
        self.impl = rest(config.impl)
        self.local = DepthwiseMixing(dim, config.act_layer, config.norm_eps, **dd)
        self.proj = nn.Conv2d(dim, dim, 1, **dd)
        self.norm: nn.Module = nn.BatchNorm2d(dim, eps=config.norm_eps, **dd)
        self.act = create_activation(config.act_layer)
        # So the authors count groups: what is called a patch in their code is 2 channels of each, or 4.
        groups = dim // (4 if dim % 80 == 0 else 8)
        self.strips = CascadeStripMixing(half, groups, grid, config, **dd)
        self.conv_w = nn.Conv2d(half, half, (3, 7), padding=(1, 3), groups=half, bias=False, **dd)
        self.conv_h = nn.Conv2d(half, half, (7, 3), padding=(3, 1), groups=half, bias=False, **dd)
        self.reweight = SplitReweight(half, hidden=half // 2, impl=self.impl, **dd)
        self.fuse = nn.Conv2d(dim, dim, 1, bias=False, **dd)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """`(batch, dim, height, width)` to the same."""
        lines_BCHW, near_BCHW = self.act(self.norm(self.proj(self.local(x_BCHW)))).chunk(2, 1)
        branches = (self.conv_h(near_BCHW), self.conv_w(near_BCHW), near_BCHW)
        near_BHWC = self.reweight(*(branch.permute(0, 2, 3, 1) for branch in branches))
        return fuse(self.fuse, self.impl, self.strips(lines_BCHW), near_BHWC.permute(0, 3, 1, 2))


class ResponseNorm(nn.Module):
    """Global response normalization (ConvNeXt V2): channels scaled by their share in the map, `(B, H, W, C)`."""

    def __init__(self, dim: int, **dd: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(dim, **dd))
        self.bias = nn.Parameter(torch.zeros(dim, **dd))

    def reset_parameters(self) -> None:
        """Zeros: the identity."""
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        norm_B11C = x_BHWC.norm(dim=(1, 2), keepdim=True)
        share_B11C = norm_B11C / (norm_B11C.mean(dim=-1, keepdim=True) + 1e-6)
        return torch.addcmul(self.bias, x_BHWC, 1 + self.weight * share_B11C)


class StripChannelMixing(nn.Module):
    """7×7 depthwise convolution, LayerNorm, linear, activation, response norm, linear: `(B, H, W, C)` to the same."""

    def __init__(self, dim: int, mlp_dim: int, config: StripMLPConfig, **dd: Any) -> None:
        super().__init__()
        self.impl = rest(config.impl)
        self.conv = nn.Conv2d(dim, dim, 7, padding=3, groups=dim, bias=False, **dd)
        self.norm = nn.LayerNorm(dim, eps=config.norm_eps, **dd)
        self.fc1 = nn.Linear(dim, mlp_dim, **dd)
        self.act = create_activation(config.act_layer)
        self.response_norm = ResponseNorm(mlp_dim, **dd)
        self.drop1 = nn.Dropout(config.proj_drop_rate)
        self.fc2 = nn.Linear(mlp_dim, dim, **dd)
        self.drop2 = nn.Dropout(config.proj_drop_rate)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        x_BHWC = self.norm(self.conv(x_BHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        x_BHWC = self.drop1(self.response_norm(apply_linear(self.fc1, x_BHWC, self.act, impl=self.impl)))
        return self.drop2(apply_linear(self.fc2, x_BHWC, impl=self.impl))


class StripBlock(nn.Module):
    """Token mixing and channel mixing, each with a skip: `(B, H, W, C)` to the same."""

    def __init__(
        self, dim: int, grid: Grid, mlp_dim: int, config: StripMLPConfig, *, drop_path: float, **dd: Any
    ) -> None:
        super().__init__()
        self.token_mixing = StripTokenMixing(dim, grid, config, **dd)
        self.channel_mixing = StripChannelMixing(dim, mlp_dim, config, **dd)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        x_BHWC = x_BHWC + self.drop_path(self.token_mixing(x_BHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return x_BHWC + self.drop_path(self.channel_mixing(x_BHWC))


class StripStage(Stage):
    """A stage that also takes what entered the stages before, each through a 2×2 depthwise convolution of stride 2."""

    def __init__(self, downsample: nn.Module, blocks: nn.Sequential, shortcuts: Sequence[nn.Module]) -> None:
        super().__init__(downsample, blocks)
        self.shortcuts = nn.ModuleList(shortcuts)

    def forward(  # type: ignore[override]
        self, x_BHWC: Tensor, earlier: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The map of the stage before and what the shortcuts carry, to this stage's map and what they carry on."""
        x_BHWC = self.downsample(x_BHWC)
        carried = (*map(_through, self.shortcuts, earlier), x_BHWC)
        for y_BHWC in carried[:-1]:
            x_BHWC = x_BHWC + y_BHWC
        for block in self.blocks:
            x_BHWC = recomputed(block, x_BHWC) if self.grad_checkpointing else block(x_BHWC)
        return x_BHWC, (() if isinstance(self.downsample, nn.Identity) else carried)


def _through(conv: nn.Module, x_BHWC: Tensor) -> Tensor:
    return conv(x_BHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class StripMLP(PyramidBackbone):
    """Patches, stages of Strip-MLP blocks with 2×2 convolutions and shortcuts between, BatchNorm, mean, head."""

    family = "strip_mlp"
    config: StripMLPConfig
    pytorch_init = True
    parts_are_a_chain = False

    def build_stem(self, **dd: Any) -> nn.Module:
        """Patches of 4 pixels, without a bias."""
        return ConvEmbed(self.config.in_chans, self.config.embed_dims[0], 4, 4, bias=False, impl=self.config.impl, **dd)

    def build_downsample(self, stage: int, **dd: Any) -> nn.Module:
        """A 2×2 convolution of stride 2, without a bias."""
        before, after = self.config.embed_dims[stage - 1 : stage + 1]
        return Downsample(before, after, 2, 2, bias=False, impl=self.config.impl, **dd)

    def build_stage(self, stage: int, downsample: nn.Module, blocks: nn.Sequential) -> Stage:
        """A `StripStage` with a shortcut from each stage before but the first."""
        before, after = self.config.embed_dims[max(stage - 1, 0)], self.config.embed_dims[stage]
        anchor = next(blocks.parameters())
        dd: dict[str, Any] = {"device": anchor.device, "dtype": anchor.dtype}
        shortcuts = [nn.Conv2d(before, after, 2, 2, groups=before, bias=False, **dd) for _ in range(stage - 1)]
        return StripStage(downsample, blocks, shortcuts)

    def build_block(self, stage: int, number: int, *, drop_path: float, **dd: Any) -> nn.Module:
        """One `StripBlock`."""
        config = self.config
        dim = config.embed_dims[stage]
        mlp_dim = int(dim * config.mlp_ratios[stage])
        return StripBlock(dim, self.stage_grids[stage], mlp_dim, config, drop_path=drop_path, **dd)

    def build_norm(self, dim: int, **dd: Any) -> nn.Module:
        """A BatchNorm."""
        return BatchNormNHWC(dim, self.config.norm_eps, **dd)

    def walk(self, x: Tensor, last: int) -> Iterator[Tensor]:
        """What leaves each stage."""
        carried: tuple[Tensor, ...] = ()
        for part in self.parts[: last + 1]:
            x, carried = part(x, carried)
            yield x

    def reset_parameters(self) -> None:
        """Draw as PyTorch draws, but the tables of positions: normal with deviation 0.02."""
        super().reset_parameters()
        for module in self.modules():
            if isinstance(module, CascadeStripMixing):
                nn.init.trunc_normal_(module.pos_w, std=0.02)
                nn.init.trunc_normal_(module.pos_h, std=0.02)

    def no_weight_decay(self) -> set[str]:
        """Nothing besides what has one dimension."""
        return set()


IMAGENET: dict[str, Any] = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD, "crop_pct": 0.875}
LICENSE = "none stated (an MIT badge in the README)"


def _config(dim: int, depths: tuple[int, ...]) -> StripMLPConfig:
    return StripMLPConfig(embed_dims=(dim, 2 * dim, 4 * dim, 8 * dim), depths=depths)


def _file(key: str, top1: float) -> Weights:
    return Weights(
        where=f"It is on Baidu, https://pan.baidu.com/s/{key} (password 1234): fetch it with a browser and pass "
        "checkpoint_path=",
        license=LICENSE,
        top1=top1,
        top1_source="README.md of Med-Process/Strip_MLP at 492d705",
        **IMAGENET,
    )


FAMILY = Family(
    name="strip_mlp",
    title="Strip-MLP",
    paper="https://arxiv.org/abs/2307.11458",
    code="https://github.com/Med-Process/Strip_MLP/blob/492d705/models/strip_mlp.py",
    license=LICENSE,
    model=StripMLP,
    data={**IMAGENET, "pool_size": (7, 7)},
    variants={
        "strip_mlp_t_light": _config(80, (2, 2, 6, 2)),
        "strip_mlp_t": _config(80, (2, 2, 12, 2)),
        "strip_mlp_s": _config(96, (2, 2, 18, 2)),
        "strip_mlp_b": _config(112, (2, 2, 18, 2)),
    },
    weights={
        "strip_mlp_t_light.in1k": _file("15SQy1MxY5RQlybNVpuFQcg", 81.2),
        "strip_mlp_t.in1k": _file("1mUDavm3Y8pmW8p7QmypnNQ", 82.2),
        "strip_mlp_s.in1k": _file("1uXoPzrhptbA8FBuQcaOrVg", 83.3),
        "strip_mlp_b.in1k": _file("1t4iQuMqUR8yfAO0kRS1EFg", 83.6),
    },
    formats=FORMATS,
)

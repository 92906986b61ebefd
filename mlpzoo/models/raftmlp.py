"""RaftMLP: how much can be done without attention and with less spatial locality? (Tatsunami and Taki, 2021).

Paper: https://arxiv.org/abs/2108.04384.
Authors' code: okojoalg/raft-mlp, `libs/models.py` at 6060d5d (Apache-2.0).
What differs: image sizes are met as the authors do, by bicubic interpolation of maps, or by resized weights where
`token_resize` says so. The weights of the norms before token mixing stand in the order of the channels that they scale.

Shape suffixes: B batch, I image channels, H × W positions, C channels, K rows and columns of a kernel.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.fx
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import DropPath, to_2tuple
from torch import Tensor, nn

from mlpzoo.layers import MlpBlock, TokenLinear, create_activation
from mlpzoo.layers.folding import has_hooks, may_merge, rounded, wide
from mlpzoo.layers.grid_bound import GridBound, GridFound, Shapes
from mlpzoo.layers.linear import rest
from mlpzoo.layers.mixing import activated_tokens
from mlpzoo.models._base import take_indices
from mlpzoo.models._config import GridBoundConfig
from mlpzoo.models._family import Family
from mlpzoo.models._pyramid import PyramidBackbone, PyramidConfig
from mlpzoo.models.raftmlp_files import FORMATS
from mlpzoo.ops import fast_path
from mlpzoo.ops.multi_scale import multi_scale_conv, one_kernel
from mlpzoo.ops.raft import gather_raft, scatter_raft
from mlpzoo.ops.resize import Grid, resize_axis


@dataclasses.dataclass(frozen=True, kw_only=True)
class RaftMLPConfig(PyramidConfig, GridBoundConfig):
    """Settings of a RaftMLP.

    Attributes:
        feature_norms: whether feature maps are those of the authors' dense code: the first is the embedding that the
            first stage begins with, and none has a norm.
        token_resize: how images of another size than `img_size` are met. `"maps"`: each map is interpolated to the grid
            that token mixing is bound to, and back, as the authors do; any size goes in. `"weights"`: by resized
            weights, where `set_input_size` or `dynamic_img_size` say so, as in the other families.
        patch_sizes: by how much each stage shrinks the map.
        kernels: how many kernels each stage's embedding has, each twice as wide as the one before; the first is as wide
            as the patch.
        token_ratio: hidden units of token mixing for every number mixed.
        token_size: image height and width in pixels whose lines are those numbers where weights are resized: hidden
            units do not follow `img_size` then, so that a file fits at every size.
        raft: parts of the channels that are mixed with each other along a line.
    """

    mlp_ratios: tuple[float, ...] = (4, 4, 4, 4)
    drop_path_rate: float = 0.1
    drop_path_decay: bool = False
    token_resize: str = "maps"
    patch_sizes: tuple[int, ...] = (4, 2, 2, 2)
    kernels: tuple[int, ...] = (2, 2, 2, 1)
    token_ratio: float = 2.0
    token_size: int | Grid = 224
    raft: int = 2

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        self._require_for_each_stage("patch_sizes")
        self._require_for_each_stage("kernels")
        holds = all(count == 1 or patch % 2 == 0 for count, patch in zip(self.kernels, self.patch_sizes, strict=True))
        self._require("patch_sizes", holds, "even where a stage has several kernels")
        self._require("token_resize", self.token_resize in ("maps", "weights"), "'maps' or 'weights'")
        self._require("token_ratio", self.token_ratio > 0, "above 0")
        self._require("raft", self.raft >= 1, "1 or more")
        self._require("embed_dims", all(dim % self.raft == 0 for dim in self.embed_dims), f"multiples of {self.raft}")

    @property
    def image_size(self) -> Grid | None:  # type: ignore[override]
        """Image height and width in pixels that weights are bound to, unless maps are interpolated."""
        return self.data_size if self.token_resize == "weights" else None

    @property
    def data_size(self) -> Grid:
        """Image height and width in pixels that weights were made for."""
        height, width = to_2tuple(self.img_size)
        return height, width

    def lines(self, stage: int) -> Grid:
        """Positions of a line along the height and along the width that a stage's hidden units are counted for."""
        height, width = to_2tuple(self.img_size if self.token_resize == "maps" else self.token_size)
        for patch in self.patch_sizes[: stage + 1]:
            height, width = -(-height // patch), -(-width // patch)
        return height, width

    @property
    def resizes_weights(self) -> bool:
        """Whether images of any size go in, met by weights resized to each."""
        return self.dynamic_img_size and self.token_resize == "weights"

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """The patches up to each stage, multiplied."""
        return tuple(math.prod(self.patch_sizes[: stage + 1]) for stage in range(len(self.depths)))


def resized_map(x_BHWC: Tensor, grid: Grid) -> Tensor:
    """A map interpolated bicubically between the centres of positions; itself where it has that size."""
    if not torch.compiler.is_compiling() and x_BHWC.shape[1:3] == grid:
        return x_BHWC
    resized = F.interpolate(x_BHWC.permute(0, 3, 1, 2), size=grid, mode="bicubic", align_corners=False)
    return resized.permute(0, 2, 3, 1)


def whole_patches(x_BCHW: Tensor, patch: int) -> Tensor:
    """A map stretched to whole patches where it is not of whole patches."""
    height, width = x_BCHW.shape[2:]
    size = (-(-height // patch) * patch, -(-width // patch) * patch)
    return resized_map(x_BCHW.permute(0, 2, 3, 1), size).permute(0, 3, 1, 2)


torch.fx.wrap("resized_map")
torch.fx.wrap("whole_patches")


class MultiScaleEmbed(nn.Module):
    """Patches of several widths around the same centres, each by a linear map, added up (multi-scale patch embedding).

    All kernels are equal to one that is as wide as the widest. It reads the map once.

    Args:
        in_chans: channels in.
        out_chans: channels out.
        patch: pixels or positions from one patch to the next, and the width of the narrowest kernel.
        kernels: how many there are, each twice as wide as the one before.
        channels_last: whether maps come in with their channels last.
        impl: `"reference"` to compute them as the authors do, from unfolded patches side by side.
        dd: `device` and `dtype` of the parameters.

    Shape:
        `(batch, in_chans, height, width)`, or with the channels last, to
        `(batch, ⌈height / patch⌉, ⌈width / patch⌉, out_chans)`. A map of no whole patches is stretched before.
    """

    def __init__(
        self, in_chans: int, out_chans: int, patch: int, kernels: int, *, channels_last: bool, impl: str, **dd: Any
    ) -> None:
        super().__init__()
        self.stride, self.channels_last, self.impl = patch, channels_last, impl
        self.proj = nn.Conv2d(in_chans, out_chans, patch, patch, **dd)
        wider = [patch * 2**i for i in range(1, kernels)]
        self.wider = nn.ModuleList(
            nn.Conv2d(in_chans, out_chans, side, patch, (side - patch) // 2, bias=False, **dd) for side in wider
        )

    def reset_parameters(self) -> None:
        """Draw all kernels as PyTorch draws the one linear layer that the authors have."""
        convs = [self.proj, *self.wider]
        assert self.proj.bias is not None
        bound = sum(conv.get_parameter("weight")[0].numel() for conv in convs) ** -0.5
        for value in (*(conv.get_parameter("weight") for conv in convs), self.proj.bias):
            nn.init.uniform_(value, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """An image or a map to the map."""
        x_BIHW = whole_patches(x.permute(0, 3, 1, 2) if self.channels_last else x, self.stride)
        if fast_path(self.proj, *self.wider):
            kernels: list[Any] = [conv.weight for conv in self.wider]
            y_BCHW = multi_scale_conv(x_BIHW, self.proj.bias, self.stride, self.impl, self.proj.weight, *kernels)
        else:
            y_BCHW = self.proj(x_BIHW)
            for conv in self.wider:
                y_BCHW = y_BCHW + conv(x_BIHW)
        return y_BCHW.permute(0, 2, 3, 1).contiguous()

    def grid_after(self, grid: Grid) -> Grid:
        """Height and width of the map for those of what comes in."""
        return -(-grid[0] // self.stride), -(-grid[1] // self.stride)

    def folded(self) -> nn.Module:
        """Itself with one kernel."""
        if len(self.wider) > 0 and may_merge(self.proj, *self.wider) and not has_hooks(self.wider):
            weight = one_kernel(*(wide(conv.get_parameter("weight")) for conv in (self.proj, *self.wider)))
            side = weight.shape[2]
            conv = nn.Conv2d(weight.shape[1], len(weight), side, self.stride, (side - self.stride) // 2, device="meta")
            conv.weight, conv.bias = rounded(weight, self.proj.weight), self.proj.bias
            self.proj, self.wider = conv, nn.ModuleList()
        return self


class RaftMixing(GridBound):
    """A LayerNorm and an MLP over the numbers of a line, see `gather_raft`, with a skip: `(B, H, W, C)` to the same.

    Args:
        dim: channels.
        grid: height and width of the map, in positions.
        lines: those that hidden units are counted for.
        axis: 1 for lines along the height, 2 along the width.
        config: the network's.
        drop_path: stochastic depth rate.
        dd: `device` and `dtype` of the parameters.
    """

    def __init__(
        self, dim: int, grid: Grid, lines: Grid, axis: int, config: RaftMLPConfig, *, drop_path: float, **dd: Any
    ) -> None:
        super().__init__()
        self.grid, self.axis, self.raft, self.impl = grid, axis, config.raft, rest(config.impl)
        self.norm = nn.LayerNorm(dim, eps=config.norm_eps, **dd)
        size = config.raft * grid[axis - 1]
        hidden = int(config.raft * lines[axis - 1] * config.token_ratio)
        self.fc1 = TokenLinear(size, hidden, impl=self.impl, **dd)
        self.act = create_activation(config.act_layer)
        self.drop1 = nn.Dropout(config.proj_drop_rate)
        self.fc2 = TokenLinear(hidden, size, impl=self.impl, **dd)
        self.drop2 = nn.Dropout(config.proj_drop_rate)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        height, width = x_BHWC.shape[1:3]
        lines_NTC = gather_raft(self.norm(x_BHWC), self.raft, self.axis, self.impl)
        hidden_NSC = self.drop1(activated_tokens(self.fc1, self.act, lines_NTC))
        mixed_NTC = self.drop2(self.fc2(hidden_NSC))
        return x_BHWC + self.drop_path(scatter_raft(mixed_NTC, self.raft, self.axis, height, width, self.impl))

    def weights_at(self, new_grid: Grid) -> Iterator[tuple[str, Tensor]]:
        """The weights that read and write lines, each part of the channels by itself."""
        line, parts = ("height", "width")[self.axis - 1], (self.raft, -1)
        assert self.fc2.bias is not None
        read = resize_axis(self.fc1.weight.unflatten(1, parts), 2, f"in_{line}", self.grid, new_grid)
        yield "fc1.weight", read.flatten(1)
        for name, value in (("weight", self.fc2.weight), ("bias", self.fc2.bias)):
            written = resize_axis(value.unflatten(0, parts), 1, f"out_{line}", self.grid, new_grid)
            yield f"fc2.{name}", written.flatten(0, 1)

    def grid_in(self, shapes: Shapes, prefix: str = "") -> GridFound:
        """The length of lines."""
        bias = shapes.get(f"{prefix}fc2.bias")
        length = bias[0] // self.raft if bias else None
        return GridFound(height=length) if self.axis == 1 else GridFound(width=length)


class RaftBlock(nn.Module):
    """Mixing along the height, along the width, and over the channels: `(B, H, W, C)` to the same.

    A map of another grid than that which the weights are bound to is interpolated to it for the first two, and back.
    """

    def __init__(
        self, dim: int, grid: Grid, lines: Grid, mlp_dim: int, config: RaftMLPConfig, *, drop_path: float, **dd: Any
    ) -> None:
        super().__init__()
        self.mix_h = RaftMixing(dim, grid, lines, 1, config, drop_path=drop_path, **dd)
        self.mix_w = RaftMixing(dim, grid, lines, 2, config, drop_path=drop_path, **dd)
        self.norm = nn.LayerNorm(dim, eps=config.norm_eps, **dd)
        options: dict[str, Any] = {"act_layer": config.act_layer, "drop": config.proj_drop_rate}
        self.mlp = MlpBlock(dim, mlp_dim, impl=rest(config.impl), **options, **dd)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        height, width = x_BHWC.shape[1:3]
        x_BHWC = self.mix_w(self.mix_h(resized_map(x_BHWC, self.mix_h.grid)))
        x_BHWC = resized_map(x_BHWC, (height, width))
        return x_BHWC + self.drop_path(self.mlp(self.norm(x_BHWC)))


class RaftMLP(PyramidBackbone):
    """Multi-scale patches, stages of RaftMLP blocks with the same between, LayerNorm, mean, head."""

    family = "raftmlp"
    config: RaftMLPConfig
    pytorch_init = True

    def build_stem(self, **dd: Any) -> nn.Module:
        """Patches of several widths."""
        config = self.config
        options: dict[str, Any] = {"channels_last": False, "impl": rest(config.impl), **dd}
        return MultiScaleEmbed(
            config.in_chans, config.embed_dims[0], config.patch_sizes[0], config.kernels[0], **options
        )

    def build_downsample(self, stage: int, **dd: Any) -> nn.Module:
        """The same from map to map."""
        config = self.config
        options: dict[str, Any] = {"channels_last": True, "impl": rest(config.impl), **dd}
        before, after = config.embed_dims[stage - 1 : stage + 1]
        return MultiScaleEmbed(before, after, config.patch_sizes[stage], config.kernels[stage], **options)

    def build_block(self, stage: int, number: int, *, drop_path: float, **dd: Any) -> nn.Module:
        """One `RaftBlock`."""
        config = self.config
        dim = config.embed_dims[stage]
        mlp_dim = int(dim * config.mlp_ratios[stage])
        lines = config.lines(stage)
        return RaftBlock(dim, self.stage_grids[stage], lines, mlp_dim, config, drop_path=drop_path, **dd)

    def build_feature_norm(self, dim: int, **dd: Any) -> nn.Module:
        """None: the authors' dense code has no norms."""
        return nn.Identity()

    def reset_parameters(self) -> None:
        """Draw as PyTorch draws; several kernels as the one linear layer that they are to the authors."""
        super().reset_parameters()
        for module in self.modules():
            if isinstance(module, MultiScaleEmbed):
                module.reset_parameters()

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """As in the base class; the first map is the embedding alone where the config asks for `feature_norms`."""
        found = super().forward_intermediates(x, indices, norm, stop_early, output_fmt, intermediates_only)
        features = found if isinstance(found, list) else found[1]
        taken = take_indices(len(self.parts), indices)
        if self.config.feature_norms and 0 in taken:
            net, x = self.fitting(x)
            features[taken.index(0)] = net.as_feature(net.embed(x), 0, norm, output_fmt)
        return found


IMAGENET: dict[str, Any] = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
DEPTHS = (2, 2, 6, 2)

FAMILY = Family(
    name="raftmlp",
    title="RaftMLP",
    paper="https://arxiv.org/abs/2108.04384",
    code="https://github.com/okojoalg/raft-mlp/blob/6060d5d/libs/models.py",
    license="Apache-2.0",
    model=RaftMLP,
    data={**IMAGENET, "pool_size": (7, 7)},
    # No files are released.
    variants={
        "raftmlp_s": RaftMLPConfig(embed_dims=(64, 128, 256, 512), depths=DEPTHS),
        "raftmlp_m": RaftMLPConfig(embed_dims=(96, 192, 384, 768), depths=DEPTHS),
        "raftmlp_l": RaftMLPConfig(embed_dims=(128, 192, 512, 1024), depths=DEPTHS),
    },
    formats=FORMATS,
)

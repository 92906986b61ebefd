"""RepMLPNet: hierarchical vision MLP with re-parameterized locality (Ding et al., 2021).

Paper: https://arxiv.org/abs/2112.11081.
Authors' code: DingXiaoH/RepMLP, `repmlpnet.py` at 3eff13f (MIT).
What differs: maps keep their channels last. `mlpzoo.deploy.fold` does what the authors' `locality_injection` does, and
folds the other BatchNorms as well. With several partitions the authors' code moves each to another place and another
group of channels; so does this, unless `exact=False`.

Shape suffixes: B batch, I image channels, C channels, H × W positions, Z share sets, T positions of a partition read,
U positions written, N rows, see `mlpzoo.ops.partition_mixing`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import DropPath
from torch import Tensor, nn

from mlpzoo.layers import BatchNormNHWC, create_activation, pointwise
from mlpzoo.layers.folding import (
    has_hooks,
    is_fixed,
    may_merge,
    rounded,
    scale_and_shift,
    wide,
    with_map_before,
    with_norm_after,
)
from mlpzoo.layers.linear import apply_linear, rest
from mlpzoo.models._family import Family, Weights
from mlpzoo.models._windows import WindowedBackbone, WindowedConfig
from mlpzoo.models.repmlpnet_files import FORMAT
from mlpzoo.ops import channels_last, channels_second
from mlpzoo.ops.partition_mixing import map_of, partition_mixing, rows_mixed, rows_of
from mlpzoo.ops.resize import Grid


@dataclasses.dataclass(frozen=True, kw_only=True)
class RepMLPNetConfig(WindowedConfig):
    """Settings of a RepMLPNet. Its partitions are the windows of `WindowedConfig`.

    Attributes:
        share_sets: how many sets of channels each stage has, each of which mixes positions by one matrix.
        local_kernels: sides of the convolutions beside that matrix, in training form.
        deploy: whether those convolutions are part of the matrix.
        exact: whether several partitions change places as in the authors' code. With `dynamic_img_size` they never do.
    """

    mlp_ratios: tuple[float, ...] = (4, 4, 4, 4)
    share_sets: tuple[int, ...]
    local_kernels: tuple[int, ...] = (1, 3)
    deploy: bool = False
    exact: bool = True

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        self._require_for_each_stage("share_sets")
        divides = all(dim % sets == 0 for dim, sets in zip(self.embed_dims, self.share_sets, strict=True))
        self._require("share_sets", divides, "divisors of each stage's channels")
        # JSON has no tuples: a config that went through a file comes back with lists.
        object.__setattr__(self, "local_kernels", tuple(self.local_kernels))
        self._require("local_kernels", all(side % 2 for side in self.local_kernels), "odd numbers")

    @property
    def moves_partitions(self) -> bool:
        """Whether several partitions change places."""
        return self.exact and not self.dynamic_img_size

    def fields_from_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
        """As in the base class, and whether the file is in the deploy form: its matrices have biases then."""
        told = super().fields_from_shapes(shapes)
        return {**told, "deploy": "stages.0.blocks.0.mixing.partitions.bias" in shapes} if told else told


class ConvNormReLU(nn.Module):
    """Patches that do not overlap, BatchNorm, ReLU: an image `(B, I, H, W)` to `(B, H, W, C)`."""

    norm_after: ClassVar = {"proj": "norm"}

    def __init__(self, in_chans: int, dim: int, stride: int, norm_eps: float, impl: str, **dd: Any) -> None:
        super().__init__()
        self.stride, self.impl = stride, impl
        self.proj = nn.Conv2d(in_chans, dim, stride, stride, bias=False, **dd)
        self.norm = nn.BatchNorm2d(dim, eps=norm_eps, **dd)

    def forward(self, x_BIHW: Tensor) -> Tensor:
        """`(batch, in_chans, height, width)` to `(batch, height', width', dim)`."""
        x_BIHW = x_BIHW if self.impl == "reference" else channels_last(x_BIHW)
        return F.relu(self.norm(self.proj(x_BIHW))).permute(0, 2, 3, 1).contiguous()

    def grid_after(self, grid: Grid) -> Grid:
        """Height and width of the map for those of what comes in."""
        return grid[0] // self.stride, grid[1] // self.stride


class ConvDownsample(ConvNormReLU):
    """The same from a map `(B, H, W, C)`."""

    norm_after: ClassVar = {"proj": "norm"}

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, in_chans)` to `(batch, height / 2, width / 2, dim)`."""
        return super().forward(channels_second(x_BHWC))


class MergedPartitions(nn.Module):
    """A `LocalPartitions` in deploy form: one matrix and bias for each share set; `(B, H, W, C)` to the same."""

    def __init__(self, sets: int, window: int, moved: bool, impl: str, **dd: Any) -> None:
        super().__init__()
        self.window, self.moved, self.impl = window, moved, impl
        self.weight = nn.Parameter(torch.empty(sets, window**2, window**2, **dd))
        self.bias = nn.Parameter(torch.empty(sets * window**2, **dd))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw as PyTorch draws a convolution."""
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1 / self.window, 1 / self.window)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, channels)` to the same."""
        bias_ZU = self.bias.view(self.weight.shape[:2])
        return partition_mixing(x_BHWC, self.weight, bias_ZU, self.window, self.moved, self.impl)


class LocalPartitions(nn.Module):
    """One matrix for each share set, and convolutions beside it inside each partition, a BatchNorm after each.

    `(B, H, W, C)` to the same.
    """

    def __init__(
        self, sets: int, window: int, kernels: tuple[int, ...], norm_eps: float, moved: bool, impl: str, **dd: Any
    ) -> None:
        super().__init__()
        self.window, self.moved, self.impl = window, moved, impl
        self.weight = nn.Parameter(torch.empty(sets, window**2, window**2, **dd))
        self.norm = nn.BatchNorm2d(sets, eps=norm_eps, **dd)
        self.convs = nn.ModuleList(
            nn.Conv2d(sets, sets, side, padding=side // 2, groups=sets, bias=False, **dd) for side in kernels
        )
        self.conv_norms = nn.ModuleList(nn.BatchNorm2d(sets, eps=norm_eps, **dd) for _ in kernels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the matrices as PyTorch draws a convolution."""
        nn.init.uniform_(self.weight, -1 / self.window, 1 / self.window)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, channels)` to the same."""
        rows_NZRS = rows_of(x_BHWC, self.weight.shape[0], self.window)
        y_NZRS = self.norm(rows_mixed(rows_NZRS, self.weight, impl=self.impl))
        for conv, norm in zip(self.convs, self.conv_norms, strict=True):
            y_NZRS = y_NZRS + norm(conv(rows_NZRS))
        return map_of(y_NZRS, x_BHWC, self.moved)

    def folded(self) -> nn.Module:
        """All branches in one matrix: that of a convolution is what it makes of each unit vector."""
        parts = (*self.convs, self.norm, *self.conv_norms)
        if has_hooks(*parts) or not may_merge(*parts) or not all(map(is_fixed, (self.norm, *self.conv_norms))):
            return self
        (sets, tokens, _), window = self.weight.shape, self.window
        scale_Z, shift_Z = scale_and_shift(self.norm)
        weight = wide(self.weight) * scale_Z.view(-1, 1, 1)
        bias_ZU = shift_Z.view(-1, 1).repeat(1, tokens)
        unit = torch.eye(tokens, dtype=weight.dtype, device=weight.device).view(tokens, 1, window, window)
        for conv, norm in zip(self.convs, self.conv_norms, strict=True):
            assert isinstance(conv, nn.Conv2d)
            assert is_fixed(norm)
            scale_Z, shift_Z = scale_and_shift(norm)
            kernel = wide(conv.weight) * scale_Z.view(-1, 1, 1, 1)
            for number in range(sets):
                answer_TU = F.conv2d(unit, kernel[number : number + 1], padding=conv.padding).flatten(1)
                weight[number] += answer_TU.T
            bias_ZU = bias_ZU + shift_Z.view(-1, 1)
        merged = MergedPartitions(sets, window, self.moved, self.impl, device="meta")
        merged.weight, merged.bias = rounded(weight, self.weight), rounded(bias_ZU.flatten(), self.weight)
        return merged


class PartitionMixing(nn.Module):
    """Mixing inside partitions, scaled channel by channel as the mean of the map says: `(B, H, W, C)` to the same."""

    def __init__(self, config: RepMLPNetConfig, stage: int, **dd: Any) -> None:
        super().__init__()
        dim, window, sets = config.embed_dims[stage], config.window_sizes[stage], config.share_sets[stage]
        self.window, self.padded, self.impl = window, config.dynamic_img_size, rest(config.impl)
        self.fc1 = nn.Linear(dim, dim // 4, **dd)
        self.fc2 = nn.Linear(dim // 4, dim, **dd)
        moved, impl = config.moves_partitions, rest(config.impl)
        self.partitions: nn.Module
        if config.deploy:
            self.partitions = MergedPartitions(sets, window, moved, impl, **dd)
        else:
            self.partitions = LocalPartitions(sets, window, config.local_kernels, config.norm_eps, moved, impl, **dd)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        hidden = F.relu(apply_linear(self.fc1, x_BHWC.mean((1, 2)), impl=self.impl))
        factor_BC = apply_linear(self.fc2, hidden, impl=self.impl).sigmoid()
        height, width = x_BHWC.shape[1:3]
        if self.padded:
            x_BHWC = F.pad(x_BHWC, (0, 0, 0, -width % self.window, 0, -height % self.window))
        return self.partitions(x_BHWC)[:, :height, :width] * factor_BC[:, None, None]


class NormedMlp(nn.Module):
    """Linear, BatchNorm, activation, linear, BatchNorm: `(B, H, W, C)` to the same."""

    def __init__(self, config: RepMLPNetConfig, stage: int, **dd: Any) -> None:
        super().__init__()
        dim = config.embed_dims[stage]
        hidden = int(dim * config.mlp_ratios[stage])
        self.impl = rest(config.impl)
        layer = pointwise(self.impl)
        self.fc1: nn.Linear = layer(dim, hidden, bias=False, **dd)
        self.norm1: nn.Module = BatchNormNHWC(hidden, config.norm_eps, **dd)
        self.act = create_activation(config.act_layer)
        self.drop = nn.Dropout(config.proj_drop_rate)
        self.fc2: nn.Linear = layer(hidden, dim, bias=False, **dd)
        self.norm2: nn.Module = BatchNormNHWC(dim, config.norm_eps, **dd)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        hidden = self.act(self.norm1(apply_linear(self.fc1, x_BHWC, impl=self.impl)))
        return self.norm2(apply_linear(self.fc2, self.drop(hidden), impl=self.impl))

    def folded(self) -> nn.Module:
        """Itself, with each norm in the linear layer before it."""
        for fc, norm in (("fc1", "norm1"), ("fc2", "norm2")):
            layer, after = getattr(self, fc), getattr(self, norm)
            if may_merge(layer) and isinstance(after, BatchNormNHWC) and not has_hooks(after) and is_fixed(after.bn):
                setattr(self, fc, with_norm_after(layer, after.bn))
                setattr(self, norm, nn.Identity())
        return self


class RepMLPBlock(nn.Module):
    """`PartitionMixing` and an MLP over the channels, each after a BatchNorm and with a skip."""

    def __init__(self, config: RepMLPNetConfig, stage: int, drop_path: float, **dd: Any) -> None:
        super().__init__()
        dim = config.embed_dims[stage]
        self.norm1 = BatchNormNHWC(dim, config.norm_eps, **dd)
        self.mixing = PartitionMixing(config, stage, **dd)
        self.norm2: nn.Module = BatchNormNHWC(dim, config.norm_eps, **dd)
        self.mlp = NormedMlp(config, stage, **dd)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        x_BHWC = x_BHWC + self.drop_path(self.mixing(self.norm1(x_BHWC)))
        return x_BHWC + self.drop_path(self.mlp(self.norm2(x_BHWC)))

    def folded(self) -> nn.Module:
        """Itself, with the second norm in the MLP that reads it."""
        norm, mlp = self.norm2, self.mlp
        free = isinstance(norm, BatchNormNHWC) and may_merge(mlp.fc1) and not has_hooks(norm, mlp)
        if free and isinstance(norm, BatchNormNHWC) and is_fixed(norm.bn):
            mlp.fc1 = with_map_before(mlp.fc1, *scale_and_shift(norm.bn))
            self.norm2 = nn.Identity()
        return self


class RepMLPNet(WindowedBackbone):
    """Patches, stages of RepMLP blocks with 2×2 convolutions between, BatchNorm, mean, head."""

    family = "repmlpnet"
    config: RepMLPNetConfig
    pytorch_init = True

    def build_stem(self, **dd: Any) -> nn.Module:
        """Patches of 4 pixels."""
        config = self.config
        return ConvNormReLU(config.in_chans, config.embed_dims[0], 4, config.norm_eps, rest(config.impl), **dd)

    def build_downsample(self, stage: int, **dd: Any) -> nn.Module:
        """A 2×2 convolution."""
        before, after = self.config.embed_dims[stage - 1 : stage + 1]
        return ConvDownsample(before, after, 2, self.config.norm_eps, rest(self.config.impl), **dd)

    def build_norm(self, dim: int, **dd: Any) -> nn.Module:
        """A BatchNorm."""
        return BatchNormNHWC(dim, self.config.norm_eps, **dd)

    def build_block(self, stage: int, number: int, *, drop_path: float, **dd: Any) -> nn.Module:
        """A `RepMLPBlock`."""
        return RepMLPBlock(self.config, stage, drop_path, **dd)


def _file(drive: str, top1: float) -> Weights:
    return Weights(
        where=f"It is on Google Drive, https://drive.google.com/file/d/{drive}: fetch it with a browser and pass "
        "checkpoint_path=",
        license="MIT",
        top1=top1,
        top1_source="README.md of DingXiaoH/RepMLP at 3eff13f",
        mean=IMAGENET_DEFAULT_MEAN,
        std=IMAGENET_DEFAULT_STD,
        crop_pct=1.0,
        interpolation="bilinear",
    )


def _config(side: int, first: int, depths: tuple[int, ...], sets: tuple[int, ...]) -> RepMLPNetConfig:
    return RepMLPNetConfig(
        img_size=side,
        embed_dims=(first, 2 * first, 4 * first, 8 * first),
        depths=depths,
        share_sets=sets,
        window_sizes=(side // 4, side // 8, side // 16, side // 32),
        norm_eps=1e-5,
    )


FAMILY = Family(
    name="repmlpnet",
    title="RepMLPNet",
    paper="https://arxiv.org/abs/2112.11081",
    code="https://github.com/DingXiaoH/RepMLP/blob/3eff13f/repmlpnet.py",
    license="MIT",
    model=RepMLPNet,
    data={
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "pool_size": (7, 7),
    },
    variants={
        "repmlpnet_t224": _config(224, 64, (2, 2, 6, 2), (1, 4, 16, 128)),
        "repmlpnet_b224": _config(224, 96, (2, 2, 12, 2), (1, 4, 32, 128)),
        "repmlpnet_t256": _config(256, 64, (2, 2, 6, 2), (1, 4, 16, 128)),
        "repmlpnet_b256": _config(256, 96, (2, 2, 12, 2), (1, 4, 32, 128)),
        "repmlpnet_d256": _config(256, 80, (2, 2, 18, 2), (1, 4, 16, 128)),
        "repmlpnet_l256": _config(256, 96, (2, 2, 18, 2), (1, 4, 32, 256)),
    },
    weights={
        "repmlpnet_t224.in1k": _file("1TgPDD78G-d3h_Y_vNTuqYdSJZHmnju7b", 76.62),
        "repmlpnet_b224.in1k": _file("1GwoUvxGXgzKArlCf0V9kvc9_3GtkGltp", 80.32),
        "repmlpnet_t256.in1k": _file("1mU0L76x20eAKzkHxEM7J2BvEOLWx_mux", 77.44),
        "repmlpnet_b256.in1k": _file("1W-__gXE7903cX-gOSXEGxNBCJjvqFCiJ", 81.03),
        "repmlpnet_d256.in1k": _file("1e5IYac0UHnJq2_lzbuE7J4rahMENX2ha", 80.83),
        "repmlpnet_l256.in1k": _file("1SHhNJ6pZax9qMLm8DJZtQ_XfmcmddPYU", 81.68),
    },
    formats=(FORMAT,),
)

"""MS-MLP: mixing and shifting in vision MLPs (Zheng et al., 2022, https://arxiv.org/abs/2202.06510).

Authors' code: JegZheng/MS-MLP, `models/ms_mlp.py` at a10d34d (MIT).
What differs: image channels and patches are free, and no image size is fixed. What fills no patch is not seen, neither
in the stem nor in between, as in the authors' code.
"""

import dataclasses
import math
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import DropPath
from torch import Tensor, nn

from mlpzoo.layers import ConvEmbed, Downsample, MlpBlock
from mlpzoo.layers.folding import has_hooks, may_merge, wide, with_values
from mlpzoo.layers.linear import rest
from mlpzoo.models._family import Family, Weights
from mlpzoo.models._keymap import KeyMap, Rule
from mlpzoo.models._pyramid import PyramidBackbone, PyramidConfig
from mlpzoo.models._pyramid_files import downsample_first
from mlpzoo.ops.mix_shift import mix_shift


@dataclasses.dataclass(frozen=True, kw_only=True)
class MsMlpConfig(PyramidConfig):
    """Settings of an MS-MLP.

    Attributes:
        patch_size: side of the stem's patches in pixels, which do not overlap.
        shifts: positions by which each group of channels is rolled.
        windows: sides of the groups' windows in positions, odd, for each stage.
        layer_scale_init: what the factors of each block's channels start at.
    """

    mlp_ratios: tuple[float, ...] = (4, 4, 4, 4)
    norm_eps: float = 1e-6
    patch_size: int = 4
    shifts: tuple[int, ...] = (-2, -1, 0, 1, 2)
    windows: tuple[tuple[int, ...], ...] = ((1, 1, 3, 5, 7), (1, 3, 3, 5, 7), (1, 5, 5, 5, 7), (1, 7, 7, 7, 7))
    layer_scale_init: float = 1e-6

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        # JSON has no tuples: a config that went through a file comes back with lists.
        object.__setattr__(self, "shifts", tuple(self.shifts))
        object.__setattr__(self, "windows", tuple(map(tuple, self.windows)))
        groups = len(self.shifts)
        self._require("patch_size", self.patch_size >= 1, "1 or more")
        self._require("shifts", groups >= 1, "a number for each group of channels")
        fit = len(self.windows) == len(self.depths) and all(len(sizes) == groups for sizes in self.windows)
        fit = fit and all(size >= 1 and size % 2 == 1 for sizes in self.windows for size in sizes)
        self._require("windows", fit, f"{groups} odd numbers, as many as shifts has, for each stage")
        enough = all(len(group_sizes(dim, groups)) == groups for dim in self.embed_dims)
        self._require("embed_dims", enough, f"numbers of channels that make {groups} groups of ⌈channels / {groups}⌉")

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """The patch's side, and twice as much for each stage that follows."""
        return tuple(self.patch_size * 2**stage for stage in range(len(self.depths)))


def group_sizes(dim: int, groups: int) -> list[int]:
    """Channels of each group, as `torch.chunk` cuts them."""
    most = -(-dim // groups)
    return [min(most, dim - first) for first in range(0, dim, most)]


class MixShift(nn.Module):
    """`mlpzoo.ops.mix_shift` with its kernels.

    Source: `dwconv_lr` and `dwconv_td` of the authors, which are convolutions and start as such.

    Args:
        dim: channels.
        shifts: positions by which each group is rolled.
        windows: side of each group's windows.
        impl: which implementation runs.
        dd: `device` and `dtype` of the parameters.

    Shape:
        `(batch, height, width, dim)` to the same.
    """

    def __init__(self, dim: int, shifts: tuple[int, ...], windows: tuple[int, ...], impl: str, **dd: Any) -> None:
        super().__init__()
        self.shifts, self.impl = shifts, impl
        for group, (channels, side) in enumerate(zip(group_sizes(dim, len(shifts)), windows, strict=True)):
            for axis in ("right", "down"):
                kernel = nn.Parameter(torch.empty(channels, 1, side, side, **dd))
                self.register_parameter(f"weight_{axis}{group}", kernel)
                self.register_parameter(f"bias_{axis}{group}", nn.Parameter(torch.empty(channels, **dd)))

    def reset_parameters(self) -> None:
        """As PyTorch draws a convolution's parameters."""
        for name, parameter in self.named_parameters():
            if name.startswith("weight"):
                nn.init.kaiming_uniform_(parameter, a=5**0.5)
                bound = 1 / math.sqrt(parameter[0].numel())
                nn.init.uniform_(self.get_parameter(name.replace("weight", "bias")), -bound, bound)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        w_right, b_right, w_down, b_down = map(
            self._of_groups, ("weight_right", "bias_right", "weight_down", "bias_down")
        )
        return mix_shift(x_BHWC, self.shifts, w_right, b_right, w_down, b_down, self.impl)

    def _of_groups(self, name: str) -> list[Tensor]:
        return [getattr(self, f"{name}{group}") for group in range(len(self.shifts))]


class MixShiftBlock(nn.Module):
    """Mixing and shifting, a norm, an MLP over the channels and a factor for each, with one skip around all.

    Source: `MSBlock` of the authors.

    Args:
        dim: channels.
        mixing: a `MixShift`.
        mlp: the MLP.
        norm_eps: epsilon of the norm.
        layer_scale_init: what the factors start at.
        drop_path: stochastic depth rate.
        dd: `device` and `dtype` of the parameters.

    Shape:
        `(batch, height, width, dim)` to the same.
    """

    def __init__(
        self,
        dim: int,
        mixing: MixShift,
        mlp: MlpBlock,
        *,
        norm_eps: float,
        layer_scale_init: float,
        drop_path: float,
        **dd: Any,
    ) -> None:
        super().__init__()
        self.mixing = mixing
        self.norm = nn.LayerNorm(dim, eps=norm_eps, **dd)
        self.mlp = mlp
        self.layer_scale_init = layer_scale_init
        self.gamma: nn.Parameter | None = nn.Parameter(torch.empty(dim, **dd))
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def reset_parameters(self) -> None:
        """Start the factors at their initial value."""
        if self.gamma is not None:
            nn.init.constant_(self.gamma, self.layer_scale_init)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        y_BHWC = self.mlp(self.norm(self.mixing(x_BHWC)))
        if self.gamma is not None:
            y_BHWC = y_BHWC * self.gamma
        return x_BHWC + self.drop_path(y_BHWC)

    def folded(self) -> nn.Module:
        """Itself, with the factors in the MLP's last layer."""
        last = self.mlp.fc2
        if self.gamma is not None and may_merge(last) and not has_hooks(self.mlp, self.mlp.drop2):
            scale_C = wide(self.gamma)
            self.mlp.fc2 = with_values(last, scale_C[:, None] * wide(last.weight), scale_C * wide(last.bias))
            self.register_parameter("gamma", None)
        return self


class MsMlp(PyramidBackbone):
    """Patches, stages of mix-shift blocks with 2×2 convolutions between, mean, LayerNorm, head."""

    family = "msmlp"
    config: MsMlpConfig
    norm_after_pool = True

    def build_stem(self, **dd: Any) -> nn.Module:
        """Patches that do not overlap, and a norm."""
        config = self.config
        dim, patch = config.embed_dims[0], config.patch_size
        norm = self.build_norm(dim, **dd)
        return ConvEmbed(config.in_chans, dim, patch, patch, norm=norm, impl=rest(config.impl), **dd)

    def build_downsample(self, stage: int, **dd: Any) -> nn.Module:
        """A 2×2 convolution of stride 2, and a norm."""
        before, after = self.config.embed_dims[stage - 1 : stage + 1]
        return Downsample(before, after, 2, 2, norm=self.build_norm(after, **dd), impl=rest(self.config.impl), **dd)

    def build_block(self, stage: int, number: int, *, drop_path: float, **dd: Any) -> nn.Module:
        """A `MixShiftBlock`."""
        config = self.config
        dim, impl = config.embed_dims[stage], rest(config.impl)
        mlp = MlpBlock(
            dim,
            int(dim * config.mlp_ratios[stage]),
            act_layer=config.act_layer,
            drop=config.proj_drop_rate,
            recompute=self.recompute_mlp,
            impl=impl,
            **dd,
        )
        return MixShiftBlock(
            dim,
            MixShift(dim, config.shifts, config.windows[stage], impl, **dd),
            mlp,
            norm_eps=config.norm_eps,
            layer_scale_init=config.layer_scale_init,
            drop_path=drop_path,
            **dd,
        )

    def reset_parameters(self) -> None:
        """Draw linear layers as the authors do (`_init_weights`), and convolutions as PyTorch does."""
        super().reset_parameters()
        for module in self.modules():
            if isinstance(module, MixShift | MixShiftBlock):
                module.reset_parameters()


RELEASES = "https://tsciencescu.blob.core.windows.net/projectshzheng/MSMLP/released_model"
IMAGENET: dict[str, Any] = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
README = "README.md of JegZheng/MS-MLP at a10d34d"


def _file(size: str, top1: float) -> Weights:
    url = f"{RELEASES}/msmlp_{size}_patch4/msmlp_{size}_patch4_ckpt_epoch299.pth"
    return Weights(url=url, license="MIT", top1=top1, top1_source=README, crop_pct=0.875, **IMAGENET)


BLOCK = r"layers\.(\d+)\.blocks\.(\d+)\."
OURS = r"stages.\1.blocks.\2."

FORMATS = (
    KeyMap(
        "the authors' .pth",
        (
            Rule(r"patch_embed\.(proj|norm)\.(weight|bias)", r"stem.\1.\2"),
            Rule(rf"{BLOCK}gamma", rf"{OURS}gamma"),
            Rule(rf"{BLOCK}dwconv_lr\.(\d+)\.(weight|bias)", rf"{OURS}mixing.\4_right\3"),
            Rule(rf"{BLOCK}dwconv_td\.(\d+)\.(weight|bias)", rf"{OURS}mixing.\4_down\3"),
            Rule(rf"{BLOCK}norm\.(weight|bias)", rf"{OURS}norm.\3"),
            Rule(rf"{BLOCK}pwconv([12])\.(weight|bias)", rf"{OURS}mlp.fc\3.\4"),
            Rule(r"layers\.(\d+)\.downsample\.(proj|norm)\.(weight|bias)", r"stages.\1.downsample.\2.\3"),
            Rule(r"(norm|head)\.(weight|bias)", r"\1.\2"),
        ),
        rename=downsample_first,
    ),
)


FAMILY = Family(
    name="msmlp",
    title="MS-MLP",
    paper="https://arxiv.org/abs/2202.06510",
    code="https://github.com/JegZheng/MS-MLP/blob/a10d34d/models/ms_mlp.py",
    license="MIT",
    model=MsMlp,
    data={**IMAGENET, "pool_size": (7, 7)},
    # The sizes are those of the authors' configs, whose drop path rates are 0.1 for tiny, 0.4 for small, 0.5 for base.
    variants={
        "msmlp_tiny": MsMlpConfig(depths=(3, 3, 9, 3), embed_dims=(96, 192, 384, 768)),
        "msmlp_small": MsMlpConfig(depths=(3, 3, 27, 3), embed_dims=(96, 192, 384, 768)),
        "msmlp_base": MsMlpConfig(depths=(3, 3, 27, 3), embed_dims=(128, 256, 512, 1024)),
    },
    weights={
        "msmlp_tiny.in1k": _file("tiny", 82.1),
        "msmlp_small.in1k": _file("small", 83.4),
        "msmlp_base.in1k": _file("base", 83.8),
    },
    formats=FORMATS,
)

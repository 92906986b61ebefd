"""The base of pyramid backbones: stages of falling resolution.

Shape suffixes: B batch, I image channels, H × W pixels or positions, C channels.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mlpzoo.layers import ResidualBlock
from mlpzoo.models._base import LayerwisePattern
from mlpzoo.models._config import BackboneConfig
from mlpzoo.models._maps import MapBackbone
from mlpzoo.models._recompute import recomputed
from mlpzoo.models._strides import grid_after, stride_of
from mlpzoo.ops.resize import Grid


@dataclasses.dataclass(frozen=True, kw_only=True)
class PyramidConfig(BackboneConfig):
    """Settings of a pyramid backbone.

    Attributes:
        embed_dims: channels of each stage.
        depths: blocks of each stage.
        mlp_ratios: hidden units of each stage's MLPs for every channel.
        feature_norms: whether `forward_intermediates` passes each stage's map through a LayerNorm of its own, as
            dense-prediction code does; the classifier ignores them.
    """

    embed_dims: tuple[int, ...]
    depths: tuple[int, ...]
    mlp_ratios: tuple[float, ...]
    feature_norms: bool = False
    norm_eps: float = 1e-5

    has_stages = True
    dense_prefixes = ("feature_norms.",)

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        for name in ("embed_dims", "depths", "mlp_ratios"):
            self._require_for_each_stage(name)

    @property
    def stem_width(self) -> int:
        """Channels of the first stage."""
        return self.embed_dims[0]

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """4 for the first stage and twice as many for each that follows, unless a family overrides it."""
        return tuple(4 * 2**stage for stage in range(len(self.depths)))

    @property
    def optional_prefixes(self) -> tuple[str, ...]:
        """Files of classifiers lack the norms of feature maps, and those of dense prediction the final norm."""
        return ("feature_norms.", "norm.") if self.feature_norms else ()

    def fields_from_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
        """As in the base class, and whether there are norms of feature maps."""
        told = super().fields_from_shapes(shapes)
        return told and {**told, "feature_norms": any(name.startswith("feature_norms.") for name in shapes)}

    def _require_for_each_stage(self, name: str) -> None:
        # JSON has no tuples: a config that went through a file comes back with lists.
        values = tuple(getattr(self, name))
        object.__setattr__(self, name, values)
        holds = len(values) == len(self.embed_dims) and min(values, default=0) >= 1
        self._require(name, holds, "a number of 1 or more for each stage, as many as embed_dims has")


def reset_linear(module: nn.Module) -> None:
    """Draw a linear map of any kind: its weight normal with deviation 0.02, its bias zero."""
    nn.init.trunc_normal_(module.get_parameter("weight"), std=0.02)
    if module.bias is not None:
        nn.init.zeros_(module.get_parameter("bias"))


class Stage(nn.Module):
    """Downsample (identity in the first stage), then blocks; maps in and out."""

    def __init__(self, downsample: nn.Module, blocks: nn.Sequential) -> None:
        super().__init__()
        self.downsample = downsample
        self.blocks = blocks
        self.grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        """The map of the stage before to this one's."""
        return self.run_blocks(self.downsample(x))

    def run_blocks(self, x: Tensor) -> Tensor:
        """What enters the blocks to what leaves them."""
        if not self.grad_checkpointing:
            return self.blocks(x)
        for block in self.blocks:
            x = recomputed(block, x)
        return x


class PyramidBackbone(MapBackbone):
    """Stem, stages, norm, pool, head over maps.

    What a family implements; the timm contract is all here:

    - `build_stem`, `build_downsample`: modules that say an int `stride`, and `grid_after(grid)` where the family is
      bound to a grid and takes sizes at which rounding down is wrong;
    - `build_mixing`, or the whole `build_block` where that is no `ResidualBlock`. Blocks bound to a grid are
      `GridBound`, are built for `self.stage_grids[stage]`, and the config is a `GridBoundConfig`;
    - where it differs: `build_norm(dim)` for the final norm and those of the features (`nn.Identity()` for none),
      `norm_after_pool`, `build_stage` for stages whose blocks share something, `walk` for stages that take more than
      what left the one before, `reset_parameters` or `pytorch_init`,
      `build_feature_norm`, `size_multiple`, `grids_at`;
    - `map_layout = "NCHW"` for a network of convolutions and BatchNorms.

    Args:
        config: what to build.
        device: where the parameters live; `"meta"` allocates none.
        dtype: their type.
    """

    config: PyramidConfig
    feature_stack = "stages"
    stage_grids: tuple[Grid, ...] = ()
    """Height and width of each stage's map when the network was built; empty where it is made for none."""
    draw_convolutions: ClassVar[bool] = False
    """Whether `reset_parameters` draws convolutions as linear maps instead of leaving them to PyTorch."""
    pytorch_init: ClassVar[bool] = False
    """Whether every layer starts as PyTorch starts it, as where the authors draw nothing themselves."""
    recompute_mlp: ClassVar[bool] = False
    """Whether the backward pass computes the hidden layers of the blocks' MLPs again instead of keeping them."""

    def __init__(
        self,
        config: PyramidConfig,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(config)
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        self.last_stage = len(config.depths) - 1
        self.num_features = self.head_hidden_size = config.embed_dims[-1]
        self.stem = self.build_stem(**dd)
        downsamples = [self.build_downsample(i, **dd) if i else nn.Identity() for i in range(len(config.depths))]
        strides = [stride_of(module) for module in (self.stem, *downsamples)]
        self.reductions = [math.prod(strides[: i + 2]) for i in range(len(downsamples))]
        if config.data_size is not None:
            self.check_size(config.data_size)
            self.stage_grids = _grids_of(self.stem, downsamples, config.data_size)
        self._least_side = _least_side(self.stem, downsamples)
        rates = config.drop_path_rates(sum(config.depths))
        stages = []
        for i, (depth, downsample) in enumerate(zip(config.depths, downsamples, strict=True)):
            first = sum(config.depths[:i])
            blocks = [self.build_block(i, n, drop_path=rates[n], **dd) for n in range(first, first + depth)]
            stages.append(self.build_stage(i, downsample, nn.Sequential(*blocks)))
        self.stages = nn.Sequential(*stages)
        self.feature_norms = nn.ModuleList(
            self.build_feature_norm(dim, **dd) for dim in (config.embed_dims if config.feature_norms else ())
        )
        self.norm = self.build_norm(self.num_features, **dd)
        self.feature_info = self._describe_features()
        self.build_head(**dd)
        self.reset_parameters()

    def build_stem(self, **dd: Any) -> nn.Module:
        """From an image `(B, I, H, W)` to the first stage's map."""
        raise NotImplementedError

    def build_downsample(self, stage: int, **dd: Any) -> nn.Module:
        """From the map of stage `stage - 1` to that of `stage`; the identity where nothing changes."""
        raise NotImplementedError

    def build_mixing(self, stage: int, number: int, **dd: Any) -> nn.Module:
        """The spatial mixing of one block, a map to the same; `number` counts from 0 over all stages."""
        raise NotImplementedError

    def build_block(self, stage: int, number: int, *, drop_path: float, **dd: Any) -> nn.Module:
        """One block of a stage, a map to the same: a `ResidualBlock`, which takes NHWC."""
        config = self.config
        dim = config.embed_dims[stage]
        return ResidualBlock(
            dim,
            self.build_mixing(stage, number, **dd),
            int(dim * config.mlp_ratios[stage]),
            act_layer=config.act_layer,
            norm_eps=config.norm_eps,
            drop=config.proj_drop_rate,
            drop_path=drop_path,
            recompute=self.recompute_mlp,
            impl=config.impl,
            **dd,
        )

    def build_stage(self, stage: int, downsample: nn.Module, blocks: nn.Sequential) -> Stage:
        """One stage."""
        return Stage(downsample, blocks)

    def build_feature_norm(self, dim: int, **dd: Any) -> nn.Module:
        """The norm of a feature map where the config asks for `feature_norms`: as the final one."""
        return self.build_norm(dim, **dd)

    def reset_parameters(self) -> None:
        """Draw as the authors of CycleMLP (`cls_init_weights`) and ViP (`_init_weights`) do.

        Linear maps of every kind are normal with deviation 0.02 and have zero biases; convolutions (but see
        `draw_convolutions`) and modules with one weight a channel, such as norms, start as PyTorch starts them. All do
        if `pytorch_init`.
        """
        for module in self.modules():
            weight = getattr(module, "weight", None)
            if not isinstance(weight, nn.Parameter):
                continue
            if self.pytorch_init or weight.ndim == 1 or (isinstance(module, nn.Conv2d) and not self.draw_convolutions):
                module.reset_parameters()  # type: ignore[operator]
            else:
                reset_linear(module)

    def reset_classifier_parameters(self) -> None:
        """Draw the head as every other linear map."""
        if isinstance(self.head, nn.Linear):
            self.head.reset_parameters() if self.pytorch_init else reset_linear(self.head)

    @property
    def least_side(self) -> int:
        """The side of the smallest square image that leaves every stage a position."""
        return self._least_side

    @property
    def size_multiple(self) -> Grid:
        """The stride of the last stage where weights are bound to a grid."""
        stride = 1 if self.config.image_size is None else self.reductions[-1]
        return stride, stride

    def grids_at(self, img_size: Grid) -> Mapping[str, Grid]:
        """A bound module has the grid of its stage; one in front of the stages that of the first.

        A family whose layers are bound to windows, or to anything else than a stage's whole map, overrides this.
        """
        grids = _grids_of(self.stem, [stage.get_submodule("downsample") for stage in self.stages], img_size)
        places = {name: re.match(r"stages\.(\d+)\.", name) for name in self.bound_modules()}
        return {name: grids[int(place[1]) if place else 0] for name, place in places.items()}

    def run_part(self, part: nn.Module, x: Tensor) -> Tensor:
        """One stage, which recomputes its blocks itself."""
        return part(x)

    def as_feature(self, x: Tensor, index: int, norm: bool, output_fmt: str) -> Tensor:
        """A stage's map through its feature norm, or the last one's through the final norm, the only one it fits."""
        if norm:
            x = self.finish(x, index)
        if len(self.feature_norms) > 0:
            x = self.feature_norms[index](x)
        return super().as_feature(x, index, norm=False, output_fmt=output_fmt)

    def finish(self, x: Tensor, index: int) -> Tensor:
        """The final norm fits the last stage alone; the map of an earlier one stays as it is."""
        return super().finish(x, index) if index == self.last_stage else x

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] | None = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """As in the base class; feature norms of maps that nobody asked for go as well."""
        taken = super().prune_intermediate_layers(indices, prune_norm, prune_head)
        norms = self.feature_norms[: max(taken) + 1]
        # The others keep their numbers, and so their names in the state dict.
        self.feature_norms = nn.ModuleList(norm if i in taken else nn.Identity() for i, norm in enumerate(norms))
        return taken

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block's activations in the backward pass instead of keeping them."""
        super().set_grad_checkpointing(enable)
        for module in self.modules():
            if isinstance(module, Stage):
                module.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, LayerwisePattern]:
        """Patterns that group the parameters by depth: by block, or by stage if `coarse`."""
        if coarse:
            return {"stem": r"^stem", "blocks": [(r"^stages\.(\d+)", None), (r"^norm", (99999,))]}
        return {
            "stem": r"^stem",
            "blocks": [
                (r"^stages\.(\d+)\.downsample", (0,)),
                (r"^stages\.(\d+)\.blocks\.(\d+)", None),
                (r"^(?:norm|feature_norms)", (99999,)),
            ],
        }

    def _describe_features(self) -> list[dict[str, Any]]:
        return [
            {"module": f"stages.{i}", "num_chs": dim, "reduction": reduction}
            for i, (dim, reduction) in enumerate(zip(self.config.embed_dims, self.reductions, strict=True))
        ]


def _grids_of(stem: nn.Module, downsamples: Sequence[nn.Module], img_size: Grid) -> tuple[Grid, ...]:
    """Height and width of each stage's map for an image of so many pixels."""
    grids = []
    grid = grid_after(stem, img_size)
    for downsample in downsamples:
        grid = grid_after(downsample, grid)
        grids.append(grid)
    return tuple(grids)


def _least_side(stem: nn.Module, downsamples: Sequence[nn.Module]) -> int:
    """Pixels of the smallest square image of which every stage has a position."""
    side = 1
    while min(min(grid) for grid in _grids_of(stem, downsamples, (side, side))) < 1:
        side += 1
    return side

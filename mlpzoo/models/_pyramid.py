"""The base of pyramid backbones: stages of falling resolution, NHWC inside.

Shape suffixes: B batch, I image channels, H × W pixels or positions, C channels.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from timm.models import checkpoint_seq
from torch import Tensor, nn

from mlpzoo.layers import ResidualBlock
from mlpzoo.models._base import BackboneConfig, LayerwisePattern
from mlpzoo.models._maps import MapBackbone


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

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        for name in ("embed_dims", "depths", "mlp_ratios"):
            self._require_for_each_stage(name)

    def _require_for_each_stage(self, name: str) -> None:
        # JSON has no tuples: a config that went through a file comes back with lists.
        values = tuple(getattr(self, name))
        object.__setattr__(self, name, values)
        holds = len(values) == len(self.embed_dims) and min(values, default=0) >= 1
        self._require(name, holds, "a number of 1 or more for each stage, as many as embed_dims has")


def stride_of(module: nn.Module) -> int:
    """Pixels in for one pixel out, along each side; 1 for a module that does not say."""
    stride = getattr(module, "stride", 1)
    assert isinstance(stride, int)
    return stride


def reset_linear(module: nn.Module) -> None:
    """Draw a linear map of any kind: its weight normal with deviation 0.02, its bias zero."""
    nn.init.trunc_normal_(module.get_parameter("weight"), std=0.02)
    if module.bias is not None:
        nn.init.zeros_(module.get_parameter("bias"))


class Stage(nn.Module):
    """Downsample (identity in the first stage), then blocks; `(B, H, W, C)` in and out."""

    def __init__(self, downsample: nn.Module, blocks: nn.Sequential) -> None:
        super().__init__()
        self.downsample = downsample
        self.blocks = blocks
        self.grad_checkpointing = False

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(B, H, W, C)` to `(B, H', W', C')`."""
        x_BHWC = self.downsample(x_BHWC)
        if self.grad_checkpointing:
            return checkpoint_seq(self.blocks, x_BHWC)
        return self.blocks(x_BHWC)


class PyramidBackbone(MapBackbone):
    """Stem, stages, norm, pool, head over maps `(batch, height, width, channels)`.

    A family implements `build_stem`, `build_downsample` and `build_mixing`; and `build_block` and `reset_parameters`
    where it differs. Stems and downsamples carry an int `stride`. The timm contract is all here.

    Args:
        config: what to build.
        device: where the parameters live; `"meta"` allocates none.
        dtype: their type.
    """

    config: PyramidConfig
    feature_stack = "stages"
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
        rates = config.drop_path_rates(sum(config.depths))
        stages = []
        for i, depth in enumerate(config.depths):
            downsample = nn.Identity() if i == 0 else self.build_downsample(i, **dd)
            first = sum(config.depths[:i])
            blocks = [self.build_block(i, n, drop_path=rates[n], **dd) for n in range(first, first + depth)]
            stages.append(Stage(downsample, nn.Sequential(*blocks)))
        self.stages = nn.Sequential(*stages)
        self.feature_norms = nn.ModuleList(
            nn.LayerNorm(dim, eps=config.norm_eps, **dd) for dim in (config.embed_dims if config.feature_norms else ())
        )
        self.norm: nn.Module = nn.LayerNorm(self.num_features, eps=config.norm_eps, **dd)
        self.feature_info = self._describe_features()
        self.build_head(**dd)
        self.reset_parameters()

    def build_stem(self, **dd: Any) -> nn.Module:
        """From an image `(B, I, H, W)` to the first stage's map `(B, H, W, C)`."""
        raise NotImplementedError

    def build_downsample(self, stage: int, **dd: Any) -> nn.Module:
        """From the map of stage `stage - 1` to that of `stage`, both NHWC; the identity where nothing changes."""
        raise NotImplementedError

    def build_mixing(self, stage: int, number: int, **dd: Any) -> nn.Module:
        """The spatial mixing of one block, `(B, H, W, C)` to the same; `number` counts from 0 over all stages."""
        raise NotImplementedError

    def build_block(self, stage: int, number: int, *, drop_path: float, **dd: Any) -> nn.Module:
        """One block of a stage, `(B, H, W, C)` to the same: a `ResidualBlock`."""
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

    def reset_parameters(self) -> None:
        """Draw as the authors of CycleMLP (`cls_init_weights`) and ViP (`_init_weights`) do.

        Linear maps of every kind are normal with deviation 0.02 and have zero biases; convolutions and norms start as
        PyTorch starts them.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.LayerNorm):
                module.reset_parameters()
            elif isinstance(getattr(module, "weight", None), nn.Parameter):
                reset_linear(module)

    def reset_classifier_parameters(self) -> None:
        """Draw the head as every other linear map."""
        if isinstance(self.head, nn.Linear):
            reset_linear(self.head)

    def forward_features(self, x: Tensor) -> Tensor:
        """An image batch `(B, I, H, W)` to the last stage's normalized map `(B, H, W, C)`."""
        return self.norm(self.stages(self.stem(x)))

    def as_feature(self, x: Tensor, index: int, norm: bool, output_fmt: str) -> Tensor:
        """A stage's map through its feature norm, or the last one's through the final norm, the only one it fits."""
        if norm:
            x = self.finish(x, index)
        if len(self.feature_norms) > 0:
            x = self.feature_norms[index](x)
        return super().as_feature(x, index, norm=False, output_fmt=output_fmt)

    def finish(self, x: Tensor, index: int) -> Tensor:
        """The final norm fits the last stage alone; the map of an earlier one stays as it is."""
        return self.norm(x) if index == self.last_stage else x

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
        reduction = stride_of(self.stem)
        features = []
        for i, (stage, dim) in enumerate(zip(self.stages, self.config.embed_dims, strict=True)):
            reduction *= stride_of(stage.get_submodule("downsample"))
            features.append({"module": f"stages.{i}", "num_chs": dim, "reduction": reduction})
        return features

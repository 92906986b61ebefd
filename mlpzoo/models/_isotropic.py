"""The base of isotropic backbones: one grid of tokens from the stem to the head.

Shape suffixes: B batch, I image channels, H × W pixels, T tokens (prefix tokens such as a class token included),
C channels of a token.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from timm.layers import to_2tuple
from timm.models import checkpoint, checkpoint_seq
from torch import Tensor, nn

from mlpzoo.layers import GridBound, PatchEmbed
from mlpzoo.models._base import Backbone, BackboneConfig, LayerwisePattern
from mlpzoo.models._views import WeightsByGrid, put_weights, view_of
from mlpzoo.ops.resize import Grid


@dataclasses.dataclass(frozen=True, kw_only=True)
class IsotropicConfig(BackboneConfig):
    """Settings of an isotropic backbone.

    Attributes:
        img_size: image height and width in pixels, an int if square.
        patch_size: patch height and width in pixels, an int if square.
        embed_dim: channels of a token.
        depth: blocks.
        dynamic_img_size: whether images of any size go in: padded with zeros, on the right and below, to whole patches,
            and met by weights resized as `set_input_size` would. Gradients reach the weights through the resizing.
    """

    img_size: int | Grid = 224
    patch_size: int | Grid = 16
    embed_dim: int
    depth: int
    dynamic_img_size: bool = False

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        for name in ("embed_dim", "depth"):
            self._require(name, getattr(self, name) >= 1, "1 or more")
        for name in ("img_size", "patch_size"):
            sides = to_2tuple(getattr(self, name))
            self._require(name, len(sides) == 2 and min(sides) >= 1, "a size or a (height, width), in pixels")


class IsotropicBackbone(GridBound, Backbone):
    """Stem, blocks, norm, pool, head over tokens `(batch, tokens, channels)` that keep one grid.

    A family implements `build_block`, `reset_parameters`, and where it differs from a plain LayerNorm and patch
    embedding, `build_norm`, `build_embedding` and `embed`. The timm contract is all here.

    Args:
        config: what to build.
        device: where the parameters live; `"meta"` allocates none.
        dtype: their type.
    """

    config: IsotropicConfig
    feature_stack = "blocks"
    feature_formats = ("NCHW", "NLC")
    token_weight: ClassVar[str] = ""
    """Name of a weight whose last axis is the tokens of the grid; empty where no weight is bound to a grid."""

    def __init__(
        self,
        config: IsotropicConfig,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(config)
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        self.embed_dim = self.num_features = self.head_hidden_size = config.embed_dim
        self.num_prefix_tokens = 0
        self.dynamic_img_size = config.dynamic_img_size
        self.weights_by_grid = WeightsByGrid()
        self.build_embedding(**dd)
        rates = config.drop_path_rates(config.depth)
        self.blocks = nn.Sequential(*(self.build_block(drop_path=rate, **dd) for rate in rates))
        self.norm = self.build_norm(**dd)
        self.feature_info = self._describe_features()
        self.build_head(**dd)
        self.reset_parameters()

    def build_embedding(self, **dd: Any) -> None:
        """Create `stem`, and whatever else `embed` needs."""
        config = self.config
        self.stem = PatchEmbed(config.img_size, config.patch_size, config.in_chans, config.embed_dim, **dd)

    def build_block(self, *, drop_path: float, **dd: Any) -> nn.Module:
        """One block, `(B, T, C)` to the same."""
        raise NotImplementedError

    def build_norm(self, **dd: Any) -> nn.Module:
        """The norm before the pool."""
        return nn.LayerNorm(self.config.embed_dim, eps=self.config.norm_eps, **dd)

    def embed(self, x_BIHW: Tensor) -> Tensor:
        """An image batch to the tokens that enter the first block, prefix tokens first."""
        return self.stem(x_BIHW)

    def pool(self, x_BTC: Tensor) -> Tensor:
        """`(B, T, C)` to `(B, C)`; unchanged where `global_pool` is empty."""
        if self.global_pool == "avg":
            return x_BTC[:, self.num_prefix_tokens :].mean(dim=1)
        if self.global_pool == "token":
            return x_BTC[:, 0]
        return x_BTC

    def forward_features(self, x: Tensor) -> Tensor:
        """An image batch `(B, I, H, W)` to normalized tokens `(B, T, C)`."""
        if self.dynamic_img_size:
            view, x = self._fitting(x)
            return view.forward_features(x)
        x_BTC = self.embed(x)
        x_BTC = checkpoint_seq(self.blocks, x_BTC) if self.grad_checkpointing else self.blocks(x_BTC)
        return self.norm(x_BTC)

    def forward_intermediates(
        self, x: Tensor, *args: Any, **options: Any
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """As in the base class, for images of any size where `dynamic_img_size` says so."""
        if self.dynamic_img_size:
            view, x = self._fitting(x)
            return view.forward_intermediates(x, *args, **options)
        return super().forward_intermediates(x, *args, **options)

    def run_part(self, part: nn.Module, x: Tensor) -> Tensor:
        """One block, recomputed in the backward pass if so set."""
        return checkpoint(part, x) if self.grad_checkpointing else part(x)

    def as_feature(self, x: Tensor, index: int, norm: bool, output_fmt: str) -> Tensor:
        """The tokens after a block without the prefix ones, as a map for `"NCHW"`."""
        y_BTC = (self.norm(x) if norm else x)[:, self.num_prefix_tokens :]
        return y_BTC if output_fmt == "NLC" else y_BTC.transpose(1, 2).unflatten(2, self.stem.grid_size).contiguous()

    def group_matcher(self, coarse: bool = False) -> dict[str, LayerwisePattern]:
        """Patterns that group the parameters by depth, for layer-wise learning rates."""
        return {
            "stem": r"^(?:stem|cls_token|pos_embed)",
            "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))],
        }

    def set_input_size(self, img_size: int | Grid | None = None, patch_size: int | Grid | None = None) -> None:
        """Take another image or patch size; weights bound to the old grid are resized to the new one, in place.

        Args:
            img_size: image height and width in pixels, an int if square; unchanged if None.
            patch_size: patch height and width in pixels, an int if square; unchanged if None.

        Raises:
            ValueError: when the image does not divide into patches; nothing has changed then.
        """
        old_grid = self.stem.grid_size
        self.stem.set_input_size(img_size, patch_size)
        if self.stem.grid_size != old_grid:
            self.resize_grid(old_grid, self.stem.grid_size)
        self.feature_info = self._describe_features()
        self.config = dataclasses.replace(self.config, img_size=self.stem.img_size, patch_size=self.stem.patch_size)
        self._remember_input_size(self.stem.img_size)

    def weights_at(self, old_grid: Grid, new_grid: Grid) -> Iterator[tuple[str, Tensor]]:
        """Every weight bound to the token grid: each layer that has one is a `GridBound`."""
        for prefix, module in self.named_modules():
            if isinstance(module, GridBound) and module is not self:
                for name, value in module.weights_at(old_grid, new_grid):
                    yield f"{prefix}.{name}", value

    def view_at(self, img_size: Grid) -> "IsotropicBackbone":
        """This network as `set_input_size` would leave it, as another object that shares all weights bound to no grid.

        Args:
            img_size: image height and width in pixels.

        Returns:
            The view. Where gradients are recorded its resized weights are functions of this network's; where not, they
            are kept for the next image of that size, until this network's change.

        Raises:
            ValueError: when the image does not divide into patches.
        """
        view = view_of(self)
        view.dynamic_img_size = False
        view.stem.set_input_size(img_size)
        old_grid, new_grid = self.stem.grid_size, view.stem.grid_size
        if new_grid == old_grid:
            return view
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            put_weights(view, self.weights_at(old_grid, new_grid))
        else:
            resized = self.weights_by_grid.get(new_grid, self.parameters(), lambda: self.weights_at(old_grid, new_grid))
            put_weights(view, resized)
        return view

    def _fitting(self, x_BIHW: Tensor) -> tuple["IsotropicBackbone", Tensor]:
        """The view for images of this size, and the images padded to whole patches."""
        height, width = x_BIHW.shape[2:]
        below, right = (-side % patch for side, patch in zip((height, width), self.stem.patch_size, strict=True))
        return self.view_at((height + below, width + right)), F.pad(x_BIHW, (0, right, 0, below))

    def tokens_in(self, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
        """How many patch tokens a state dict of these shapes is bound to; None where it is bound to no number."""
        shape = shapes.get(self.token_weight)
        return shape[-1] if shape else None

    def _describe_features(self) -> list[dict[str, Any]]:
        reduction = max(self.stem.patch_size)
        return [
            {"module": f"blocks.{i}", "num_chs": self.embed_dim, "reduction": reduction}
            for i in range(len(self.blocks))
        ]

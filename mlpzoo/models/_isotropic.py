"""The bases of isotropic backbones: one grid from the stem to the head, of tokens or of positions of a map.

Shape suffixes: B batch, I image channels, H × W pixels or positions, T tokens (prefix tokens such as a class token
included), C channels.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from timm.layers import to_2tuple
from torch import Tensor, nn

from mlpzoo.layers import PatchEmbed
from mlpzoo.layers.patch_embed import grid_of
from mlpzoo.models._base import Backbone, LayerwisePattern
from mlpzoo.models._config import BackboneConfig, GridBoundConfig
from mlpzoo.models._maps import MapBackbone
from mlpzoo.models._strides import grid_after, stride_of
from mlpzoo.ops.resize import Grid


@dataclasses.dataclass(frozen=True, kw_only=True)
class IsotropicConfig(GridBoundConfig):
    """Settings of an isotropic backbone over tokens.

    Attributes:
        patch_size: patch height and width in pixels, an int if square.
        embed_dim: channels of a token.
        depth: blocks.
    """

    patch_size: int | Grid = 16
    embed_dim: int
    depth: int

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        for name in ("embed_dim", "depth"):
            self._require(name, getattr(self, name) >= 1, "1 or more")
        sides = to_2tuple(self.patch_size)
        self._require("patch_size", len(sides) == 2 and min(sides) >= 1, "a size or a (height, width), in pixels")

    @property
    def stem_width(self) -> int:
        """Channels of a token."""
        return self.embed_dim

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """The longer side of a patch, for every block."""
        return (max(to_2tuple(self.patch_size)),) * self.depth


@dataclasses.dataclass(frozen=True, kw_only=True)
class IsotropicMapConfig(BackboneConfig):
    """Settings of an isotropic backbone over maps; with `GridBoundConfig` beside it if weights are bound to a grid.

    Attributes:
        embed_dim: channels of the map.
        depth: blocks.
        patch_size: side of a patch in pixels, and so the stride of every feature map.
    """

    embed_dim: int
    depth: int
    patch_size: int = 16

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        for name in ("embed_dim", "depth", "patch_size"):
            self._require(name, getattr(self, name) >= 1, "1 or more")

    @property
    def stem_width(self) -> int:
        """Channels of the map."""
        return self.embed_dim

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """The side of a patch, for every block."""
        return (self.patch_size,) * self.depth


class _Blocks(Backbone):
    """Stem, blocks, norm, head: what isotropic backbones over tokens and over maps share."""

    config: Any
    feature_stack = "blocks"

    def __init__(
        self,
        config: BackboneConfig,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(config)
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        self.embed_dim = self.num_features = self.head_hidden_size = self.config.embed_dim
        self.build_embedding(**dd)
        if config.image_size is not None:
            self.check_size(config.image_size)
        rates = config.drop_path_rates(self.config.depth)
        self.blocks = nn.Sequential(*(self.build_block(drop_path=rate, **dd) for rate in rates))
        self.norm = self.build_norm(self.embed_dim, **dd)
        self.feature_info = self._describe_features()
        self.build_head(**dd)
        self.reset_parameters()

    def build_embedding(self, **dd: Any) -> None:
        """Create `stem`, and whatever else `embed` needs."""
        raise NotImplementedError

    def build_block(self, *, drop_path: float, **dd: Any) -> nn.Module:
        """One block, whose input and output are alike."""
        raise NotImplementedError

    def group_matcher(self, coarse: bool = False) -> dict[str, LayerwisePattern]:
        """Patterns that group the parameters by depth, for layer-wise learning rates."""
        return {
            "stem": r"^(?:stem|cls_token|pos_embed)",
            "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))],
        }

    def _describe_features(self) -> list[dict[str, Any]]:
        reduction = max(to_2tuple(self.config.patch_size))
        return [
            {"module": f"blocks.{i}", "num_chs": self.embed_dim, "reduction": reduction}
            for i in range(len(self.blocks))
        ]


class IsotropicBackbone(_Blocks):
    """Stem, blocks, norm, pool, head over tokens `(batch, tokens, channels)` that keep one grid.

    A family implements `build_block`, which finds the grid in `self.stem.grid`, and `reset_parameters`; and where it
    differs from a plain LayerNorm and patch embedding, `build_norm`, `build_embedding` and `embed`. The timm contract
    is all here. Weights of its own that are bound to the grid, such as position embeddings, make it a `GridBound` too:
    `class Net(GridBound, IsotropicBackbone)`.

    Args:
        config: what to build.
        device: where the parameters live; `"meta"` allocates none.
        dtype: their type.
    """

    config: IsotropicConfig
    feature_formats = ("NCHW", "NLC")
    num_prefix_tokens = 0
    stem: PatchEmbed

    def build_embedding(self, **dd: Any) -> None:
        """Create `stem`, and whatever else `embed` needs."""
        config = self.config
        self.stem = PatchEmbed(config.img_size, config.patch_size, config.in_chans, config.embed_dim, **dd)

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

    def as_feature(self, x: Tensor, index: int, norm: bool, output_fmt: str) -> Tensor:
        """The tokens after a block without the prefix ones, as a map for `"NCHW"`."""
        y_BTC = (self.norm(x) if norm else x)[:, self.num_prefix_tokens :]
        return y_BTC if output_fmt == "NLC" else y_BTC.transpose(1, 2).unflatten(2, self.stem.grid_size).contiguous()

    @property
    def size_multiple(self) -> Grid:
        """The patch."""
        return self.stem.patch_size

    def check_size(self, img_size: Grid) -> None:
        """Raise a ValueError that names the nearest sizes, unless the image divides into patches."""
        grid_of(img_size, self.stem.patch_size)

    def grids_at(self, img_size: Grid) -> Mapping[str, Grid]:
        """Every bound module has the grid of the patches."""
        patch = self.stem.patch_size
        return dict.fromkeys(self.bound_modules(), (img_size[0] // patch[0], img_size[1] // patch[1]))

    def set_input_size(self, img_size: int | Grid | None = None, patch_size: int | Grid | None = None) -> None:
        """Take another image or patch size; weights bound to the old grid are resized to the new one, in place.

        Args:
            img_size: image height and width in pixels, an int if square; unchanged if None.
            patch_size: patch height and width in pixels, an int if square; unchanged if None.

        Raises:
            ValueError: when the image does not divide into patches; nothing has changed then.
        """
        size: Grid = self.config.image_size if img_size is None else to_2tuple(img_size)
        if patch_size is not None:
            self.stem.set_input_size(size, patch_size)
            self.config = dataclasses.replace(self.config, patch_size=self.stem.patch_size)
            self.remember_options(patch_size=self.stem.patch_size)
            self.feature_info = self._describe_features()
        super().set_input_size(size)


class IsotropicMapBackbone(_Blocks, MapBackbone):
    """Stem, blocks, norm, pool, head over maps that keep one size.

    A family implements `build_embedding`, which creates `stem` (it says its `stride`), `build_block` and
    `reset_parameters`, and where there is no final LayerNorm `build_norm`. It may keep its maps NCHW, see `map_layout`.
    Where the config is a `GridBoundConfig`, blocks find the height and width of the map in `self.grid_at(img_size)`.

    Args:
        config: what to build.
        device: where the parameters live; `"meta"` allocates none.
        dtype: their type.
    """

    config: Any

    @property
    def size_multiple(self) -> Grid:
        """The stride of the stem where weights are bound to a grid."""
        stride = 1 if self.config.image_size is None else stride_of(self.stem)
        return stride, stride

    @property
    def least_side(self) -> int:
        """One patch."""
        return stride_of(self.stem)

    def grid_at(self, img_size: Grid) -> Grid:
        """Height and width of the map for an image of so many pixels."""
        return grid_after(self.stem, img_size)

    def grids_at(self, img_size: Grid) -> Mapping[str, Grid]:
        """Every bound module has the grid of the map."""
        return dict.fromkeys(self.bound_modules(), self.grid_at(img_size))

"""The base of networks that keep maps from the stem to the head.

Shape suffixes: B batch, I image channels, H × W pixels or positions, C channels.
"""

from typing import ClassVar, Literal

from torch import Tensor, nn

from mlpzoo.models._base import Backbone
from mlpzoo.models._config import BackboneConfig


class MapBackbone(Backbone):
    """Norm, pool and head over maps; whatever they come from is the subclass's.

    A subclass creates `stem`, the parts of its `feature_stack`, and `norm`. All of them take and give maps in
    `map_layout`, but the stem, which takes an image.

    Args:
        config: what to build.
    """

    map_layout: ClassVar[Literal["NHWC", "NCHW"]] = "NHWC"
    """How maps lie inside: channels last, `(B, H, W, C)`, or first, for networks of convolutions and BatchNorms."""
    feature_formats = ("NCHW", "NHWC")
    stem: nn.Module

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__(config)
        # How timm asks where the channels are.
        self.output_fmt = self.map_layout
        self.feature_dim = -1 if self.map_layout == "NHWC" else 1

    def pool(self, x: Tensor) -> Tensor:
        """A map to `(B, C)`; unchanged where `global_pool` is empty."""
        height = self.map_layout.index("H")
        return x.mean(dim=(height, height + 1)) if self.global_pool == "avg" else x

    def embed(self, x_BIHW: Tensor) -> Tensor:
        """An image batch to the map that enters the first part."""
        return self.stem(x_BIHW)

    def as_feature(self, x: Tensor, index: int, norm: bool, output_fmt: str) -> Tensor:
        """The map after a part, through the norm if it fits and is asked for."""
        y = self.finish(x, index) if norm else x
        if output_fmt == self.map_layout:
            return y
        return y.permute((0, 3, 1, 2) if output_fmt == "NCHW" else (0, 2, 3, 1)).contiguous()

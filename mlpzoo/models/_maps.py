"""The base of networks that keep maps from the stem to the head, and so take images of any size.

Shape suffixes: B batch, I image channels, H × W pixels or positions, C channels.
"""

from timm.layers import to_2tuple
from torch import Tensor, nn

from mlpzoo.models._base import Backbone, BackboneConfig
from mlpzoo.ops.resize import Grid


class MapBackbone(Backbone):
    """Norm, pool and head over maps `(batch, height, width, channels)`; whatever they come from is the subclass's.

    A subclass creates `stem`, the parts of its `feature_stack`, and `norm`.

    Args:
        config: what to build.
    """

    feature_formats = ("NCHW", "NHWC")
    stem: nn.Module

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__(config)
        # How timm asks where the channels are.
        self.output_fmt = "NHWC"
        self.feature_dim = -1

    def pool(self, x_BHWC: Tensor) -> Tensor:
        """`(B, H, W, C)` to `(B, C)`; unchanged where `global_pool` is empty."""
        return x_BHWC.mean(dim=(1, 2)) if self.global_pool == "avg" else x_BHWC

    def embed(self, x_BIHW: Tensor) -> Tensor:
        """An image batch to the map that enters the first part."""
        return self.stem(x_BIHW)

    def as_feature(self, x: Tensor, index: int, norm: bool, output_fmt: str) -> Tensor:
        """The map after a part, through the norm if it fits and is asked for."""
        y_BHWC = self.finish(x, index) if norm else x
        return y_BHWC if output_fmt == "NHWC" else y_BHWC.permute(0, 3, 1, 2).contiguous()

    def set_input_size(self, img_size: int | Grid | None = None) -> None:
        """Take another image size: no weight knows one, so only the data config changes.

        Args:
            img_size: image height and width in pixels, an int if square; unchanged if None.
        """
        if img_size is not None:
            self._remember_input_size(to_2tuple(img_size))

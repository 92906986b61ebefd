"""Pyramids that mix inside windows of fixed sides: bound to no image size, but to multiples of the windows."""

import dataclasses
import math

from timm.layers import to_2tuple

from mlpzoo.models._pyramid import PyramidBackbone, PyramidConfig
from mlpzoo.ops.resize import Grid


@dataclasses.dataclass(frozen=True, kw_only=True)
class WindowedConfig(PyramidConfig):
    """Settings of a pyramid that mixes inside windows.

    Attributes:
        img_size: image height and width in pixels, an int if square, that data configs name. Images of every other size
            that the network can take go in as well: no weight depends on it.
        dynamic_img_size: whether images of any size go in, not only those of which every stage's map is a multiple of
            its windows. Windows then reach beyond the border of a map, and what is beyond counts for nothing.
        window_sizes: side of each stage's windows, in positions.
    """

    img_size: int | Grid = 224
    dynamic_img_size: bool = False
    window_sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        self._require("img_size", len(to_2tuple(self.img_size)) == 2, "a size or a (height, width), in pixels")
        self._require_for_each_stage("window_sizes")

    @property
    def data_size(self) -> Grid:
        """Image height and width in pixels that data configs name."""
        height, width = to_2tuple(self.img_size)
        return height, width


class WindowedBackbone(PyramidBackbone):
    """A pyramid whose blocks mix inside windows.

    Args:
        config: what to build.
        device: where the parameters live; `"meta"` allocates none.
        dtype: their type.

    Raises:
        ValueError: for an `img_size` that the network cannot take, naming the nearest that it can.
    """

    config: WindowedConfig
    size_hint = "; or create the network with dynamic_img_size=True, which takes any"

    def set_input_size(self, img_size: int | Grid | None = None) -> None:
        """As in the base class; only what configs say changes."""
        super().set_input_size(img_size)
        if img_size is not None:
            self.config = dataclasses.replace(self.config, img_size=to_2tuple(img_size))

    @property
    def size_multiple(self) -> Grid:
        """What makes every stage's map a multiple of its windows; 1 where windows may reach beyond them."""
        if self.config.dynamic_img_size:
            return 1, 1
        stages = zip(self.reductions, self.config.window_sizes, strict=True)
        multiple = math.lcm(*(reduction * window for reduction, window in stages))
        return multiple, multiple

"""The settings that every backbone has, and those of backbones with weights bound to a grid."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from timm.layers import to_2tuple

from mlpzoo.ops._triton import require_triton
from mlpzoo.ops.resize import Grid

NEUTRAL = (
    *("num_classes", "in_chans", "global_pool", "drop_rate", "proj_drop_rate", "drop_path_rate", "drop_path_decay"),
    *("pos_drop_rate", "attn_drop_rate", "img_size", "dynamic_img_size", "feature_norms", "impl"),
)
"""Fields by which one network is trained, called or adapted in several ways."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """Settings that every family takes; each field can be overridden in `create_model`.

    Attributes:
        num_classes: classes of the head; 0 for none.
        in_chans: channels of the image.
        global_pool: `"avg"`, or `""` to keep the unpooled features; some families offer more.
        drop_rate: dropout rate before the head.
        proj_drop_rate: dropout rate inside the blocks, after each linear of an MLP.
        drop_path_rate: stochastic depth rate, of the last block where the family ramps it up.
        drop_path_decay: whether the rate ramps up linearly from 0 over the blocks, or is the same in all.
        act_layer: name of the activation, see `mlpzoo.layers.create_activation`.
        norm_eps: epsilon of the LayerNorms.
        impl: which implementation of its fast ops the network runs: `"auto"`, `"reference"`, or `"triton"` for kernels
            where there are some, which need a CUDA device (or Triton's interpreter, to try them).
    """

    num_classes: int = 1000
    in_chans: int = 3
    global_pool: str = "avg"
    drop_rate: float = 0.0
    proj_drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    drop_path_decay: bool = True
    act_layer: str = "gelu"
    norm_eps: float = 1e-6
    impl: str = "auto"

    has_stages: ClassVar[bool] = False
    """Whether the network's parts are stages of falling resolution, each of which gives a feature map of its own."""
    dense_prefixes: ClassVar[tuple[str, ...]] = ()
    """What the names of parameters begin with that files of dense prediction have and classifiers do without."""
    has_positions: ClassVar[bool] = True
    """Whether features tell of places in the image, as dense prediction needs them."""

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        self._require("num_classes", self.num_classes >= 0, "0 or more")
        self._require("in_chans", self.in_chans >= 1, "1 or more")
        for name in ("drop_rate", "proj_drop_rate", "drop_path_rate"):
            self._require(name, 0 <= getattr(self, name) < 1, "in [0, 1)")
        if self.impl == "triton":
            require_triton()

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ValueError(f"{name} must be {expected}, got {getattr(self, name)!r}")

    @property
    def image_size(self) -> Grid | None:
        """Image height and width in pixels that weights are bound to; None where they are bound to none."""
        return None

    @property
    def data_size(self) -> Grid | None:
        """Image height and width in pixels that data configs name; None for timm's 224.

        The size that weights are bound to, unless a family is made for one size and takes others as they are.
        """
        return self.image_size

    @property
    def resizes_weights(self) -> bool:
        """Whether images of any size go in, met by weights resized to each."""
        return False

    @property
    def settings(self) -> dict[str, Any]:
        """Fields that say what the network computes, as JSON has them: those without the ways to train and to call it.

        Names and shapes of parameters do not tell all of them.
        """
        fields = (field.name for field in dataclasses.fields(self))
        told = {name: getattr(self, name) for name in fields if name not in NEUTRAL and not name.endswith("_init")}
        return json.loads(json.dumps(told))

    @property
    def in_timm(self) -> bool:
        """Whether timm has this network, where it has networks of the family."""
        return True

    @property
    def first_conv(self) -> str:
        """Name of the convolution that sees the image, whose input channels are the image's."""
        return "stem.proj"

    @property
    def stem_width(self) -> int:
        """Output channels of `first_conv`."""
        raise NotImplementedError

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """Pixels for one position of each feature map that `forward_intermediates` gives."""
        raise NotImplementedError

    @property
    def optional_prefixes(self) -> tuple[str, ...]:
        """What the names of parameters begin with that some files lack; loading leaves those as they were drawn."""
        return ()

    def fields_from_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
        """Fields that a file was built with, as far as its shapes tell of them, to recognize files by.

        Args:
            shapes: names, in our layout, to shapes.

        Returns:
            Field to value; None where the file is plainly not of this variant.
        """
        stem = shapes.get(f"{self.first_conv}.weight", ())
        if len(stem) != 4 or stem[0] != self.stem_width:
            return None
        return {"in_chans": stem[1], "num_classes": shapes.get("head.weight", (0,))[0]}

    def drop_path_rates(self, num_blocks: int) -> list[float]:
        """The stochastic depth rate of each block, in order."""
        if not self.drop_path_decay:
            return [self.drop_path_rate] * num_blocks
        return [self.drop_path_rate * i / max(num_blocks - 1, 1) for i in range(num_blocks)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class GridBoundConfig(BackboneConfig):
    """Settings of a backbone that has weights bound to a grid, whatever its shape.

    Attributes:
        img_size: image height and width in pixels, an int if square.
        dynamic_img_size: whether images of any size go in: padded with zeros, on the right and below, to the next size
            that the network can take, and met by weights resized as `set_input_size` would. Gradients reach the
            weights through the resizing, which is done anew for every batch of another size than `img_size`.
    """

    img_size: int | Grid = 224
    dynamic_img_size: bool = False

    def __post_init__(self) -> None:
        """Refuse values no network can be built from. Which sizes work is checked when one is built."""
        super().__post_init__()
        self._require("img_size", len(to_2tuple(self.img_size)) == 2, "a size or a (height, width), in pixels")

    @property
    def image_size(self) -> Grid:
        """Image height and width in pixels that weights are bound to."""
        height, width = to_2tuple(self.img_size)
        return height, width

    @property
    def resizes_weights(self) -> bool:
        """Whether images of any size go in, met by weights resized to each."""
        return self.dynamic_img_size

    def working_sides(self) -> Sequence[int] | None:
        """All sides of an image, in pixels, that the weights can take; None for a family that takes every multiple."""
        return None

    @property
    def sizes_that_work(self) -> str:
        """The sentence of error messages that names the sizes; empty where every multiple works."""
        sides = self.working_sides()
        return "" if sides is None else f"height and width may each be {', '.join(map(str, sides))} pixels"

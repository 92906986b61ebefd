"""The networks of the zoo as backbones of detectron2, in Python or in its lazy configs."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from mlpzoo._names import family_of
from mlpzoo.dense.backbone import DenseBackbone

try:
    from detectron2.config import LazyCall
    from detectron2.modeling.backbone import FPN, Backbone
    from detectron2.modeling.backbone.fpn import LastLevelMaxPool
except ImportError as error:
    raise ImportError(
        "mlpzoo.dense.detectron2 needs detectron2, which is not installed or does not load "
        f"({error}): see https://detectron2.readthedocs.io for how to install it, for it is not on PyPI"
    ) from error


class MLPZooBackbone(Backbone):
    """A `DenseBackbone` whose maps have names: `res2` to `res5` of a network with stages, else `p2` to `p5`.

    The latter are those of a `SimpleFeaturePyramid`, and go to the heads as they are; `top_block` makes coarser ones.

    Args:
        name: a name of `mlpzoo.list_models()`, with a tag after a dot to choose among released weights.
        top_block: detectron2's `LastLevelMaxPool` or `LastLevelP6P7`, for a network without stages.
        options: those of `DenseBackbone` and of the network.

    Raises:
        ValueError: for what `DenseBackbone` refuses.

    Shape:
        `(batch, in_chans, height, width)` to a dict of maps.
    """

    def __init__(self, name: str, *, top_block: nn.Module | None = None, **options: Any) -> None:
        super().__init__()
        self.body = DenseBackbone(name, **options)
        self.top_block: Any = top_block
        prefix = "res" if self.body.pyramid is None else "p"
        self._out_features = [f"{prefix}{i + 2}" for i in self.body.out_indices]
        self._out_feature_channels = dict(zip(self._out_features, self.body.channels, strict=True))
        self._out_feature_strides = dict(zip(self._out_features, self.body.strides, strict=True))
        for _ in range(getattr(top_block, "num_levels", 0)):
            last = self._out_features[-1]
            extra = f"p{int(last[-1]) + 1}"
            self._out_features.append(extra)
            self._out_feature_channels[extra] = self._out_feature_channels[last]
            self._out_feature_strides[extra] = 2 * self._out_feature_strides[last]

    @property
    def size_divisibility(self) -> int:
        """What images are padded to a multiple of."""
        return max(self.body.strides)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """`(batch, in_chans, height, width)` to a dict of maps."""
        maps = self.body(x)
        if self.top_block is not None:
            maps = [*maps, *self.top_block(maps[-1])]
        return dict(zip(self._out_features, maps, strict=True))


def lazy_backbone(
    name: str,
    *,
    out_channels: int = 256,
    out_indices: Sequence[int] = (0, 1, 2, 3),
    top_block: Any = None,
    **options: Any,
) -> Any:
    """A lazy config for `model.backbone`: detectron2's FPN on a network with stages, or one without, as it is.

    Args:
        name: a name of `mlpzoo.list_models()`, with a tag after a dot to choose among released weights.
        out_channels: channels of every map.
        out_indices: which of the strides 4, 8, 16 and 32.
        top_block: lazy config of what makes coarser levels; `LastLevelMaxPool` if None, which R-CNNs want.
        options: those of `DenseBackbone` and of the network.

    Returns:
        A config for detectron2's `instantiate`, whose every entry can be overridden.
    """
    top_block = LazyCall(LastLevelMaxPool)() if top_block is None else top_block
    if not family_of(name).variants[name.split(".")[0]].has_stages:
        options = {"pyramid_channels": out_channels, "top_block": top_block, **options}
        return LazyCall(MLPZooBackbone)(name=name, out_indices=list(out_indices), **options)
    return LazyCall(FPN)(
        bottom_up=LazyCall(MLPZooBackbone)(name=name, out_indices=list(out_indices), **options),
        in_features=[f"res{i + 2}" for i in out_indices],
        out_channels=out_channels,
        norm="",
        top_block=top_block,
    )

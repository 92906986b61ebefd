"""Names of timm's for networks without stages as pyramids, for clients that take a name and nothing else.

`mixer_b16_pyramid` is `DenseBackbone("mixer_b16")` in the shape that `timm.create_model(…, features_only=True)` has:
four maps of strides 4 to 32, with a `feature_info`. transformers, segmentation-models-pytorch and effdet build their
backbones that way, and most of their heads want such maps. The names are timm's alone: `mlpzoo.list_models()` has
networks, and these are networks with new layers on top.
"""

from collections.abc import Callable
from typing import Any

import timm
from timm.models import FeatureInfo, register_model
from torch import nn

from mlpzoo.dense.backbone import STRIDES, DenseBackbone
from mlpzoo.models import families

__all__ = ["PyramidFeatures", "register_pyramids"]

SUFFIX = "_pyramid"


class PyramidFeatures(DenseBackbone):
    """A `DenseBackbone` of a network without stages, described as timm's feature extractors are.

    Attributes:
        feature_info: channels, stride and module of each map.
        pretrained_cfg: timm's data config of the network.

    Shape:
        `(batch, in_chans, height, width)` to a list of `(batch, channels, height / stride, width / stride)`.
    """

    def __init__(
        self, name: str, *, pyramid_channels: int = 256, output_stride: int | None = None, **options: Any
    ) -> None:
        super().__init__(name, pyramid_channels=pyramid_channels, output_stride=output_stride, **options)
        built = {index: f"pyramid.levels.{level}" for level, index in enumerate(self.out_indices)}
        described = [
            {
                "num_chs": pyramid_channels,
                "reduction": min(stride, output_stride or stride),
                "module": built.get(index, f"stride{stride}"),
            }
            for index, stride in enumerate(STRIDES)
        ]
        self.feature_info = FeatureInfo(described, self.out_indices)
        self.pretrained_cfg = self.network.pretrained_cfg


def register_pyramids() -> None:
    """Register a name with timm for every network without stages whose patches are a power of 2 wide."""
    exported = list(__all__)
    for family in families():
        for name, config in family.variants.items():
            if config.has_stages or not config.has_positions:
                continue
            if all(stride & (stride - 1) == 0 for stride in config.feature_strides):
                entrypoint = _entrypoint(name)
                assert not timm.is_model(entrypoint.__name__), f"timm already has {entrypoint.__name__}"
                register_model(entrypoint)
    # timm adds what it registers, and these are not attributes.
    __all__[:] = exported


def _entrypoint(name: str) -> Callable[..., nn.Module]:
    def create(pretrained: bool = False, *, features_only: bool = False, **options: Any) -> nn.Module:
        if not features_only:
            raise ValueError(f"{name}{SUFFIX} gives feature maps alone: pass features_only=True, or take {name}")
        # timm has taken the tag off the name and calls it this.
        tag = options.get("pretrained_cfg")
        if isinstance(tag, str):
            options.pop("pretrained_cfg")
        return PyramidFeatures(f"{name}.{tag}" if isinstance(tag, str) else name, pretrained=pretrained, **options)

    create.__name__ = create.__qualname__ = f"{name}{SUFFIX}"
    create.__module__ = __name__
    create.__doc__ = f"Maps of strides 4 to 32 from {name}: `timm.create_model({name + SUFFIX!r}, features_only=True)`."
    return create

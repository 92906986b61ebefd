"""A network of the zoo with torchvision's feature pyramid network: the backbone of its detectors."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool

from mlpzoo.dense.backbone import DenseBackbone


class FpnBackbone(nn.Module):
    """A `DenseBackbone` and torchvision's feature pyramid network on its maps.

    Maps of a `SimpleFeaturePyramid` have one width and have all seen the whole network, so they go without the lateral
    and downward paths, as in ViTDet; the extra levels are made all the same.

    Args:
        body: from images to maps.
        out_channels: channels of every map that leaves; those of the simple feature pyramid, where there is one.
        extra_blocks: what makes levels coarser than those of the body.

    Shape:
        `(batch, in_chans, height, width)` to an `OrderedDict` of maps `(batch, out_channels, height', width')`, the
        finest first, named `"0"`, `"1"`, … and as `extra_blocks` names its own.
    """

    def __init__(self, body: DenseBackbone, out_channels: int, extra_blocks: ExtraFPNBlock | None = None) -> None:
        super().__init__()
        self.body = body
        self.out_channels = out_channels
        self.extra_blocks = extra_blocks if body.pyramid is not None else None
        self.fpn = None
        if body.pyramid is None:
            self.fpn = FeaturePyramidNetwork(list(body.channels), out_channels, extra_blocks)

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """`(batch, in_chans, height, width)` to named maps."""
        maps = self.body(x)
        names = [str(i) for i in range(len(maps))]
        if self.fpn is not None:
            return self.fpn(OrderedDict(zip(names, maps, strict=True)))
        if self.extra_blocks is not None:
            maps, names = self.extra_blocks(maps, maps, names)
        return OrderedDict(zip(names, maps, strict=True))


def fpn_backbone(
    name: str,
    *,
    out_channels: int = 256,
    out_indices: int | Sequence[int] = (0, 1, 2, 3),
    extra_blocks: ExtraFPNBlock | None = None,
    **options: Any,
) -> FpnBackbone:
    """A backbone for torchvision's detectors.

    Args:
        name: a name of `mlpzoo.list_models()`, with a tag after a dot to choose among released weights.
        out_channels: channels of every map that leaves.
        out_indices: which of the strides 4, 8, 16 and 32: all for R-CNNs, `(1, 2, 3)` for RetinaNet and FCOS.
        extra_blocks: what makes coarser levels: torchvision's `LastLevelMaxPool` if None, which R-CNNs want;
            `LastLevelP6P7(out_channels, out_channels)` for RetinaNet and FCOS.
        options: those of `DenseBackbone` and of the network.

    Returns:
        A module with `body`, `fpn` and `out_channels`, as `resnet_fpn_backbone` gives.

    Raises:
        ValueError: for what `DenseBackbone` refuses.
        TypeError: for an unknown option.
    """
    body = DenseBackbone(name, out_indices=out_indices, pyramid_channels=out_channels, **options)
    return FpnBackbone(body, out_channels, extra_blocks or LastLevelMaxPool())

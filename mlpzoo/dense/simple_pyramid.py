"""A feature pyramid from the one map of a network without stages.

Shape suffixes: B batch, C channels in, O channels out, H × W positions.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import LayerNorm2d
from torch import Tensor, nn


def rescaling(dim: int, stride: int, target: int, **dd: Any) -> tuple[nn.Sequential, int]:
    """Layers from a map of one stride to a map of another, and the channels that leave them.

    Each doubling is a transposed convolution that halves the channels, with norm and GELU between two of them;
    shrinking is one max pooling, rounded up.
    """
    layers: list[nn.Module] = []
    if target > stride:
        factor = target // stride
        layers.append(nn.MaxPool2d(factor, factor, ceil_mode=True))
    for i in range(int(math.log2(stride / target)) if target < stride else 0):
        if i > 0:
            layers += [LayerNorm2d(dim, **dd), nn.GELU()]
        layers.append(nn.ConvTranspose2d(dim, dim // 2, 2, 2, **dd))
        dim //= 2
    return nn.Sequential(*layers), dim


class SimpleFeaturePyramid(nn.Module):
    """Maps of several strides from one map, each rescaled by itself, then brought to the same channels.

    As in ViTDet (arXiv:2203.16527, section 3): there is no way down from coarse to fine, for the one map has seen all
    blocks. A 1×1 and a 3×3 convolution follow the rescaling, each with a LayerNorm over the channels.

    Args:
        in_channels: channels of the map.
        stride: pixels for one of its positions, a power of 2.
        out_channels: channels of every map of the pyramid.
        strides: those of the pyramid, powers of 2.
        device: where the parameters live.
        dtype: their type.

    Raises:
        ValueError: when a stride is no power of 2, or the channels cannot be halved often enough.

    Shape:
        `(batch, in_channels, height, width)` to a list of `(batch, out_channels, height', width')`.
    """

    def __init__(
        self,
        in_channels: int,
        stride: int = 16,
        out_channels: int = 256,
        strides: Sequence[int] = (4, 8, 16, 32),
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        wrong = [s for s in (stride, *strides) if s < 1 or s & (s - 1)]
        if wrong:
            raise ValueError(
                f"a simple feature pyramid doubles and halves, so strides must be powers of 2, got {wrong[0]}: build "
                f"the network with a patch_size that is one, such as 16"
            )
        if in_channels % max(1, stride // min(strides)):
            raise ValueError(
                f"{in_channels} channels cannot be halved on the way from stride {stride} to {min(strides)}"
            )
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        self.strides = tuple(strides)
        self.out_channels = out_channels
        levels = []
        for target in strides:
            rescale, dim = rescaling(in_channels, stride, target, **dd)
            levels.append(
                nn.Sequential(
                    *rescale,
                    nn.Conv2d(dim, out_channels, 1, bias=False, **dd),
                    LayerNorm2d(out_channels, **dd),
                    nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False, **dd),
                    LayerNorm2d(out_channels, **dd),
                )
            )
        self.levels = nn.ModuleList(levels)

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """`(batch, in_channels, height, width)` to one `(batch, out_channels, height', width')` a stride."""
        return [level(x_BCHW) for level in self.levels]

"""Convolutions that sMLPNet, Caterpillar and Strip-MLP are made of: patches without a bias, and a depthwise one.

Shape suffixes: B batch, I channels in, C channels out, H × W positions.
"""

from typing import Any

from torch import Tensor, nn

from mlpzoo.layers.activation import create_activation
from mlpzoo.layers.folding import channel_scale, is_fixed
from mlpzoo.ops import channels_last


class PatchConv(nn.Module):
    """From an image to a map whose channels stand last, by a convolution without overlap and without a bias.

    Args:
        in_chans: channels in.
        out_chans: channels out.
        kernel_size: side of a patch.
        impl: `"reference"` leaves the image in the memory format it comes in; any other lays it out channels last.
        dd: `device` and `dtype` of the parameters.

    Shape:
        `(batch, in_chans, height, width)` to `(batch, height', width', out_chans)`; a rest at the right and below is
        not seen.
    """

    def __init__(self, in_chans: int, out_chans: int, kernel_size: int, *, impl: str = "auto", **dd: Any) -> None:
        super().__init__()
        self.stride = kernel_size
        self.impl = impl
        self.proj = nn.Conv2d(in_chans, out_chans, kernel_size, kernel_size, bias=False, **dd)

    def forward(self, x_BIHW: Tensor) -> Tensor:
        """`(batch, in_chans, height, width)` to `(batch, height', width', out_chans)`."""
        return self.embed(x_BIHW)

    def embed(self, x_BIHW: Tensor) -> Tensor:
        """What `forward` does with an image, for subclasses."""
        if self.impl == "reference":
            return self.proj(x_BIHW).permute(0, 2, 3, 1)
        return self.proj(channels_last(x_BIHW)).permute(0, 2, 3, 1).contiguous()


class PatchDownsample(PatchConv):
    """From the map of one stage to that of the next, by the same means.

    Shape:
        `(batch, height, width, in_chans)` to `(batch, height', width', out_chans)`.
    """

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, in_chans)` to `(batch, height', width', out_chans)`."""
        return self.embed(x_BHWC.permute(0, 3, 1, 2))


class DepthwiseMixing(nn.Module):
    """BatchNorm, activation, 3×3 depthwise convolution.

    Args:
        dim: channels.
        act_layer: name of the activation, see `create_activation`.
        norm_eps: epsilon of the BatchNorm.
        dd: `device` and `dtype` of the parameters.

    Shape:
        `(batch, dim, height, width)` to the same.
    """

    def __init__(self, dim: int, act_layer: str, norm_eps: float, **dd: Any) -> None:
        super().__init__()
        self.norm: nn.Module = nn.BatchNorm2d(dim, eps=norm_eps, **dd)
        self.act = create_activation(act_layer)
        self.conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False, **dd)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """`(batch, dim, height, width)` to the same."""
        return self.conv(self.act(self.norm(x_BCHW)))

    def folded(self) -> nn.Module:
        """Itself with its BatchNorm fixed, which cannot go: an activation follows."""
        if is_fixed(self.norm):
            self.register_module("norm", channel_scale(self.norm))
        return self

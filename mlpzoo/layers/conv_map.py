"""A convolution that begins a network or a stage and keeps maps as PyTorch's convolutions and BatchNorms want them.

Shape suffixes: B batch, I channels in, C channels out, H × W positions.
"""

from typing import Any

from torch import Tensor, nn

from mlpzoo.layers.activation import create_activation
from mlpzoo.layers.folding import channel_scale, is_fixed
from mlpzoo.ops import channels_last
from mlpzoo.ops.resize import Grid


class ConvMap(nn.Module):
    """Patches of an image or of a map, by a convolution.

    Args:
        in_chans: channels in.
        out_chans: channels out.
        kernel_size: side of a patch.
        bias: whether there is a bias.
        impl: `"reference"` leaves maps in the format they come in; any other lays out channels last in memory.
        dd: `device` and `dtype` of the parameters.

    Shape:
        `(batch, in_chans, height, width)` to `(batch, out_chans, height', width')`.
    """

    def __init__(
        self, in_chans: int, out_chans: int, kernel_size: int, *, bias: bool = True, impl: str = "auto", **dd: Any
    ) -> None:
        super().__init__()
        self.stride = kernel_size
        self.impl = impl
        self.proj = nn.Conv2d(in_chans, out_chans, kernel_size, kernel_size, bias=bias, **dd)

    def grid_after(self, grid: Grid) -> Grid:
        """Height and width of the map for those of what comes in; a rest at the right and below is not seen."""
        return grid[0] // self.stride, grid[1] // self.stride

    def forward(self, x_BIHW: Tensor) -> Tensor:
        """`(batch, in_chans, height, width)` to `(batch, out_chans, height', width')`."""
        return self.proj(x_BIHW if self.impl == "reference" else channels_last(x_BIHW))


class ChannelMlp(nn.Module):
    """A LayerNorm over the channels of each position and a module over them, for maps with the channels second.

    Args:
        norm: over the last axis.
        mlp: over the last axis.

    Shape:
        `(batch, channels, height, width)` to the same.
    """

    def __init__(self, norm: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.mlp = mlp

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """`(batch, channels, height, width)` to the same."""
        return self.mlp(self.norm(x_BCHW.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


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
            assert isinstance(self.norm, nn.BatchNorm2d)
            self.register_module("norm", channel_scale(self.norm))
        return self

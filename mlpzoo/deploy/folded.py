"""What layers become when they are folded: the same maps in fewer passes over memory, for inference alone.

Shape suffixes: B batch, T tokens, C channels, H × W positions.
"""

from typing import ClassVar

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from mlpzoo.deploy.packed import PackedLinear
from mlpzoo.layers import GridBound, SpatialGatingUnit, TokenLinear
from mlpzoo.layers.grid_bound import GridAxes
from mlpzoo.layers.resnet_stem import pad_same
from mlpzoo.ops.resize import Grid

# A traced graph keeps it as one call: it depends on sizes that tracing does not know.
torch.fx.wrap("pad_same")


class ChannelScale(nn.Module):
    """What a BatchNorm is once its statistics are fixed: one factor and one summand a channel.

    Args:
        scale_C: the factors.
        shift_C: the summands.

    Shape:
        `(batch, channels, height, width)` to the same.
    """

    def __init__(self, scale_C: nn.Parameter, shift_C: nn.Parameter) -> None:
        super().__init__()
        self.scale = scale_C
        self.shift = shift_C

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """`(batch, channels, height, width)` to the same, in one pass."""
        return torch.addcmul(self.shift[:, None, None], self.scale[:, None, None], x_BCHW)


class SamePaddedConv(nn.Conv2d):
    """A convolution with stride that pads as TensorFlow and flax do.

    Shape:
        `(batch, in_channels, height, width)` to `(batch, out_channels, ⌈height / stride⌉, ⌈width / stride⌉)`.
    """

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """`(batch, in_channels, height, width)` to the map of `out_channels`."""
        x_BCHW = pad_same(x_BCHW, self.kernel_size[0], self.stride[0])
        return F.conv2d(x_BCHW, self.weight, self.bias, self.stride)


class FoldedResMLPBlock(GridBound):
    """A `ResMLPBlock` whose affine maps and scales are in its linears, but for one scale and one map that is added.

    With s a scale and m a map over tokens and channels, `y = x + s · (W x) + m`, then `y + W₂ act(W₁ y + b₁) + b₂`.

    Args:
        linear_tokens: W, without a bias.
        scale_C: s.
        shift_TC: m.
        fc1: W₁, b₁ and the activation.
        fc2: W₂ and b₂.
        grid: height and width of the token grid.

    Shape:
        Tokens of one grid, `(batch, tokens, channels)`, to the same.
    """

    # Folding what is resized gives the same.
    grid_axes: ClassVar[GridAxes] = {"linear_tokens.weight": ("out", "in"), "shift": ("out",)}

    def __init__(
        self,
        linear_tokens: TokenLinear,
        scale_C: nn.Parameter,
        shift_TC: nn.Parameter,
        fc1: PackedLinear,
        fc2: PackedLinear,
        grid: Grid,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.linear_tokens = linear_tokens
        self.scale = scale_C
        self.shift = shift_TC
        self.fc1 = fc1
        self.fc2 = fc2

    def forward(self, x_BTC: Tensor) -> Tensor:
        """`(batch, tokens, channels)` to the same."""
        y_BTC = torch.addcmul(x_BTC, self.scale, self.linear_tokens(x_BTC)).add_(self.shift)
        return self.fc2(self.fc1(y_BTC), y_BTC)


class FoldedSpatialGatingMlp(nn.Module):
    """A `SpatialGatingMlp` whose first linear is two, one for either half of the gate's channels, each dense.

    Args:
        attn: what is added to the gate, or None.
        first: the half that is gated, and its activation.
        second: the half the gate is made from, and its activation.
        gate: the gate.
        fc2: the linear after it.

    Shape:
        `(batch, tokens, channels)` to the same.
    """

    def __init__(
        self, attn: nn.Module | None, first: nn.Module, second: nn.Module, gate: SpatialGatingUnit, fc2: nn.Module
    ) -> None:
        super().__init__()
        self.attn = attn
        self.first = first
        self.second = second
        self.gate = gate
        self.fc2 = fc2

    def forward(self, x_BTC: Tensor) -> Tensor:
        """`(batch, tokens, channels)` to the same."""
        shift_BTG = self.attn(x_BTC) if self.attn is not None else None
        return self.fc2(self.gate.gated(self.first(x_BTC), self.second(x_BTC), shift_BTG))


class FoldedConvMixerBlock(nn.Module):
    """A `ConvMixerBlock` whose first BatchNorm is gone: its factor scales the branch as it is added to the skip.

    Its summand is in the bias of the pointwise convolution, which pads nothing and so meets it everywhere alike.

    Args:
        depthwise: the convolution of the branch.
        act: the activation of the branch.
        scale_C: the factor of its BatchNorm.
        pointwise: convolution, activation and norm of what follows.

    Shape:
        `(batch, height, width, channels)` to the same, contiguous.
    """

    def __init__(self, depthwise: nn.Conv2d, act: nn.Module, scale_C: nn.Parameter, pointwise: nn.Sequential) -> None:
        super().__init__()
        self.depthwise = depthwise
        self.act = act
        self.scale = scale_C
        self.pointwise = pointwise

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, channels)` to the same."""
        branch_BHWC = self.act(self.depthwise(x_BHWC.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
        y_BHWC = torch.addcmul(x_BHWC, self.scale, branch_BHWC)
        return self.pointwise(y_BHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).contiguous()

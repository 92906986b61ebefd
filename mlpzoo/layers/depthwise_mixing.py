"""Local mixing of sMLPNet and Strip-MLP.

Shape suffixes: B batch, C channels, H × W positions.
"""

from typing import Any

from torch import Tensor, nn

from mlpzoo.layers.activation import create_activation
from mlpzoo.layers.folding import channel_scale, is_fixed


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

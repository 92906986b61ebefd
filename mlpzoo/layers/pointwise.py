"""Linear layers over the channels of a map, where the authors have 1×1 convolutions.

Shape suffixes: B batch, H × W positions, C channels in, O channels out.
"""

import torch.nn.functional as F
from torch import Tensor, nn


def pointwise_conv(x_BHWC: Tensor, w_OC: Tensor, b_O: Tensor | None) -> Tensor:
    """The same function as `mlpzoo.ops.linear`, by a 1×1 convolution with the channels before the positions.

    Args:
        x_BHWC: map, `(batch, height, width, channels_in)`.
        w_OC: weight, `(channels_out, channels_in)`.
        b_O: bias, `(channels_out,)`, or None.

    Returns:
        `(batch, height, width, channels_out)`, in the memory layout that comes in.
    """
    return F.conv2d(x_BHWC.permute(0, 3, 1, 2), w_OC.unsqueeze(2).unsqueeze(3), b_O).permute(0, 2, 3, 1)


class PointwiseConv(nn.Linear):
    """A linear layer computed as the authors of convolutional networks compute it, see `pointwise_conv`.

    The parameters are those of `nn.Linear`.

    Shape:
        `(batch, height, width, in_features)` to `(batch, height, width, out_features)`, in the memory layout that
        comes in.
    """

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, in_features)` to `(batch, height, width, out_features)`."""
        return pointwise_conv(x_BHWC, self.weight, self.bias)


def pointwise(impl: str) -> type[nn.Linear]:
    """The class of linear layers over the channels of a map, where the authors have 1×1 convolutions.

    Args:
        impl: `"reference"` for the authors' convolutions, `PointwiseConv`; anything else for `nn.Linear`. Both have the
            same parameters, so what is trained with one runs with the other.
    """
    return PointwiseConv if impl == "reference" else nn.Linear

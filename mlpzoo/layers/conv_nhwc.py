"""Convolutions over maps whose channels stand last, as the linear layers around them want it.

Shape suffixes: B batch, H × W positions, C channels in, O channels out.
"""

from torch import Tensor, nn

from mlpzoo.layers.init import flax_default_
from mlpzoo.ops import channels_second


class ConvNHWC(nn.Conv2d):
    """`nn.Conv2d` from `(batch, height, width, channels)` to the same, contiguous.

    The parameters are laid out as PyTorch's and drawn as flax's.
    """

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, in)` to `(batch, height', width', out)`."""
        # Seen with the channels second, the map is already in PyTorch's channels-last format: nothing is copied.
        return super().forward(channels_second(x_BHWC)).permute(0, 2, 3, 1).contiguous()

    def reset_parameters(self) -> None:
        """flax's defaults."""
        flax_default_(self)


class UpsampleNHWC(nn.ConvTranspose2d):
    """The transposed convolution that doubles a map: kernel 2×2, stride 2, so each output reads one input.

    Args:
        dim: channels in.
        out_dim: channels out.
        dd: `device` and `dtype` of the parameters, which are laid out as PyTorch's and drawn as flax's.

    Shape:
        `(batch, height, width, dim)` to `(batch, 2·height, 2·width, out_dim)`.
    """

    def __init__(self, dim: int, out_dim: int, **dd: object) -> None:
        super().__init__(dim, out_dim, 2, 2, **dd)  # type: ignore[arg-type]

    def forward(self, x_BHWC: Tensor) -> Tensor:  # type: ignore[override]
        """`(batch, height, width, dim)` to `(batch, 2·height, 2·width, out_dim)`."""
        return super().forward(channels_second(x_BHWC)).permute(0, 2, 3, 1).contiguous()

    def reset_parameters(self) -> None:
        """flax's defaults."""
        flax_default_(self)

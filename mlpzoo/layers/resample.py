"""Bring a map to another size and number of channels.

Shape suffixes: B batch, H × W positions, P × Q positions after, C channels in, O channels out.
"""

import torch
from torch import Tensor, nn

from mlpzoo.layers.init import flax_default_
from mlpzoo.ops import resize_bilinear


class Resample(nn.Module):
    """Resize a map bilinearly, antialiased when shrinking, and project its channels.

    Source: `UpSampleRatio` of google-research/maxim, `maxim/models/maxim.py` at 3c82651.

    Args:
        dim: channels in.
        out_dim: channels out.
        ratio: side after over side before; it may be below one.
        device: where the parameters live.
        dtype: their type.

    Shape:
        `(batch, height, width, dim)` to `(batch, height × ratio, width × ratio, out_dim)`, contiguous.
    """

    def __init__(
        self,
        dim: int,
        out_dim: int,
        ratio: float,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.ratio = ratio
        self.proj = nn.Linear(dim, out_dim, device=device, dtype=dtype)
        self.reset_parameters()

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to `(batch, height × ratio, width × ratio, out_dim)`."""
        height, width = int(x_BHWC.shape[1] * self.ratio), int(x_BHWC.shape[2] * self.ratio)
        if self.ratio > 1:
            # Every weight of the resizing sums to one, so it may as well follow the projection, of fewer positions.
            return _resize(self.proj(x_BHWC), height, width)
        return self.proj(_resize(x_BHWC, height, width))

    def reset_parameters(self) -> None:
        """flax's defaults."""
        flax_default_(self.proj)

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"ratio={self.ratio:g}"


def _resize(x_BHWC: Tensor, height: int, width: int) -> Tensor:
    return resize_bilinear(x_BHWC.permute(0, 3, 1, 2), height, width).permute(0, 2, 3, 1).contiguous()

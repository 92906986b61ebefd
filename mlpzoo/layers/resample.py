"""Bring maps to another size and number of channels.

Shape suffixes: B batch, H × W positions, P × Q positions after, C channels in, O channels out.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mlpzoo.layers.init import flax_default_
from mlpzoo.layers.linear import apply_linear
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
            return _resize(apply_linear(self.proj, x_BHWC), height, width)
        return apply_linear(self.proj, _resize(x_BHWC, height, width))

    def reset_parameters(self) -> None:
        """flax's defaults."""
        flax_default_(self.proj)

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"ratio={self.ratio:g}"


class GatherLevels(nn.Module):
    """Bring the maps of all levels of a U-Net to one level, each by a `Resample`, and join their channels.

    Args:
        dims: channels of every level, from the top; each level halves the map above.
        level: the level wanted, counted from the top.
        lowest_first: whether the lowest level's channels come first.
        device: where the parameters live.
        dtype: their type.

    Shape:
        a list of maps `(batch, height / 2^i, width / 2^i, dims[i])` to one of `len(dims)` × `dims[level]` channels.
    """

    def __init__(
        self,
        dims: Sequence[int],
        level: int,
        *,
        lowest_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.lowest_first = lowest_first
        self.resamplings = nn.ModuleList(
            Resample(dim, dims[level], 2.0 ** (i - level), device=device, dtype=dtype) for i, dim in enumerate(dims)
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """The maps of all levels, from the top, to one."""
        gathered = [resampling(x_BHWC) for resampling, x_BHWC in zip(self.resamplings, maps, strict=True)]
        return torch.cat(gathered[::-1] if self.lowest_first else gathered, dim=-1)


def _resize(x_BHWC: Tensor, height: int, width: int) -> Tensor:
    return resize_bilinear(x_BHWC.permute(0, 3, 1, 2), height, width).permute(0, 2, 3, 1).contiguous()

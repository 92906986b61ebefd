"""Mixing inside windows.

Shape suffixes: B batch, C channels, H × W positions, Z groups, U positions of a window written, T positions read.
"""

import torch
from torch import Tensor, nn

from mlpzoo.ops.window_mixing import window_mixing


class WindowMixing(nn.Module):
    """A linear map over the positions of each window, one for each group of channels, see `mlpzoo.ops.window_mixing`.

    Args:
        groups: groups of channels.
        window: side of a window in positions.
        shift: positions in the first window, which begins with zeros; 0 for windows that begin at the corner.
        interleaved: whether channel c belongs to group c modulo groups, and not c // (channels / groups).
        impl: which implementation of `mlpzoo.ops.window_mixing` runs.
        device: where the parameters live.
        dtype: their type.

    Shape:
        `(batch, height, width, channels)` to the same.
    """

    def __init__(
        self,
        groups: int,
        window: int,
        shift: int = 0,
        *,
        interleaved: bool = False,
        impl: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.window, self.shift, self.interleaved, self.impl = window, shift, interleaved, impl
        self.weight = nn.Parameter(torch.empty(groups, window**2, window**2, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(groups * window**2, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters as PyTorch draws those of a convolution."""
        bound = self.weight.shape[2] ** -0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, channels)` to the same."""
        bias_ZU = self.bias.view(self.weight.shape[:2])
        return window_mixing(x_BHWC, self.weight, bias_ZU, self.window, self.shift, self.interleaved, self.impl)

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"{len(self.weight)}, window={self.window}, shift={self.shift}, impl={self.impl!r}"

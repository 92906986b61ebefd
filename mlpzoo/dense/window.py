"""A network bound to one image size, run on windows of that size.

Shape suffixes: B batch, I image channels, L windows, C channels of a map, H × W pixels or positions.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlpzoo.ops.resize import Grid


class WindowedFeatures(nn.Module):
    """Cut images into windows of the size a network was trained at, run it on each, join the maps.

    Images are padded with zeros on the right and below until windows fill them. Within a window the maps are what the
    network gives for that window alone: no weight is resized, but nothing is seen across its border. Where windows
    overlap, the maps are averaged.

    Args:
        net: what `features_only=True` gives, of a network bound to `window_size`.
        window_size: its image height and width in pixels.
        overlap: how much of a window, along each side, the next one covers again: 0 or more and less than 1. The step
            between windows is rounded to whole positions of the coarsest map.

    Raises:
        ValueError: for an overlap out of range, or one that leaves no step.

    Shape:
        `(batch, in_chans, height, width)` to the maps of the net, as large as the image divided by their strides,
        rounded up.
    """

    def __init__(self, net: nn.Module, window_size: Grid, overlap: float = 0.0) -> None:
        super().__init__()
        if not 0 <= overlap < 1:
            raise ValueError(f"overlap must be in [0, 1), a part of the window, got {overlap}")
        self.net = net
        self.window_size = window_size
        feature_info: Any = net.feature_info
        self.reductions: list[int] = feature_info.reduction()
        coarsest = max(self.reductions)
        height, width = (max(1, round(side * (1 - overlap) / coarsest)) * coarsest for side in window_size)
        if overlap == 0:
            height, width = window_size
        self.step: Grid = (height, width)

    def forward(self, x_BIHW: Tensor) -> list[Tensor]:
        """`(batch, in_chans, height, width)` to a list of maps."""
        batch, chans, height, width = x_BIHW.shape
        padded = [
            window + -(-max(0, side - window) // step) * step
            for side, window, step in zip((height, width), self.window_size, self.step, strict=True)
        ]
        x_BIHW = F.pad(x_BIHW, (0, padded[1] - width, 0, padded[0] - height))
        columns = F.unfold(x_BIHW, self.window_size, stride=self.step)
        windows = columns.transpose(1, 2).reshape(-1, chans, *self.window_size)
        maps = self.net(windows)
        return [
            self._join(y, batch, (padded[0] // r, padded[1] // r), r)[:, :, : -(-height // r), : -(-width // r)]
            for y, r in zip(maps, self.reductions, strict=True)
        ]

    def _join(self, y: Tensor, batch: int, size: Grid, reduction: int) -> Tensor:
        """Maps of windows `(batch × windows, channels, height, width)` to maps of images, means where they overlap."""
        kernel, step = y.shape[2:], (self.step[0] // reduction, self.step[1] // reduction)
        columns = y.reshape(batch, -1, y[0].numel()).transpose(1, 2)
        total = F.fold(columns, size, kernel, stride=step)
        if self.step == self.window_size:
            return total
        count = F.fold(torch.ones_like(columns[:1, : kernel.numel()]), size, kernel, stride=step)
        return total / count

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"window_size={self.window_size}, step={self.step}"

"""Cycle FC: a linear layer over the channels whose inputs come from different pixels.

Shape suffixes: B batch, C channels in, O channels out, H × W positions.
"""

import random

import torch
import torch.nn.functional as F
from timm.layers import to_2tuple
from torch import Tensor, nn

from mlpzoo.ops import cycle_fc
from mlpzoo.ops.resize import Grid

SAMPLINGS = ("cycle", "random", "dilated", "dense")
"""Where the channels read: in a cycle as in the paper, or as in one of its ablations."""


class CycleFC(nn.Module):
    """Channel i of the input is read at offset (i + k // 2) mod k − k // 2 along one axis, zero outside, then mixed.

    The cost is that of a 1×1 convolution, the reach that of a 1×k one (CycleMLP, arXiv:2107.10224).

    Source: `CycleFC` of ShoufaChen/CycleMLP, `cycle_mlp.py` at 4e062a0. Its `offset` buffer is not kept: the offsets
    are computed where they are needed.

    Args:
        in_channels: channels in.
        out_channels: channels out.
        kernel_size: `(1, k)` to read along the width or `(k, 1)` along the height, with an odd step size k.
        stride: 1; any other value is refused, as by the authors.
        padding: 0; any other value is refused, as by the authors. The output is as large as the input all the same.
        dilation: what the offsets are multiplied by where `sampling` is `"dilated"`; without effect elsewhere, as in
            the authors' code.
        groups: groups of channels that are mixed apart.
        bias: whether there is a bias.
        sampling: `"cycle"`; or for comparison `"random"` (each channel at an offset drawn once), `"dilated"` (the
            cycle, its offsets multiplied), or `"dense"` (every channel at all k offsets: an ordinary convolution,
            whose weight is k times as large).
        seed: seed of the random offsets.
        impl: which implementation of `mlpzoo.ops.cycle_fc` runs.
        device: where the parameters live.
        dtype: their type.

    Raises:
        ValueError: for an even step, a step on both axes, channels that do not divide by `groups`, a stride, a
            padding, an unknown sampling, or a dilation below 1 where it counts.

    Shape:
        `(batch, in_channels, height, width)` to `(batch, out_channels, height, width)`. In the memory format
        channels_last nothing is copied but the shifted input.
    """

    random_offsets: list[int] | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Grid,
        stride: int | Grid = 1,
        padding: int | Grid = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        sampling: str = "cycle",
        seed: int = 0,
        impl: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size: Grid = to_2tuple(kernel_size)
        self.step = max(self.kernel_size)
        if min(self.kernel_size) != 1:
            raise ValueError(f"CycleFC steps along one axis: kernel_size must be (1, k) or (k, 1), got {kernel_size}")
        if self.step % 2 == 0:
            raise ValueError(f"the step size must be odd, to reach as far on both sides, got {self.step}")
        if in_channels % groups or out_channels % groups:
            raise ValueError(f"{in_channels} channels in and {out_channels} out do not both divide by {groups} groups")
        if to_2tuple(stride) != (1, 1) or to_2tuple(padding) != (0, 0):
            raise ValueError(f"CycleFC takes stride 1 and padding 0 alone, got {stride} and {padding}")
        if sampling not in SAMPLINGS:
            raise ValueError(f"unknown sampling '{sampling}': choose one of {', '.join(map(repr, SAMPLINGS))}")
        if sampling == "dilated" and dilation < 1:
            raise ValueError(f"dilation must be 1 or more, got {dilation}")
        self.axis = 1 if self.kernel_size[0] > 1 else 2
        self.dilation = dilation if sampling == "dilated" else 1
        self.groups = groups
        self.dense = sampling == "dense"
        self.sampling = sampling
        self.impl = impl
        self.random_offsets = None
        if sampling == "random":
            draw = random.Random(seed)
            self.random_offsets = [int(draw.random() * self.step) - self.step // 2 for _ in range(in_channels)]
        taps = self.kernel_size if self.dense else (1, 1)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, *taps, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_channels, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters as `nn.Conv2d` draws its own, and the authors theirs."""
        bound = self.weight[0].numel() ** -0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """`(batch, in_channels, height, width)` to `(batch, out_channels, height, width)`."""
        if self.dense:
            padding = [self.kernel_size[0] // 2, self.kernel_size[1] // 2]
            return F.conv2d(x_BCHW, self.weight, self.bias, padding=padding, groups=self.groups)
        y_BHWO = cycle_fc(
            x_BCHW.permute(0, 2, 3, 1),
            self.weight.flatten(1),
            self.bias,
            self.step,
            self.axis,
            self.dilation,
            self.random_offsets,
            self.impl,
        )
        return y_BHWO.permute(0, 3, 1, 2)

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        out_channels, group_channels = self.weight.shape[:2]
        return (
            f"{group_channels * self.groups}, {out_channels}, kernel_size={self.kernel_size}, groups={self.groups}, "
            f"bias={self.bias is not None}, sampling={self.sampling!r}, impl={self.impl!r}"
        )

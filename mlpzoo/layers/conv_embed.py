"""Convolutions that begin a network or a stage and leave a dense map with the channels last.

Shape suffixes: B batch, I image channels, C channels in, O channels out, H × W positions.
"""

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from mlpzoo.layers.batch_norm import BatchNormNHWC
from mlpzoo.layers.folding import has_hooks, is_fixed, may_merge, with_norm_after
from mlpzoo.ops import channels_last, channels_second
from mlpzoo.ops.resize import Grid


class ConvEmbed(nn.Module):
    """From an image to a map, by a convolution whose patches may overlap.

    Args:
        in_chans: image channels.
        out_chans: channels of the map.
        kernel_size: side of a patch in pixels.
        stride: pixels from one patch to the next.
        padding: zeros around the image.
        dilation: pixels between neighbours in a patch.
        groups: groups of channels that are convolved apart.
        bias: whether the convolution has a bias.
        norm: what follows the convolution, on maps with the channels last; nothing if None.
        impl: `"reference"` leaves the channels before the positions in memory, as authors of convolutional networks do;
            any other value lays them last.
        device: where the parameters live.
        dtype: their type.

    Shape:
        `(batch, in_chans, height, width)` to `(batch, height', width', out_chans)`, contiguous.
    """

    def __init__(
        self,
        in_chans: int,
        out_chans: int,
        kernel_size: int,
        stride: int,
        padding: int = 0,
        *,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        norm: nn.Module | None = None,
        impl: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.impl = impl
        self.proj = nn.Conv2d(
            in_chans, out_chans, kernel_size, stride, padding, dilation, groups, bias, device=device, dtype=dtype
        )
        self.norm = nn.Identity() if norm is None else norm

    def forward(self, x_BIHW: Tensor) -> Tensor:
        """`(batch, in_chans, height, width)` to `(batch, height', width', out_chans)`."""
        return self.embed(x_BIHW)

    def grid_after(self, grid: Grid) -> Grid:
        """Height and width of the map for those of an image."""
        padding = self.proj.padding[0]
        assert isinstance(padding, int)
        beyond = 2 * padding - self.proj.dilation[0] * (self.proj.kernel_size[0] - 1) - 1
        height, width = ((side + beyond) // self.stride + 1 for side in grid)
        return height, width

    def embed(self, x_BIHW: Tensor) -> Tensor:
        """What `forward` does, for subclasses."""
        if self.impl == "reference":
            return self.norm(self.proj(x_BIHW).permute(0, 2, 3, 1))
        # Laying out the image is cheaper than laying out the map that it becomes.
        x_BIHW = channels_last(x_BIHW)
        return self.norm(self.proj(x_BIHW).permute(0, 2, 3, 1).contiguous())

    def folded(self) -> nn.Module:
        """Itself, with a BatchNorm in the convolution before it."""
        norm = self.norm
        if may_merge(self.proj) and type(norm) is BatchNormNHWC and not has_hooks(norm) and is_fixed(norm.bn):
            self.proj = with_norm_after(self.proj, norm.bn)
            self.norm = nn.Identity()
        return self


class Downsample(ConvEmbed):
    """From the map of one stage to that of the next, by the same means.

    Shape:
        `(batch, height, width, in_chans)` to `(batch, height', width', out_chans)`, contiguous.
    """

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, in_chans)` to `(batch, height', width', out_chans)`."""
        if self.impl == "reference":
            return self.embed(x_BHWC.permute(0, 3, 1, 2))
        return self.norm(self.proj(channels_second(x_BHWC)).permute(0, 2, 3, 1).contiguous())

    def folded(self) -> nn.Module:
        """As in the base class."""
        return super().folded()


def filled_up(x_BIHW: Tensor, patch: int) -> Tensor:
    """An image with zeros on the right and below, as many as patches need to see all of it; more do no harm."""
    height, width = x_BIHW.shape[2:]
    if not torch.compiler.is_compiling() and height % patch == 0 and width % patch == 0:
        return x_BIHW
    return F.pad(x_BIHW, [0, patch - 1, 0, patch - 1])


# A traced graph keeps it as one call: symbolic sizes cannot be compared while tracing.
torch.fx.wrap("filled_up")


class PaddedEmbed(ConvEmbed):
    """Patches that do not overlap, of an image filled up with zeros on the right and below to whole patches.

    Shape:
        `(batch, in_chans, height, width)` to `(batch, ⌈height / stride⌉, ⌈width / stride⌉, out_chans)`.
    """

    def forward(self, x_BIHW: Tensor) -> Tensor:
        """`(batch, in_chans, height, width)` to the map."""
        return self.embed(filled_up(x_BIHW, self.stride))

    def grid_after(self, grid: Grid) -> Grid:
        """Height and width of the map for those of an image."""
        return -(-grid[0] // self.stride), -(-grid[1] // self.stride)

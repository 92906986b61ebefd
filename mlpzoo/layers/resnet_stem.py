"""The ResNet in front of ViT's hybrids: standardized convolutions, GroupNorm, padding as TensorFlow and flax do.

Shape suffixes: B batch, C channels, H × W positions.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.fx
import torch.nn.functional as F
from timm.layers import lecun_normal_
from torch import Tensor, nn

from mlpzoo.layers.folding import rounded, wide

GROUPS = 32
"""Groups of every GroupNorm, flax's default."""


def same_padding(size: int, kernel_size: int, stride: int) -> tuple[int, int]:
    """Entries to add before and after a side of `size`, so that the output has ⌈size / stride⌉; the odd one after."""
    total = max(((size + stride - 1) // stride - 1) * stride + kernel_size - size, 0)
    return total // 2, total - total // 2


def pad_same(x_BCHW: Tensor, kernel_size: int, stride: int, value: float = 0.0) -> Tensor:
    """Pad a map as `padding="SAME"` of TensorFlow and flax does for a square kernel.

    Args:
        x_BCHW: `(batch, channels, height, width)`.
        kernel_size: side of the kernel.
        stride: its step.
        value: what is added.

    Returns:
        `(batch, channels, padded height, padded width)`.
    """
    top, bottom = same_padding(x_BCHW.shape[2], kernel_size, stride)
    left, right = same_padding(x_BCHW.shape[3], kernel_size, stride)
    return F.pad(x_BCHW, [left, right, top, bottom], value=value)


def standardize_kernel(weight: Tensor, eps: float) -> Tensor:
    """Give every filter mean 0 and deviation 1.

    Args:
        weight: `(out, in, height, width)`.
        eps: what is added to a filter's deviation.

    Returns:
        The same shape and dtype; statistics are taken in at least float32.
    """
    wide = weight if weight.dtype == torch.float64 else weight.float()
    variance, mean = torch.var_mean(wide, dim=(1, 2, 3), correction=0, keepdim=True)
    return ((wide - mean) / (variance.sqrt() + eps)).to(weight.dtype)


# A traced graph keeps each of these as one call: what they do depends on sizes and types that tracing does not know.
torch.fx.wrap("pad_same")
torch.fx.wrap("standardize_kernel")


class StdConv(nn.Conv2d):
    """Convolution whose kernel is standardized, filter by filter, each time it is used (arXiv:1903.10520).

    Source: `StdConv` of google-research/vision_transformer, `vit_jax/models_resnet.py`: the deviation is that of the
    whole filter, and epsilon is added to it, not to the variance.

    Args:
        in_chans: channels in.
        out_chans: channels out.
        kernel_size: side of the kernel, odd.
        stride: its step.
        eps: what is added to a filter's deviation.
        device: where the parameters live.
        dtype: their type.

    Shape:
        `(batch, in_chans, height, width)` to `(batch, out_chans, ⌈height / stride⌉, ⌈width / stride⌉)`.
    """

    def __init__(
        self,
        in_chans: int,
        out_chans: int,
        kernel_size: int,
        stride: int = 1,
        *,
        eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        assert kernel_size % 2 == 1, "the padding is symmetric at stride 1 for odd kernels only"
        # At stride 1 the convolution pads by itself, which saves a copy of the map.
        padding = kernel_size // 2 if stride == 1 else 0
        super().__init__(in_chans, out_chans, kernel_size, stride, padding, bias=False, device=device, dtype=dtype)
        self.eps = eps

    def reset_parameters(self) -> None:
        """Draw the kernel as flax does."""
        lecun_normal_(self.weight)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """`(batch, in_chans, height, width)` to the map of `out_chans`."""
        if self.stride[0] > 1:
            x_BCHW = pad_same(x_BCHW, self.kernel_size[0], self.stride[0])
        return F.conv2d(x_BCHW, standardize_kernel(self.weight, self.eps), None, self.stride, self.padding)

    def folded(self) -> nn.Module:
        """The kernel standardized once and for all."""
        kind = nn.Conv2d if self.stride == (1, 1) else SamePaddedConv
        size, stride, padding = self.kernel_size[0], self.stride[0], self.padding[0]
        assert isinstance(padding, int)
        folded = kind(self.in_channels, self.out_channels, size, stride, padding, bias=False, device="meta")
        folded.weight = rounded(standardize_kernel(wide(self.weight), self.eps), self.weight)
        return folded


class SamePaddedConv(nn.Conv2d):
    """A convolution with stride that pads as TensorFlow and flax do.

    Shape:
        `(batch, in_channels, height, width)` to `(batch, out_channels, ⌈height / stride⌉, ⌈width / stride⌉)`.
    """

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """`(batch, in_channels, height, width)` to the map of `out_channels`."""
        x_BCHW = pad_same(x_BCHW, self.kernel_size[0], self.stride[0])
        return F.conv2d(x_BCHW, self.weight, self.bias, self.stride)


class MaxPoolSame(nn.Module):
    """Max pooling 3×3 with stride 2 and SAME padding: `(batch, channels, H, W)` to `(…, ⌈H / 2⌉, ⌈W / 2⌉)`."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Halve the map; what is padded never wins."""
        return F.max_pool2d(pad_same(x_BCHW, 3, 2, float("-inf")), kernel_size=3, stride=2)


class ResidualUnit(nn.Module):
    """Bottleneck of three standardized convolutions, each before a GroupNorm, with a skip.

    Source: `ResidualUnit` of google-research/vision_transformer, `vit_jax/models_resnet.py`; names are the authors'.

    Args:
        in_chans: channels in.
        width: channels between; four times as many go out.
        stride: step of the 3×3 convolution.
        norm_eps: epsilon of the GroupNorms; flax's default is 1e-6.
        device: where the parameters live.
        dtype: their type.

    Shape:
        `(batch, in_chans, height, width)` to `(batch, 4 * width, ⌈height / stride⌉, ⌈width / stride⌉)`.
    """

    def __init__(
        self,
        in_chans: int,
        width: int,
        stride: int = 1,
        *,
        norm_eps: float = 1e-6,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.conv1 = StdConv(in_chans, width, 1, device=device, dtype=dtype)
        self.gn1 = nn.GroupNorm(GROUPS, width, norm_eps, device=device, dtype=dtype)
        self.conv2 = StdConv(width, width, 3, stride, device=device, dtype=dtype)
        self.gn2 = nn.GroupNorm(GROUPS, width, norm_eps, device=device, dtype=dtype)
        self.conv3 = StdConv(width, 4 * width, 1, device=device, dtype=dtype)
        self.gn3 = nn.GroupNorm(GROUPS, 4 * width, norm_eps, device=device, dtype=dtype)
        self.conv_proj: nn.Module = nn.Identity()
        self.gn_proj: nn.Module = nn.Identity()
        if in_chans != 4 * width or stride != 1:
            self.conv_proj = StdConv(in_chans, 4 * width, 1, stride, device=device, dtype=dtype)
            self.gn_proj = nn.GroupNorm(GROUPS, 4 * width, norm_eps, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw as the authors do; the last norm starts at zero, so the unit starts as its skip."""
        for module in self.children():
            if isinstance(module, StdConv | nn.GroupNorm):
                module.reset_parameters()
        nn.init.zeros_(self.gn3.weight)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """`(batch, in_chans, height, width)` to the map of `4 * width` channels."""
        y_BCHW = F.relu(self.gn1(self.conv1(x_BCHW)))
        y_BCHW = F.relu(self.gn2(self.conv2(y_BCHW)))
        return F.relu(self.gn_proj(self.conv_proj(x_BCHW)) + self.gn3(self.conv3(y_BCHW)))


class ResNetStem(nn.Sequential):
    """A ResNet without its head: a 7×7 convolution and a pooling, then stages of bottlenecks.

    Source: the root and stages of `VisionTransformer` in google-research/vision_transformer, `vit_jax/models_vit.py`.
    Its parameters keep the authors' names: `conv_root`, `gn_root`, `block1.unit1.conv1`, …

    Args:
        in_chans: image channels.
        depths: bottlenecks of each stage; may be empty.
        width: channels after the root; stage i, counted from 0, gives `4 * width * 2**i`. A multiple of 32.
        norm_eps: epsilon of the GroupNorms.
        device: where the parameters live.
        dtype: their type.

    Attributes:
        stride: pixels for one position of the map, along each side.
        out_chans: channels of the map.

    Raises:
        ValueError: when `width` does not divide into the groups of a GroupNorm, or a stage has no bottleneck.

    Shape:
        `(batch, in_chans, height, width)` to `(batch, out_chans, ⌈height / stride⌉, ⌈width / stride⌉)`.
    """

    def __init__(
        self,
        in_chans: int,
        depths: Sequence[int],
        *,
        width: int = 64,
        norm_eps: float = 1e-6,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if width < 1 or width % GROUPS:
            raise ValueError(f"the width of a ResNet stem must be a multiple of {GROUPS}, got {width}")
        if min(depths, default=1) < 1:
            raise ValueError(f"every stage of a ResNet stem has 1 bottleneck or more, got depths {tuple(depths)}")
        super().__init__()
        self.conv_root = StdConv(in_chans, width, 7, 2, device=device, dtype=dtype)
        self.gn_root = nn.GroupNorm(GROUPS, width, norm_eps, device=device, dtype=dtype)
        self.relu = nn.ReLU()
        self.pool = MaxPoolSame()
        chans, total_stride = width, 4
        for i, depth in enumerate(depths):
            units: OrderedDict[str, nn.Module] = OrderedDict()
            for j in range(depth):
                stride = 2 if i > 0 and j == 0 else 1
                units[f"unit{j + 1}"] = ResidualUnit(
                    chans, width * 2**i, stride, norm_eps=norm_eps, device=device, dtype=dtype
                )
                chans, total_stride = 4 * width * 2**i, total_stride * stride
            self.add_module(f"block{i + 1}", nn.Sequential(units))
        self.stride = total_stride
        self.out_chans = chans

    def reset_parameters(self) -> None:
        """Draw every parameter as the authors do."""
        self.conv_root.reset_parameters()
        self.gn_root.reset_parameters()
        for module in self.modules():
            if isinstance(module, ResidualUnit):
                module.reset_parameters()

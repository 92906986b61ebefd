"""What a ConvMixer is made of: convolutions followed by an activation and a BatchNorm, on maps with the channels last.

Shape suffixes: B batch, I image channels, C channels, H × W pixels or positions.
"""

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from mlpzoo.layers.activation import create_activation


class ConvActNorm(nn.Module):
    """Convolution, activation, BatchNorm (arXiv:2201.09792, section 2).

    Args:
        in_chans: channels in.
        out_chans: channels out.
        kernel_size: side of the kernel.
        stride: positions from one patch to the next; a stride of 1 keeps the map's size.
        groups: groups of the convolution.
        act_layer: name of the activation, see `create_activation`.
        norm_eps: epsilon of the BatchNorm.
        device: where the parameters live.
        dtype: their type.

    Shape:
        `(batch, in_chans, height, width)` to `(batch, out_chans, height', width')`, in the memory format that comes in.
    """

    def __init__(
        self,
        in_chans: int,
        out_chans: int,
        kernel_size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        act_layer: str = "gelu",
        norm_eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        padding = "same" if stride == 1 else 0
        self.proj = nn.Conv2d(
            in_chans, out_chans, kernel_size, stride, padding, groups=groups, device=device, dtype=dtype
        )
        self.act = create_activation(act_layer)
        self.norm = nn.BatchNorm2d(out_chans, eps=norm_eps, device=device, dtype=dtype)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """`(batch, in_chans, height, width)` to `(batch, out_chans, height', width')`."""
        return self.norm(self.act(self.proj(x_BCHW)))


class ConvMixerStem(ConvActNorm):
    """Patches that do not overlap; what is left over at the right and at the bottom is not seen.

    Args:
        in_chans: image channels.
        embed_dim: channels of the map.
        patch_size: side of a patch in pixels.
        act_layer: name of the activation.
        norm_eps: epsilon of the BatchNorm.
        device: where the parameters live.
        dtype: their type.

    Shape:
        `(batch, in_chans, height, width)` to `(batch, height', width', embed_dim)`, contiguous.
    """

    def __init__(
        self,
        in_chans: int,
        embed_dim: int,
        patch_size: int,
        *,
        act_layer: str = "gelu",
        norm_eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_chans,
            embed_dim,
            patch_size,
            stride=patch_size,
            act_layer=act_layer,
            norm_eps=norm_eps,
            device=device,
            dtype=dtype,
        )
        self.stride = patch_size

    def forward(self, x_BIHW: Tensor) -> Tensor:
        """`(batch, in_chans, height, width)` to `(batch, height', width', embed_dim)`."""
        # Laying out the image is cheaper than laying out the map that it becomes.
        x_BIHW = x_BIHW.contiguous(memory_format=torch.channels_last)
        return self.norm(self.act(self.proj(x_BIHW))).permute(0, 2, 3, 1).contiguous()


class ConvMixerBlock(nn.Module):
    """A depthwise convolution with a skip, then a pointwise one without (arXiv:2201.09792, section 2).

    Source: the blocks of `ConvMixer` in locuslab/convmixer, `convmixer.py`, which have neither dropout nor stochastic
    depth.

    Args:
        dim: channels.
        kernel_size: side of the depthwise kernel.
        act_layer: name of the activation.
        norm_eps: epsilon of the BatchNorms.
        drop: dropout rate after the pointwise part.
        drop_path: stochastic depth rate of the depthwise part, the only one with a skip.
        device: where the parameters live.
        dtype: their type.

    Shape:
        `(batch, height, width, dim)` to the same, contiguous.
    """

    def __init__(
        self,
        dim: int,
        kernel_size: int,
        *,
        act_layer: str = "gelu",
        norm_eps: float = 1e-5,
        drop: float = 0.0,
        drop_path: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.depthwise = ConvActNorm(
            dim, dim, kernel_size, groups=dim, act_layer=act_layer, norm_eps=norm_eps, device=device, dtype=dtype
        )
        self.pointwise = ConvActNorm(dim, dim, 1, act_layer=act_layer, norm_eps=norm_eps, device=device, dtype=dtype)
        self.drop = nn.Dropout(drop)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        x_BCHW = x_BHWC.permute(0, 3, 1, 2)
        x_BCHW = x_BCHW + self.drop_path(self.depthwise(x_BCHW))
        return self.drop(self.pointwise(x_BCHW)).permute(0, 2, 3, 1).contiguous()

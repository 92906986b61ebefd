"""What a ConvMixer is made of: convolutions followed by an activation and a BatchNorm, on maps with the channels last.

Shape suffixes: B batch, I image channels, C channels, H × W pixels or positions.
"""

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from mlpzoo.layers.activation import create_activation
from mlpzoo.layers.folding import (
    channel_scale,
    has_hooks,
    is_fixed,
    may_merge,
    rounded,
    scale_and_shift,
    with_map_before,
)
from mlpzoo.ops import channels_last


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
        x_BIHW = channels_last(x_BIHW)
        return self.norm(self.act(self.proj(x_BIHW))).permute(0, 2, 3, 1).contiguous()

    def folded(self) -> nn.Module:
        """Itself with its BatchNorm fixed, which cannot go, for a depthwise convolution that pads follows."""
        if is_fixed(self.norm):
            self.register_module("norm", channel_scale(self.norm))
        return self


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

    def folded(self) -> nn.Module:
        """The first BatchNorm taken apart, h ↦ s · h + t, between the skip and the pointwise convolution P.

        P (x + s · h + t) + b = P (x + s · h) + (P t + b), since P pads nothing. The depthwise convolutions pad with
        zeros, which know no t, so the BatchNorms before those stay.
        """
        depthwise, pointwise = self.depthwise, self.pointwise
        usual = type(depthwise) is ConvActNorm and type(pointwise) is ConvActNorm
        usual = usual and may_merge(depthwise.proj, pointwise.proj) and is_fixed(depthwise.norm)
        if not (usual and is_fixed(pointwise.norm)) or has_hooks(*self.modules()):
            return self
        scale_C, shift_C = scale_and_shift(depthwise.norm)
        return FoldedConvMixerBlock(
            depthwise.proj,
            depthwise.act,
            rounded(scale_C, depthwise.norm.weight),
            nn.Sequential(
                with_map_before(pointwise.proj, torch.ones_like(scale_C), shift_C),
                pointwise.act,
                channel_scale(pointwise.norm),
            ),
        )


class FoldedConvMixerBlock(nn.Module):
    """A `ConvMixerBlock` whose first BatchNorm is gone: its factor scales the branch as it is added to the skip.

    Its summand is in the bias of the pointwise convolution, which pads nothing and so meets it everywhere alike.

    Args:
        depthwise: the convolution of the branch.
        act: the activation of the branch.
        scale_C: the factor of its BatchNorm.
        pointwise: convolution, activation and norm of what follows.

    Shape:
        `(batch, height, width, channels)` to the same, contiguous.
    """

    def __init__(self, depthwise: nn.Conv2d, act: nn.Module, scale_C: nn.Parameter, pointwise: nn.Sequential) -> None:
        super().__init__()
        self.depthwise = depthwise
        self.act = act
        self.scale = scale_C
        self.pointwise = pointwise

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, channels)` to the same."""
        branch_BHWC = self.act(self.depthwise(x_BHWC.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
        y_BHWC = torch.addcmul(x_BHWC, self.scale, branch_BHWC)
        return self.pointwise(y_BHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).contiguous()

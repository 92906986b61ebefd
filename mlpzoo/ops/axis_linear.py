"""The height and width branches of ViP's Permute-MLP (arXiv:2106.12368).

The channels are cut into as many segments as the axis is long, so that a line of one segment has again as many numbers
as there are channels: S × L = C. One linear map of C×C then mixes positions of the line and channels of the segment.

Shape suffixes: B batch, H × W positions, C channels, L positions of a line, N segments, S channels of a segment,
A what stands outside a line, Q lines side by side.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from mlpzoo.ops._triton import axis_linear_triton
from mlpzoo.ops.dispatch import fast_path, one_call
from mlpzoo.ops.linear import linear_of


def axis_linear_reference(x_BHWC: Tensor, w_CC: Tensor, b_C: Tensor | None, axis: int) -> Tensor:
    """The same map as `axis_linear`, as the authors write it: a five-axis copy, a linear, and a copy back."""
    segments = x_BHWC.shape[axis]
    if axis == 1:
        lines = rearrange(x_BHWC, "b h w (n s) -> b n w (h s)", n=segments)
        return rearrange(F.linear(lines, w_CC, b_C), "b n w (h s) -> b h w (n s)", h=segments).contiguous()
    lines = rearrange(x_BHWC, "b h w (n s) -> b h n (w s)", n=segments)
    return rearrange(F.linear(lines, w_CC, b_C), "b h n (w s) -> b h w (n s)", w=segments).contiguous()


def gather_lines(x_ALQS: Tensor) -> Tensor:
    """`(A, L, Q, S)` to `(A, Q, L × S)`: the numbers of a line side by side."""
    return x_ALQS.transpose(1, 2).flatten(2)


@one_call
def axis_linear(x_BHWC: Tensor, w_CC: Tensor, b_C: Tensor | None, axis: int, impl: str = "auto") -> Tensor:
    """Mix the positions of each line along an axis with the channels of a segment.

    Lines of every segment share one weight, so their order is free, and it is chosen such that only two axes change
    places. `"swap"` copies the lines together and multiplies. `"conv"` copies nothing on the way in: over the map seen
    as an image of S channels, the product is a convolution whose kernel is as long as the line.

    Source: `WeightedPermuteMLP` of houqb/VisionPermutator, `models/vip.py` at 2cab2ce.

    Args:
        x_BHWC: map, `(batch, height, width, channels)`; the axis' length divides the channels.
        w_CC: weight, `(channels, channels)`, both sides indexed by position × channel of the segment.
        b_C: bias, `(channels,)`, or None.
        axis: 1 to mix along the height, 2 along the width.
        impl: `"auto"` (the fastest known here), `"swap"`, `"conv"`, `"triton"` for a kernel on a GPU that copies
            nothing either way, or `"reference"`.

    Returns:
        A map of the same shape, contiguous.

    Raises:
        ValueError: for an unknown `impl`, or for `"triton"` where it cannot run.
    """
    if impl == "reference":
        return axis_linear_reference(x_BHWC, w_CC, b_C, axis)
    if impl == "triton":
        return axis_linear_triton(x_BHWC, w_CC, b_C, axis)
    if impl not in ("auto", "swap", "conv", "triton", "reference"):
        raise ValueError(
            f"unknown impl '{impl}' of axis_linear: choose 'auto', 'swap', 'conv', 'triton' or 'reference'"
        )
    length, channels = x_BHWC.shape[axis], x_BHWC.shape[3]
    shape_ALQS = [-1, length, x_BHWC.shape[2] * length if axis == 1 else length, channels // length]
    x_ALQS = x_BHWC.reshape(shape_ALQS)
    # On a CPU the convolution wins forward and loses backward; elsewhere it may round float32 to TF32.
    by_convolution = impl == "conv" or (
        impl == "auto"
        and x_BHWC.device.type == "cpu"
        and x_BHWC.dtype == torch.float32
        and not torch.is_grad_enabled()
        and fast_path(x_BHWC, w_CC, b_C)
    )
    if by_convolution:
        kernel = w_CC.unflatten(1, (length, 1, -1)).permute(0, 3, 1, 2)
        y_AQC = F.conv2d(x_ALQS.permute(0, 3, 1, 2), kernel, b_C).squeeze(2).transpose(1, 2)
    else:
        # The copy is not kept: the map is, for the other branches, and copying costs little beside the product.
        y_AQC = linear_of(gather_lines, [x_ALQS], w_CC, b_C)
    return y_AQC.unflatten(2, (length, -1)).transpose(1, 2).reshape(x_BHWC.shape)

"""Cycle FC (CycleMLP, arXiv:2107.10224): each input channel reads another pixel, then one linear map.

Shape suffixes: B batch, H × W positions, C channels in, O channels out, G channels in of one group, K positions
around a channel's own.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import deform_conv2d

from mlpzoo.ops import _torch
from mlpzoo.ops._triton import cycle_fc_triton
from mlpzoo.ops.dispatch import fast_path, one_call
from mlpzoo.ops.linear import linear_of


def channel_offsets(
    channels: int,
    step: int,
    dilation: int = 1,
    offsets: list[int] | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """How many positions ahead each channel reads, int64 `(channels,)`.

    Args:
        channels: how many.
        step: the cycle's length, odd: channel i reads at (i + step // 2) mod step − step // 2, so that the offsets of
            consecutive channels run 0, 1, …, step // 2, −step // 2, …, −1 and start anew.
        dilation: what the cycle's offsets are multiplied by.
        offsets: offsets to use instead of the cycle's, one a channel.
        device: where they are needed.

    Returns:
        The offsets.
    """
    if offsets is not None:
        return torch.tensor(offsets, dtype=torch.int64, device=device)
    place = torch.arange(channels, device=device) + step // 2
    return (place % step - step // 2) * dilation


def taps_of(
    channels: int, step: int, dilation: int = 1, offsets: list[int] | None = None, device: torch.device | None = None
) -> Tensor:
    """Which of the positions around it each channel reads, as a mask `(channels, positions)`, one true in each row.

    Args:
        channels: how many.
        step: the cycle's length; see `channel_offsets`, of which the other arguments are as well.
        dilation: what the cycle's offsets are multiplied by.
        offsets: offsets to use instead of the cycle's.
        device: where the mask is needed.

    Returns:
        The mask; the position in the middle is a channel's own.
    """
    reach = step // 2 * dilation
    ahead_C = channel_offsets(channels, step, dilation, offsets, device)
    return ahead_C.unsqueeze(1) == torch.arange(-reach, reach + 1, device=device)


@functools.lru_cache(maxsize=256)
def _kept_taps(
    channels: int, step: int, dilation: int, offsets: tuple[int, ...] | None, device: torch.device
) -> Tensor:
    # For whoever comes next, in inference mode or not.
    with torch.inference_mode(False):
        return taps_of(channels, step, dilation, None if offsets is None else list(offsets), device)


def _taps_for(x_BHWC: Tensor, step: int, dilation: int, offsets: list[int] | None) -> Tensor:
    """The mask for a map's channels: the one made before, unless what is computed here is being recorded.

    On a GPU, making it is a handful of kernels, each of which takes as long to start as a small network's product.
    """
    channels, device = x_BHWC.shape[3], x_BHWC.device
    if (
        not fast_path(x_BHWC)
        or _torch.dispatch_mode_active()
        or (device.type == "cuda" and torch.cuda.is_current_stream_capturing())
    ):
        return taps_of(channels, step, dilation, offsets, device)
    return _kept_taps(channels, step, dilation, None if offsets is None else tuple(offsets), device)


def _padding(taps_CK: Tensor, axis: int) -> list[int]:
    reach = taps_CK.shape[1] // 2
    return [0, reach] if axis == 2 else [reach, 0]


def shift_by_convolution(x_BHWC: Tensor, taps_CK: Tensor, axis: int) -> Tensor:
    """Shift each channel by a depthwise convolution whose kernels are one at its tap and zero elsewhere.

    Exact, since a sum of zeros and one value has nothing to round, and on a CPU as fast as a plain copy.
    """
    kernel = taps_CK.to(x_BHWC.dtype).unsqueeze(1).unsqueeze(2 if axis == 2 else 3)
    x_BCHW = x_BHWC.permute(0, 3, 1, 2)
    return F.conv2d(x_BCHW, kernel, None, padding=_padding(taps_CK, axis), groups=kernel.shape[0]).permute(0, 2, 3, 1)


def shift_by_selection(x_BHWC: Tensor, taps_CK: Tensor, axis: int) -> Tensor:
    """Shift each channel by choosing, channel by channel, among slices of the zero-padded input.

    Pointwise throughout: compilers fuse it with what surrounds it, and no backend rounds it.
    """
    length, reach = x_BHWC.shape[axis], taps_CK.shape[1] // 2
    padded = F.pad(x_BHWC, [0, 0, reach, reach] if axis == 2 else [0, 0, 0, 0, reach, reach])
    shifted = padded.narrow(axis, 0, length)
    for tap in range(1, taps_CK.shape[1]):
        shifted = torch.where(taps_CK[:, tap], padded.narrow(axis, tap, length), shifted)
    return shifted


def cycle_fc_by_one_convolution(x_BHWC: Tensor, w_OG: Tensor, b_O: Tensor | None, taps_CK: Tensor, axis: int) -> Tensor:
    """Shift and mix by one convolution, whose kernel has the weight at each channel's tap and zero elsewhere.

    It multiplies by many zeros, but reads the map once and writes the result once: nothing shifted lies in memory.
    """
    groups, padding = x_BHWC.shape[3] // w_OG.shape[1], _padding(taps_CK, axis)
    if groups > 1:
        # The channels that each row of the weight stands for.
        taps_CK = taps_CK.unflatten(0, (groups, -1)).repeat_interleave(w_OG.shape[0] // groups, 0)
    kernel = torch.where(taps_CK, w_OG.unsqueeze(-1), 0).unsqueeze(2 if axis == 2 else 3)
    x_BCHW = x_BHWC.permute(0, 3, 1, 2)
    y_BHWO = F.conv2d(x_BCHW, kernel, None, padding=padding, groups=groups).permute(0, 2, 3, 1)
    # Not by the convolution, whose gradient of a bias is a less careful sum; on a GPU it is a pass of its own anyhow.
    if b_O is None:
        return y_BHWO
    return y_BHWO.add_(b_O) if fast_path(y_BHWO, b_O) else y_BHWO + b_O


def _suits_one_convolution(x: Tensor) -> bool:
    """Whether a product with this tensor is taken on a GPU in half precision, by its own type or by autocast's.

    There, multiplications are to spare and memory is waited for. In float32 cuDNN would round to TF32, and a compiler
    fuses the selection with what is around it.
    """
    if x.device.type != "cuda" or torch.compiler.is_compiling():
        return False
    dtype = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else x.dtype
    return dtype in (torch.float16, torch.bfloat16)


def cycle_fc_reference(
    x_BHWC: Tensor,
    w_OG: Tensor,
    b_O: Tensor | None,
    step: int,
    axis: int,
    dilation: int = 1,
    offsets: list[int] | None = None,
) -> Tensor:
    """The same map as `cycle_fc`, as the authors run it: a 1×1 deformable convolution whose offsets are whole."""
    if x_BHWC.dtype == torch.bfloat16:
        # torchvision has no kernel for it; its autocast rule computes in float32 as well.
        wide_O = None if b_O is None else b_O.float()
        y_BHWO = cycle_fc_reference(x_BHWC.float(), w_OG.float(), wide_O, step, axis, dilation, offsets)
        return y_BHWO.to(torch.bfloat16)
    batch, height, width, channels = x_BHWC.shape
    pairs = torch.zeros(channels, 2, dtype=x_BHWC.dtype, device=x_BHWC.device)
    pairs[:, axis - 1] = channel_offsets(channels, step, dilation, offsets, x_BHWC.device).to(x_BHWC.dtype)
    offsets_B2CHW = pairs.reshape(1, 2 * channels, 1, 1).expand(batch, -1, height, width)
    y_BOHW = deform_conv2d(x_BHWC.permute(0, 3, 1, 2), offsets_B2CHW, w_OG[:, :, None, None], b_O)
    return y_BOHW.permute(0, 2, 3, 1)


@one_call
def cycle_fc(
    x_BHWC: Tensor,
    w_OG: Tensor,
    b_O: Tensor | None,
    step: int,
    axis: int,
    dilation: int = 1,
    offsets: list[int] | None = None,
    impl: str = "auto",
) -> Tensor:
    """Let each channel read a pixel some whole steps away along one axis, zero outside, then mix the channels.

    Source: `CycleFC` of ShoufaChen/CycleMLP, `cycle_mlp.py` at 4e062a0, which computes it by a deformable convolution.

    Args:
        x_BHWC: map, `(batch, height, width, channels_in)`, of any strides.
        w_OG: weight, `(channels_out, channels_in / groups)`; the number of groups follows from its shape.
        b_O: bias, `(channels_out,)`, or None.
        step: length of the cycle of offsets, odd; see `channel_offsets`.
        axis: 1 to read along the height, 2 along the width.
        dilation: what the offsets are multiplied by.
        offsets: offsets to use instead of the cycle's, one a channel.
        impl: `"auto"` (the fastest known here), `"conv"` or `"select"` for the shift by convolution or by selection
            and a product after it, `"one_conv"` for both in one convolution, `"triton"` for a kernel that shifts while
            it loads, on a GPU, or `"reference"`.

    Returns:
        `(batch, height, width, channels_out)`.

    Raises:
        ValueError: for an unknown `impl`, or for `"triton"` where it cannot run.
    """
    if impl == "reference":
        return cycle_fc_reference(x_BHWC, w_OG, b_O, step, axis, dilation, offsets)
    if impl == "triton":
        return cycle_fc_triton(x_BHWC, w_OG, b_O, step, axis, dilation, offsets)
    if impl not in ("auto", "conv", "one_conv", "select", "triton", "reference"):
        raise ValueError(
            f"unknown impl '{impl}' of cycle_fc: choose 'auto', 'conv', 'one_conv', 'select', 'triton' or 'reference'"
        )
    taps_CK = _taps_for(x_BHWC, step, dilation, offsets)
    if impl == "one_conv" or (impl == "auto" and _suits_one_convolution(x_BHWC)):
        return cycle_fc_by_one_convolution(x_BHWC, w_OG, b_O, taps_CK, axis)
    # Only float32 has a fast depthwise convolution on every CPU.
    by_convolution = impl == "conv" or (
        impl == "auto"
        and x_BHWC.device.type == "cpu"
        and x_BHWC.dtype == torch.float32
        and not torch.compiler.is_compiling()
    )
    groups = x_BHWC.shape[3] // w_OG.shape[1]
    if groups == 1:
        # The shifted map is not kept: the map itself is, for whatever else reads it.
        shift = shift_by_convolution if by_convolution else shift_by_selection
        return linear_of(functools.partial(shift, taps_CK=taps_CK, axis=axis), [x_BHWC], w_OG, b_O)
    if by_convolution:
        shifted_BHWC = shift_by_convolution(x_BHWC, taps_CK, axis)
    else:
        shifted_BHWC = shift_by_selection(x_BHWC, taps_CK, axis)
    y_BOHW = F.conv2d(shifted_BHWC.permute(0, 3, 1, 2), w_OG.unsqueeze(2).unsqueeze(3), b_O, groups=groups)
    return y_BOHW.permute(0, 2, 3, 1)

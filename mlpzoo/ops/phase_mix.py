"""Waves mixed along one axis of a map (Wave-MLP, arXiv:2111.12294, section 3.2).

Shape suffixes: B batch, H × W positions, C channels, E twice as many, K positions of a window.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mlpzoo.ops.dispatch import fast_path, one_call
from mlpzoo.ops.recompute import recomputing


def phase_mix_reference(z_BHWC: Tensor, theta_BHWC: Tensor, w_C2HW: Tensor) -> Tensor:
    """The same as `phase_mix`, as the authors compute it: a convolution of as many groups as channels.

    A map whose channels lie before its positions in memory gives one of the same kind.
    """
    z_BCHW, theta_BCHW = z_BHWC.permute(0, 3, 1, 2), theta_BHWC.permute(0, 3, 1, 2)
    x_BEHW = torch.cat([z_BCHW * torch.cos(theta_BCHW), z_BCHW * torch.sin(theta_BCHW)], dim=1)
    padding = (w_C2HW.shape[2] // 2, w_C2HW.shape[3] // 2)
    return F.conv2d(x_BEHW, w_C2HW, padding=padding, groups=w_C2HW.shape[0]).permute(0, 2, 3, 1)


@one_call
def phase_mix(z_BHWC: Tensor, theta_BHWC: Tensor, w_C2HW: Tensor, impl: str = "auto") -> Tensor:
    """Add up neighbouring waves, whose amplitudes and phases are maps, by weights of their real and imaginary parts.

    All channels of z · cos θ followed by all channels of z · sin θ are taken in pairs: output channel g sees the
    numbers 2g and 2g + 1 of them. So of an even number of channels the first half sees cosines alone, the second half
    sines alone.

    Source: `tfc_h` and `tfc_w` of `PATM` in huawei-noah/Efficient-AI-Backbones, `wavemlp_pytorch/models/wavemlp.py` at
    f90e129.

    Args:
        z_BHWC: amplitudes, `(batch, height, width, channels)`.
        theta_BHWC: phases in radians, of the same shape.
        w_C2HW: weights, `(channels, 2, 1, window)` along the width or `(channels, 2, window, 1)` along the height; the
            window is odd, and outside the map are zeros.
        impl: `"auto"` (the fastest known here: a depthwise convolution, whose channels are added in pairs, and whose
            inputs are computed again in the backward pass) or `"reference"`.

    Returns:
        `(batch, height, width, channels)`.

    Raises:
        ValueError: for an unknown `impl`.
    """
    if impl not in ("auto", "reference"):
        raise ValueError(f"unknown impl '{impl}' of phase_mix: choose 'auto' or 'reference'")
    if impl == "reference":
        return phase_mix_reference(z_BHWC, theta_BHWC, w_C2HW)
    return recomputing(_mixed, z_BHWC, theta_BHWC, w_C2HW)


def _mixed(z_BHWC: Tensor, theta_BHWC: Tensor, w_C2HW: Tensor) -> Tensor:
    x_BHWE = _waves(z_BHWC, theta_BHWC)
    padding = (w_C2HW.shape[2] // 2, w_C2HW.shape[3] // 2)
    w_E1HW = w_C2HW.flatten(0, 1).unsqueeze(1)
    y_BEHW = F.conv2d(x_BHWE.permute(0, 3, 1, 2), w_E1HW, padding=padding, groups=w_E1HW.shape[0])
    y_BHWE = y_BEHW.permute(0, 2, 3, 1)
    return y_BHWE[..., ::2] + y_BHWE[..., 1::2]


def _waves(z_BHWC: Tensor, theta_BHWC: Tensor) -> Tensor:
    """Real parts, then imaginary parts, side by side as channels."""
    channels = z_BHWC.shape[3]
    if torch.is_grad_enabled() or z_BHWC.dtype != theta_BHWC.dtype or not fast_path(z_BHWC, theta_BHWC):
        return torch.cat([z_BHWC * torch.cos(theta_BHWC), z_BHWC * torch.sin(theta_BHWC)], dim=3)
    x_BHWE = z_BHWC.new_empty(*z_BHWC.shape[:3], 2 * channels)
    for part, function in zip(x_BHWE.split(channels, dim=3), (torch.cos, torch.sin), strict=True):
        function(theta_BHWC, out=part).mul_(z_BHWC)
    return x_BHWE

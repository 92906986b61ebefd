"""A filter in the frequency domain: Fourier transform over the positions, one complex product, transform back.

Shape suffixes: B batch, H × W positions, F = W // 2 + 1 frequencies along the width, C channels, K filters of a bank,
2 real and imaginary parts.
"""

import contextlib
import functools
import math

import torch
from torch import Tensor

from mlpzoo.ops import _torch
from mlpzoo.ops.dispatch import one_call

IMPLEMENTATIONS = ("auto", "matrix", "fft", "reference")


def fourier_filter_reference(x_BHWC: Tensor, w_HFK2: Tensor, mix_BKC: Tensor | None = None) -> Tensor:
    """The same as `fourier_filter`, by PyTorch's real Fourier transform, as the authors compute it."""
    dtype = torch.promote_types(x_BHWC.dtype, torch.float32)
    size = x_BHWC.shape[1:3]
    w = torch.view_as_complex(w_HFK2.to(dtype).contiguous())
    if mix_BKC is not None:
        w = torch.einsum("hfk,bkc->bhfc", w, mix_BKC.to(w.dtype))
    spectrum_BHFC = torch.fft.rfft2(x_BHWC.to(dtype), dim=(1, 2), norm="ortho") * w
    return torch.fft.irfft2(spectrum_BHFC, s=size, dim=(1, 2), norm="ortho").to(x_BHWC.dtype)


@one_call
def fourier_filter(x_BHWC: Tensor, w_HFK2: Tensor, mix_BKC: Tensor | None = None, impl: str = "auto") -> Tensor:
    """Filter a map by the product of its spectrum with complex weights (GFNet, arXiv:2107.00645, section 3.2).

    The transforms are orthonormal. They run in float32 at least, whatever the type of the map, also under autocast.

    Args:
        x_BHWC: map, `(batch, height, width, channels)`.
        w_HFK2: weights, `(height, width // 2 + 1, filters, 2)`, real and imaginary parts last. Without `mix_BKC`
            there is a filter for each channel.
        mix_BKC: how much of each filter a channel takes, `(batch, filters, channels)`: the dynamic filter of DFFormer
            (arXiv:2303.03932, section 3.2).
        impl: `"auto"`; `"fft"`, the fast Fourier transform; `"matrix"`, the same transform as products with constant
            matrices, which exporters and compilers know and which is faster on small maps; `"reference"`.

    Returns:
        The filtered map, `(batch, height, width, channels)`, in the type of `x_BHWC`.

    Raises:
        ValueError: for an unknown `impl`, or weights of another grid.
    """
    if impl not in IMPLEMENTATIONS:
        raise ValueError(f"unknown impl '{impl}' of fourier_filter: choose {', '.join(map(repr, IMPLEMENTATIONS))}")
    height, width = x_BHWC.shape[1:3]
    if w_HFK2.shape[0] != height or w_HFK2.shape[1] != width // 2 + 1:
        raise ValueError(
            f"a filter of {w_HFK2.shape[0]}×{w_HFK2.shape[1]} frequencies does not fit a map of {height}×{width} "
            f"positions, which has {height}×{width // 2 + 1}"
        )
    kind = x_BHWC.device.type
    # The meta device, on which shapes alone are computed, knows no autocast.
    with torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else contextlib.nullcontext():
        if impl == "reference":
            return fourier_filter_reference(x_BHWC, w_HFK2, mix_BKC)
        by_matrices = impl == "matrix" or (impl == "auto" and _matrices_win(x_BHWC))
        run = _by_matrices if by_matrices else fourier_filter_reference
        if _image_by_image(x_BHWC):
            mixes = [None] * len(x_BHWC) if mix_BKC is None else mix_BKC.split(1)
            return torch.cat([run(x, w_HFK2, mix) for x, mix in zip(x_BHWC.split(1), mixes, strict=True)])
        return run(x_BHWC, w_HFK2, mix_BKC)


def _image_by_image(x_BHWC: Tensor) -> bool:
    """True for inference on a CPU, where the spectrum of one image fits a cache and that of a batch does not."""
    watched = torch.is_grad_enabled() or torch.compiler.is_compiling() or _torch.is_tracing()
    return x_BHWC.device.type == "cpu" and not watched


def _matrices_win(x_BHWC: Tensor) -> bool:
    """True where a compiler or exporter reads the program, and for maps up to 14×14 on a CPU."""
    if torch.compiler.is_compiling():
        return True
    return x_BHWC.device.type == "cpu" and x_BHWC.shape[1] * x_BHWC.shape[2] <= 14 * 14


def _by_matrices(x_BHWC: Tensor, w_HFK2: Tensor, mix_BKC: Tensor | None) -> Tensor:
    dtype = torch.promote_types(x_BHWC.dtype, torch.float32)
    batch, height, width, channels = x_BHWC.shape
    along_width, cos_HH, sin_HH, back_width = transform_matrices(height, width, dtype, x_BHWC.device)
    # Real and imaginary parts stand side by side in one axis, so that no step has to lay out a map anew.
    w_H2FK = w_HFK2.to(dtype).permute(0, 3, 1, 2)
    if mix_BKC is not None:
        filters = w_HFK2.shape[2]
        w_H2FK = torch.matmul(w_H2FK.reshape(-1, filters), mix_BKC.to(dtype))
        w_H2FK = w_H2FK.view(batch, height, 2, -1, channels)
    y_BHEC = torch.matmul(along_width, x_BHWC.to(dtype))
    re, im = _along_height(y_BHEC, cos_HH, sin_HH, -1)
    w_re, w_im = w_H2FK.unbind(-3)
    y = torch.stack([re * w_re - im * w_im, re * w_im + im * w_re], 2)
    re, im = _along_height(y.flatten(2, 3), cos_HH, sin_HH, 1)
    return torch.matmul(back_width, torch.cat([re, im], 2)).to(x_BHWC.dtype)


def _along_height(y_BHEC: Tensor, cos_HH: Tensor, sin_HH: Tensor, sign: int) -> tuple[Tensor, Tensor]:
    """Transform real parts, then imaginary parts, along the height; `sign` is that of the exponent."""
    flat = y_BHEC.flatten(2)
    cos, sin = (torch.matmul(matrix, flat).view_as(y_BHEC) for matrix in (cos_HH, sin_HH))
    (cos_re, cos_im), (sin_re, sin_im) = cos.chunk(2, 2), sin.chunk(2, 2)
    if sign < 0:
        return cos_re + sin_im, cos_im - sin_re
    return cos_re - sin_im, cos_im + sin_re


def transform_matrices(
    height: int, width: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The orthonormal real Fourier transform of a map as four matrices, computed in float64 and rounded once.

    Returns:
        From `width` positions to `F` real and `F` imaginary parts; cosines and sines along the height, `(height,
        height)`; and from the parts back to the positions, `(width, 2F)`.
    """
    # What is traced twice must come out alike.
    if torch.compiler.is_compiling() or _torch.is_tracing():
        return _matrices(height, width, dtype, device)
    return _kept_matrices(height, width, dtype, device)


@functools.lru_cache(maxsize=64)
def _kept_matrices(
    height: int, width: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    # Made in inference mode, they could not serve in training.
    with torch.inference_mode(False), torch.no_grad():
        return _matrices(height, width, dtype, device)


def _matrices(
    height: int, width: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    frequencies = width // 2 + 1
    cos_WW, sin_WW = _waves(width, device)
    cos_FW, sin_FW = cos_WW[:frequencies], sin_WW[:frequencies]
    # A real signal has each frequency twice but the first and, for an even width, the last.
    number = torch.arange(frequencies, device=device)
    times_F1 = torch.where((number == 0) | (2 * number == width), 1.0, 2.0).to(torch.float64)[:, None]
    forward = torch.cat([cos_FW, -sin_FW])
    back = torch.cat([cos_FW * times_F1, -sin_FW * times_F1]).T
    cos_HH, sin_HH = _waves(height, device)
    forward, cos_HH, sin_HH, back = (matrix.to(dtype).contiguous() for matrix in (forward, cos_HH, sin_HH, back))
    return forward, cos_HH, sin_HH, back


def _waves(length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine of 2π·k·n / length, over its square root; exact to float64 for the products are reduced first."""
    k = torch.arange(length, device=device)
    angle = (k[:, None] * k % length).to(torch.float64) * (2 * math.pi / length)
    return angle.cos() / math.sqrt(length), angle.sin() / math.sqrt(length)

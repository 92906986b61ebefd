"""Resize maps by powers of two as `jax.image.resize` does.

Shape suffixes: B batch, C channels, H × W positions, P × Q positions after.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def _triangle(size: int, new_size: int, like: Tensor) -> Tensor:
    """Weights `(new_size, size)` of linear interpolation; when shrinking, the triangle is as wide as the new step."""
    scale = new_size / size
    centres = (torch.arange(new_size, dtype=torch.float64) + 0.5) / scale - 0.5
    distance = (centres[:, None] - torch.arange(size, dtype=torch.float64)).abs() * min(scale, 1.0)
    weights = (1 - distance).clamp(min=0)
    # What reaches over the border is left out, and the rest scaled up for it.
    return (weights / weights.sum(1, keepdim=True)).to(like)


def resize_bilinear_reference(x_BCHW: Tensor, height: int, width: int) -> Tensor:
    """The same map as `resize_bilinear`, as two matrix products that spell out the weights."""
    rows, columns = _triangle(x_BCHW.shape[2], height, x_BCHW), _triangle(x_BCHW.shape[3], width, x_BCHW)
    return rows @ x_BCHW @ columns.T


def resize_bilinear(x_BCHW: Tensor, height: int, width: int) -> Tensor:
    """Resize bilinearly between the centres of pixels, antialiased when shrinking.

    It is `jax.image.resize(..., method="bilinear")`, whose antialiasing is on by default.

    Args:
        x_BCHW: maps, `(batch, channels, height, width)`, in any memory format, which is kept.
        height: wanted.
        width: wanted.

    Returns:
        `(batch, channels, height, width)`; `x_BCHW` itself where that is its size.
    """
    if x_BCHW.shape[2:] == (height, width):
        return x_BCHW
    shrinks = height < x_BCHW.shape[2] or width < x_BCHW.shape[3]
    # PyTorch's antialiasing knows no half precision on a CPU.
    wide = x_BCHW.to(torch.promote_types(x_BCHW.dtype, torch.float32)) if shrinks else x_BCHW
    resized = F.interpolate(wide, size=(height, width), mode="bilinear", align_corners=False, antialias=shrinks)
    return resized.to(x_BCHW.dtype)


def resize_nearest(x_BCHW: Tensor, height: int, width: int) -> Tensor:
    """Take the pixel whose area holds the new pixel's centre, as `jax.image.resize(..., method="nearest")`.

    A tie goes to the later pixel: halving keeps pixels 1, 3, 5, …, where PyTorch's `"nearest"` keeps 0, 2, 4, ….

    Args:
        x_BCHW: maps, `(batch, channels, height, width)`.
        height: wanted.
        width: wanted.

    Returns:
        `(batch, channels, height, width)`.
    """
    return F.interpolate(x_BCHW, size=(height, width), mode="nearest-exact")

"""How near a restored image is to the true one.

Shape suffixes: C image channels, H × W pixels.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW, DEVIATION = 11, 1.5
K1, K2 = 0.01, 0.03


def psnr(image: Tensor, target: Tensor) -> float:
    """Peak signal-to-noise ratio of two images with values in [0, 1], in dB, over all pixels and channels.

    Args:
        image: `(channels, height, width)`.
        target: of the same shape.

    Returns:
        The ratio; infinite for equal images.

    Raises:
        ValueError: when the shapes differ.
    """
    _check(image, target)
    error = float((image.double() - target.double()).square().mean())
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(image: Tensor, target: Tensor) -> float:
    """Structural similarity of two images with values in [0, 1] (Wang et al., 2004), averaged over channels.

    Means and variances are weighed by a Gaussian window of 11×11 pixels and deviation 1.5, as in that paper; windows
    that reach over the border are left out.

    Args:
        image: `(channels, height, width)`, 11 pixels or more on each side.
        target: of the same shape.

    Returns:
        The similarity, 1 for equal images.

    Raises:
        ValueError: when the shapes differ or the images are smaller than the window.
    """
    _check(image, target)
    if min(image.shape[1:]) < WINDOW:
        raise ValueError(f"SSIM needs {WINDOW} pixels or more on each side, got {image.shape[1]}×{image.shape[2]}")
    offsets = torch.arange(WINDOW, dtype=torch.float64, device=image.device) - WINDOW // 2
    window = torch.exp(-(offsets**2) / (2 * DEVIATION**2))
    window = window / window.sum()

    def blurred(x_CHW: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x_CHW[:, None], window[None, None, :, None]), window[None, None, None, :])

    similarities = []
    # By channel, to keep the memory of a large image low.
    for x, y in zip(image.double(), target.double(), strict=True):
        mean_x, mean_y, mean_xx, mean_yy, mean_xy = blurred(torch.stack([x, y, x * x, y * y, x * y]))
        variances = mean_xx - mean_x**2 + mean_yy - mean_y**2
        covariance = mean_xy - mean_x * mean_y
        lightness = (2 * mean_x * mean_y + K1**2) / (mean_x**2 + mean_y**2 + K1**2)
        similarities.append((lightness * (2 * covariance + K2**2) / (variances + K2**2)).mean())
    return float(torch.stack(similarities).mean())


def _check(image: Tensor, target: Tensor) -> None:
    if image.ndim != 3 or image.shape != target.shape:
        raise ValueError(
            f"expected two images (channels, height, width) of one size, got {tuple(image.shape)} and "
            f"{tuple(target.shape)}"
        )

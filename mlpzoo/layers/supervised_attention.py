"""The supervised attention module between the stages of a restoration network (MPRNet, arXiv:2102.02808).

Shape suffixes: B batch, H × W positions, C channels, I image channels.
"""

import torch
from torch import Tensor, nn

from mlpzoo.layers.conv_nhwc import ConvNHWC


class SupervisedAttention(nn.Module):
    """Make an image from features, and let that image say which of the features go on to the next stage.

    Source: `SAM` of google-research/maxim, `maxim/models/maxim.py` at 3c82651.

    Args:
        dim: channels of the features.
        image_chans: channels of the image made; the input image is added to it where it has three, as the authors do.
        device: where the parameters live.
        dtype: their type.

    Shape:
        features `(batch, height, width, dim)` and an image `(batch, height, width, channels)` to features and an
        image `(batch, height, width, image_chans)`.
    """

    def __init__(
        self,
        dim: int,
        image_chans: int = 3,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.adds_input = image_chans == 3
        self.conv = ConvNHWC(dim, dim, 3, padding=1, device=device, dtype=dtype)
        self.to_image = ConvNHWC(dim, image_chans, 3, padding=1, device=device, dtype=dtype)
        self.to_mask = ConvNHWC(image_chans, dim, 3, padding=1, device=device, dtype=dtype)

    def forward(self, x_BHWC: Tensor, image_BHWI: Tensor) -> tuple[Tensor, Tensor]:
        """Features and the input image to features for the next stage and the image made."""
        made_BHWI = self.to_image(x_BHWC)
        if self.adds_input:
            made_BHWI = made_BHWI + image_BHWI
        return torch.addcmul(x_BHWC, self.conv(x_BHWC), self.to_mask(made_BHWI).sigmoid()), made_BHWI

"""Blocks that weigh every channel by what is seen of it over the whole map.

Shape suffixes: B batch, H × W positions, C channels.
"""

import torch
from torch import Tensor, nn

from mlpzoo.layers.conv_nhwc import ConvNHWC
from mlpzoo.layers.init import flax_default_, normal_002_
from mlpzoo.layers.mlp import MlpBlock


class ChannelAttention(nn.Module):
    """Squeeze and excitation (arXiv:1709.01507): a weight in (0, 1) for every channel, from the channels' means.

    Args:
        dim: channels.
        reduction: `dim` over the hidden units.
        device: where the parameters live.
        dtype: their type.

    Shape:
        `(batch, height, width, dim)` to the same.
    """

    def __init__(
        self,
        dim: int,
        reduction: int = 4,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if dim < reduction:
            raise ValueError(f"{dim} channels reduced by {reduction} leave none")
        self.fc1 = nn.Linear(dim, dim // reduction, device=device, dtype=dtype)
        self.fc2 = nn.Linear(dim // reduction, dim, device=device, dtype=dtype)
        self.reset_parameters()

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        mean_B11C = x_BHWC.mean(dim=(1, 2), keepdim=True)
        return x_BHWC * self.fc2(self.fc1(mean_B11C).relu()).sigmoid()

    def reset_parameters(self) -> None:
        """flax's defaults."""
        flax_default_(self.fc1)
        flax_default_(self.fc2)


class ConvAttentionBlock(nn.Module):
    """LayerNorm, convolution, leaky ReLU, convolution, channel attention, and a skip.

    Source: `RCAB` of google-research/maxim, `maxim/models/maxim.py` at 3c82651.

    Args:
        dim: channels.
        reduction: of the channel attention.
        slope: of the leaky ReLU below zero.
        norm_eps: epsilon of the LayerNorm; flax's default is 1e-6.
        device: where the parameters live.
        dtype: their type.

    Shape:
        `(batch, height, width, dim)` to the same.
    """

    def __init__(
        self,
        dim: int,
        *,
        reduction: int = 4,
        slope: float = 0.2,
        norm_eps: float = 1e-6,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=norm_eps, device=device, dtype=dtype)
        self.conv1 = ConvNHWC(dim, dim, 3, padding=1, device=device, dtype=dtype)
        self.act = nn.LeakyReLU(slope)
        self.conv2 = ConvNHWC(dim, dim, 3, padding=1, device=device, dtype=dtype)
        self.attn = ChannelAttention(dim, reduction, device=device, dtype=dtype)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        return x_BHWC + self.attn(self.conv2(self.act(self.conv1(self.norm(x_BHWC)))))


class MlpAttentionBlock(nn.Module):
    """LayerNorm, MLP over the channels, channel attention, and a skip.

    Source: `RDCAB` of google-research/maxim, `maxim/models/maxim.py` at 3c82651.

    Args:
        dim: channels, and hidden units of the MLP.
        reduction: of the channel attention.
        act_layer: name of the activation; the authors' is flax's GELU, the tanh form.
        norm_eps: epsilon of the LayerNorm; flax's default is 1e-6.
        device: where the parameters live.
        dtype: their type.

    Shape:
        `(batch, height, width, dim)` to the same.
    """

    def __init__(
        self,
        dim: int,
        *,
        reduction: int = 4,
        act_layer: str = "gelu_tanh",
        norm_eps: float = 1e-6,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=norm_eps, device=device, dtype=dtype)
        self.mlp = MlpBlock(dim, dim, act_layer=act_layer, device=device, dtype=dtype)
        self.attn = ChannelAttention(dim, reduction, device=device, dtype=dtype)
        self.reset_parameters()

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        return x_BHWC + self.attn(self.mlp(self.norm(x_BHWC)))

    def reset_parameters(self) -> None:
        """Kernels of the MLP from a normal distribution of deviation 0.02, zero biases, as the authors draw."""
        for layer in (self.mlp.fc1, self.mlp.fc2):
            normal_002_(layer)

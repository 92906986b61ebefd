"""The hidden layer in front of a classifier whose activation is the square of ReLU."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SquaredReluMlp(nn.Module):
    """Linear to four times the channels, relu², LayerNorm (the head of MetaFormer's baselines, arXiv:2210.13452).

    Args:
        dim: channels.
        device: where the parameters live.
        dtype: their type.

    Shape:
        `(..., dim)` to `(..., 4 * dim)`.
    """

    def __init__(self, dim: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim, device=device, dtype=dtype)
        self.norm = nn.LayerNorm(4 * dim, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """`(..., dim)` to `(..., 4 * dim)`."""
        return self.norm(F.relu(self.fc1(x)).square())

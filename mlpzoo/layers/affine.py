"""The affine map that stands in for a normalization."""

import torch
from torch import Tensor, nn

from mlpzoo.layers.folding import mergeable


@mergeable
class Affine(nn.Module):
    """Scale and shift every channel: `alpha * x + beta` over the last axis (ResMLP, arXiv:2105.03404, equation 1).

    It gathers no statistics, so it can be merged into the linear layer after it once training is over.

    Source: `Affine` of facebookresearch/deit, `resmlp_models.py`.

    Args:
        dim: channels.
        device: where the parameters live.
        dtype: their type.

    Shape:
        `(..., dim)` to the same.
    """

    def __init__(self, dim: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.empty(dim, device=device, dtype=dtype))
        self.beta = nn.Parameter(torch.empty(dim, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as the identity, as the authors do."""
        nn.init.ones_(self.alpha)
        nn.init.zeros_(self.beta)

    def forward(self, x: Tensor) -> Tensor:
        """`(..., dim)` to the same, in one pass over memory where a product and a sum would take two."""
        return torch.addcmul(self.beta, self.alpha, x)

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"dim={self.alpha.shape[0]}"

"""A norm over maps whose channels stand last.

Shape suffixes: B batch, H × W positions, C channels.
"""

import torch
from torch import Tensor, nn

from mlpzoo.layers.folding import mergeable
from mlpzoo.ops import group_norm


@mergeable
class GroupNorm1(nn.GroupNorm):
    """GroupNorm with one group: each map is normalized as a whole, each channel scaled and, with a bias, shifted.

    Args:
        dim: channels.
        eps: added to the variance.
        bias: whether channels are shifted.
        impl: which implementation of `mlpzoo.ops.group_norm` runs.
        device: where the parameters live.
        dtype: their type.

    Shape:
        `(batch, height, width, dim)` to the same.
    """

    def __init__(
        self,
        dim: int,
        eps: float = 1e-5,
        *,
        bias: bool = True,
        impl: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(1, dim, eps, device=device, dtype=dtype)
        if not bias:
            self.register_parameter("bias", None)
        self.impl = impl

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        return group_norm(x_BHWC, self.weight, self.bias, self.eps, self.impl)

"""BatchNorm over maps whose channels stand last.

Shape suffixes: B batch, H × W positions, C channels.
"""

import torch
from torch import Tensor, nn

from mlpzoo.layers.folding import channel_scale, is_fixed


class BatchNormNHWC(nn.Module):
    """`nn.BatchNorm2d` on a map whose channels stand last; nothing is copied.

    It is a part of this layer and not its base, so that `nn.SyncBatchNorm.convert_sync_batchnorm` can put another in
    its place.

    Args:
        dim: channels.
        eps: added to the variance.
        device: where the parameters live.
        dtype: their type.

    Shape:
        `(batch, height, width, dim)` to the same, in the memory layout that comes in.
    """

    def __init__(
        self,
        dim: int,
        eps: float = 1e-5,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.bn: nn.Module = nn.BatchNorm2d(dim, eps, device=device, dtype=dtype)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        return self.bn(x_BHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def folded(self) -> nn.Module:
        """Itself with its statistics fixed."""
        if is_fixed(self.bn):
            self.register_module("bn", channel_scale(self.bn))
        return self

"""The gate that CycleMLP and ViP weigh their three branches with.

Shape suffixes: B batch, H × W positions, C channels.
"""

import torch
import torch.fx
from torch import Tensor, nn

from mlpzoo.layers.activation import create_activation
from mlpzoo.ops import reweighted_sum

# A traced graph keeps the op as one call: its implementations differ in what tracing can see through.
torch.fx.wrap("reweighted_sum")


class SplitReweight(nn.Module):
    """Weigh three branches channel by channel, by what an MLP makes of the mean of their sum, and add them.

    The weights of a channel are a softmax over the branches (ViP, arXiv:2106.12368, section 3.2, after ResNeSt).

    Source: `reweight` of `CycleMLP` in ShoufaChen/CycleMLP, `cycle_mlp.py` at 4e062a0, and of `WeightedPermuteMLP` in
    houqb/VisionPermutator, `models/vip.py` at 2cab2ce.

    Args:
        dim: channels of each branch; the MLP has a quarter of them hidden, and an exact GELU.
        impl: which implementation of `mlpzoo.ops.reweighted_sum` runs.
        device: where the parameters live.
        dtype: their type.

    Shape:
        three of `(batch, height, width, dim)` to one.
    """

    def __init__(
        self,
        dim: int,
        *,
        impl: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.impl = impl
        hidden = max(dim // 4, 1)
        self.fc1 = nn.Linear(dim, hidden, device=device, dtype=dtype)
        self.act = create_activation("gelu")
        self.fc2 = nn.Linear(hidden, 3 * dim, device=device, dtype=dtype)

    def forward(self, h_BHWC: Tensor, w_BHWC: Tensor, c_BHWC: Tensor) -> Tensor:
        """Three branches `(batch, height, width, dim)` to their weighted sum."""
        # The sum of the means: the mean of the sum would write two maps more.
        mean_BC = h_BHWC.mean((1, 2)) + w_BHWC.mean((1, 2)) + c_BHWC.mean((1, 2))
        logits = self.fc2(self.act(self.fc1(mean_BC)))
        return reweighted_sum(h_BHWC, w_BHWC, c_BHWC, logits, self.impl)

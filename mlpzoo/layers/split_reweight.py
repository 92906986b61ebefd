"""The gate that CycleMLP and ViP weigh their three branches with.

Shape suffixes: B batch, H × W positions, C channels.
"""

import functools

import torch
from torch import Tensor, nn

from mlpzoo.layers.activation import create_activation
from mlpzoo.layers.linear import apply_linear, apply_linear_to
from mlpzoo.ops import fast_path, fusable, mean_of_sum, reweighted_sum


@fusable
class SplitReweight(nn.Module):
    """Weigh three branches channel by channel, by what an MLP makes of the mean of their sum, and add them.

    The weights of a channel are a softmax over the branches (ViP, arXiv:2106.12368).

    Source: `reweight` of `CycleMLP` in ShoufaChen/CycleMLP, `cycle_mlp.py` at 4e062a0, and of `WeightedPermuteMLP` in
    houqb/VisionPermutator, `models/vip.py` at 2cab2ce.

    Args:
        dim: channels of each branch; the MLP has an exact GELU.
        hidden: hidden units of the MLP; a quarter of the channels if not given.
        impl: which implementation of `mlpzoo.ops.mean_of_sum` and `reweighted_sum` runs.
        device: where the parameters live.
        dtype: their type.

    Shape:
        three of `(batch, height, width, dim)` to one.
    """

    def __init__(
        self,
        dim: int,
        *,
        hidden: int | None = None,
        impl: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.impl = impl
        hidden = hidden or max(dim // 4, 1)
        self.fc1 = nn.Linear(dim, hidden, device=device, dtype=dtype)
        self.act = create_activation("gelu")
        self.fc2 = nn.Linear(hidden, 3 * dim, device=device, dtype=dtype)

    def forward(self, h_BHWC: Tensor, w_BHWC: Tensor, c_BHWC: Tensor) -> Tensor:
        """Three branches `(batch, height, width, dim)` to their weighted sum."""
        return reweighted_sum(h_BHWC, w_BHWC, c_BHWC, self.logits(h_BHWC, w_BHWC, c_BHWC), self.impl)

    def logits(self, h_BHWC: Tensor, w_BHWC: Tensor, c_BHWC: Tensor) -> Tensor:
        """Three branches to the logits of their weights, `(batch, 3 × dim)`, a channel's three side by side."""
        return self.fc2(self.act(self.fc1(mean_of_sum(h_BHWC, w_BHWC, c_BHWC, self.impl))))


def reweighted_and_projected(
    reweight: nn.Module, proj: nn.Module, h_BHWC: Tensor, w_BHWC: Tensor, c_BHWC: Tensor, *, impl: str = "auto"
) -> Tensor:
    """`proj(reweight(h, w, c))`; the backward pass adds the three branches again, which are saved anyhow."""
    if not fast_path(reweight):
        return apply_linear(proj, reweight(h_BHWC, w_BHWC, c_BHWC), impl=impl)
    assert isinstance(reweight, SplitReweight)
    make = functools.partial(reweighted_sum, impl=reweight.impl)
    logits = reweight.logits(h_BHWC, w_BHWC, c_BHWC)
    return apply_linear_to(proj, make, h_BHWC, w_BHWC, c_BHWC, logits, impl=impl)

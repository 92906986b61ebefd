"""The weighted sum of three branches that CycleMLP and ViP end their spatial mixing with, and what it is decided by.

Shape suffixes: B batch, H × W positions, C channels, K the three branches.
"""

import torch
from einops import rearrange, reduce
from torch import Tensor

from mlpzoo.ops._triton import reweighted_sum_triton
from mlpzoo.ops.dispatch import fast_path, one_call


def mean_of_sum_reference(h_BHWC: Tensor, w_BHWC: Tensor, c_BHWC: Tensor) -> Tensor:
    """The same mean as `mean_of_sum`, as the papers write it."""
    return reduce(h_BHWC + w_BHWC + c_BHWC, "b h w c -> b c", "mean")


def mean_of_sum(h_BHWC: Tensor, w_BHWC: Tensor, c_BHWC: Tensor, impl: str = "auto") -> Tensor:
    """Add three branches and average over all positions; as a sum of means, which writes no map.

    Args:
        h_BHWC: first branch, `(batch, height, width, channels)`.
        w_BHWC: second branch.
        c_BHWC: third branch.
        impl: `"auto"` (the fastest known here) or `"reference"`; any other runs as `"auto"`, for the names are those
            of `reweighted_sum`.

    Returns:
        `(batch, channels)`.
    """
    if impl == "reference":
        return mean_of_sum_reference(h_BHWC, w_BHWC, c_BHWC)
    return h_BHWC.mean((1, 2)) + w_BHWC.mean((1, 2)) + c_BHWC.mean((1, 2))


def reweighted_sum_reference(h_BHWC: Tensor, w_BHWC: Tensor, c_BHWC: Tensor, logits: Tensor) -> Tensor:
    """The same sum as `reweighted_sum`, as the papers write it."""
    a_KBHWC = torch.softmax(rearrange(logits, "b (c k) -> k b 1 1 c", k=3), dim=0)
    return h_BHWC * a_KBHWC[0] + w_BHWC * a_KBHWC[1] + c_BHWC * a_KBHWC[2]


@one_call
def reweighted_sum(h_BHWC: Tensor, w_BHWC: Tensor, c_BHWC: Tensor, logits: Tensor, impl: str = "auto") -> Tensor:
    """Add three branches, each channel weighted by a softmax over the branches.

    The weights are laid out branch by branch first, so that the sum runs over contiguous memory; it takes one pass
    a branch.

    Args:
        h_BHWC: first branch, `(batch, height, width, channels)`.
        w_BHWC: second branch.
        c_BHWC: third branch.
        logits: `(batch, 3 × channels)`, a channel's three logits side by side.
        impl: `"auto"` (the fastest known here), `"triton"` for a kernel on a GPU that takes one pass for all, or
            `"reference"`.

    Returns:
        `(batch, height, width, channels)`.

    Raises:
        ValueError: for an unknown `impl`, or for `"triton"` where it cannot run.
    """
    if impl == "reference":
        return reweighted_sum_reference(h_BHWC, w_BHWC, c_BHWC, logits)
    if impl == "triton":
        return reweighted_sum_triton(h_BHWC, w_BHWC, c_BHWC, logits)
    if impl not in ("auto", "triton", "reference"):
        raise ValueError(f"unknown impl '{impl}' of reweighted_sum: choose 'auto', 'triton' or 'reference'")
    a_KBC = torch.softmax(logits.unflatten(1, (-1, 3)).permute(2, 0, 1).contiguous(), dim=0)
    a_KBHWC = a_KBC.unsqueeze(2).unsqueeze(3)
    y_BHWC = h_BHWC * a_KBHWC[0]
    if not fast_path(h_BHWC, w_BHWC, c_BHWC, logits):
        return y_BHWC.addcmul(w_BHWC, a_KBHWC[1]).addcmul(c_BHWC, a_KBHWC[2])
    # In place is safe: the gradient of a product needs its factors, not the product.
    return y_BHWC.addcmul_(w_BHWC, a_KBHWC[1]).addcmul_(c_BHWC, a_KBHWC[2])

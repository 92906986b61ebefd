"""GroupNorm with a single group, over maps whose channels stand last.

Shape suffixes: B batch, H × W positions, C channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mlpzoo.ops.dispatch import one_call


def group_norm_reference(x_BHWC: Tensor, w_C: Tensor, b_C: Tensor | None, eps: float = 1e-5) -> Tensor:
    """The same as `group_norm`, as PyTorch's own layer computes it; the memory layout stays what it is."""
    return F.group_norm(x_BHWC.permute(0, 3, 1, 2), 1, w_C, b_C, eps).permute(0, 2, 3, 1)


@one_call
def group_norm(x_BHWC: Tensor, w_C: Tensor, b_C: Tensor | None, eps: float = 1e-5, impl: str = "auto") -> Tensor:
    """Normalize each image's map by the mean and the variance of all its numbers; scale and shift each channel.

    PyTorch's kernel for a CPU takes maps with the channels last as they are. Its kernel for a GPU copies them into the
    other layout and leaves the result there, so there the map is normalized as one long vector.

    Args:
        x_BHWC: map, `(batch, height, width, channels)`.
        w_C: factor of each channel.
        b_C: summand of each channel; None for none.
        eps: added to the variance.
        impl: `"auto"` (the fastest known here), `"native"` for PyTorch's own kernel, `"vector"` for a LayerNorm over
            the whole map and a scaling after it, or `"reference"`.

    Returns:
        A map of the same shape; contiguous, but for `"reference"`, which keeps the layout of its input.

    Raises:
        ValueError: for an unknown `impl`.
    """
    if impl == "reference":
        return group_norm_reference(x_BHWC, w_C, b_C, eps)
    if impl not in ("auto", "native", "vector"):
        raise ValueError(f"unknown impl '{impl}' of group_norm: choose 'auto', 'native', 'vector' or 'reference'")
    if impl == "vector" or (impl == "auto" and x_BHWC.device.type != "cpu" and not torch.compiler.is_compiling()):
        y_BHWC = F.layer_norm(x_BHWC, x_BHWC.shape[1:], eps=eps)
        return y_BHWC * w_C if b_C is None else torch.addcmul(b_C, y_BHWC, w_C)
    return group_norm_reference(x_BHWC, w_C, b_C, eps).contiguous()

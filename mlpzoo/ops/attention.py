"""Attention of every token over every token.

Shape suffixes: B batch, A heads, T tokens, D channels of a head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mlpzoo.ops import _torch
from mlpzoo.ops.dispatch import one_call


def attention_reference(
    q_BATD: Tensor, k_BATD: Tensor, v_BATD: Tensor, dropout: float = 0.0, mask: Tensor | None = None
) -> Tensor:
    """The same function as `attention`, written as the paper does: softmax(q kᵀ / √D) v."""
    score_BATT = q_BATD @ k_BATD.transpose(-2, -1) * q_BATD.shape[-1] ** -0.5
    if mask is not None:
        score_BATT = score_BATT.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else score_BATT + mask
    weight_BATT = torch.softmax(score_BATT, dim=-1)
    return F.dropout(weight_BATT, dropout) @ v_BATD


@one_call
def attention(
    q_BATD: Tensor,
    k_BATD: Tensor,
    v_BATD: Tensor,
    dropout: float = 0.0,
    impl: str = "auto",
    mask: Tensor | None = None,
) -> Tensor:
    """Scaled dot-product attention; the fused kernels never hold the matrix of tokens by tokens.

    Args:
        q_BATD: queries, `(batch, heads, tokens, channels)`.
        k_BATD: keys, in the same shape.
        v_BATD: values, in the same shape.
        dropout: rate at which attention weights are dropped; 0 outside training.
        impl: `"auto"` (PyTorch's fused kernels) or `"reference"`.
        mask: what may be attended to, of a shape that broadcasts to `(batch, heads, tokens, tokens)`: true where it
            may, or numbers that are added to the scores.

    Returns:
        `(batch, heads, tokens, channels)`.

    Raises:
        ValueError: for an unknown `impl`.
    """
    if impl == "reference":
        return attention_reference(q_BATD, k_BATD, v_BATD, dropout, mask)
    if impl != "auto":
        raise ValueError(f"unknown impl '{impl}' of attention: choose 'auto' or 'reference'")
    if not torch.compiler.is_compiling() and _torch.transforms_active():
        # The fused kernels know no forward mode.
        return attention_reference(q_BATD, k_BATD, v_BATD, dropout, mask)
    return F.scaled_dot_product_attention(q_BATD, k_BATD, v_BATD, attn_mask=mask, dropout_p=dropout)

"""A linear map over the token axis of (batch, tokens, channels), without moving a tensor in memory.

Shape suffixes: B batch, T tokens in, S tokens out, C channels.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from mlpzoo.ops._triton import token_linear_triton
from mlpzoo.ops.dispatch import one_call


def token_linear_reference(x_BTC: Tensor, w_ST: Tensor, b_S: Tensor | None = None, act: str = "none") -> Tensor:
    """The same map as `token_linear`, written as the papers do: transpose, linear, transpose back, activation."""
    x_BCT = rearrange(x_BTC, "b t c -> b c t")
    return _activated(rearrange(F.linear(x_BCT, w_ST, b_S), "b c s -> b s c").contiguous(), act)


def _activated(x: Tensor, act: str) -> Tensor:
    return x if act == "none" else F.gelu(x, approximate="tanh" if act == "gelu_tanh" else "none")


@one_call
def token_linear(
    x_BTC: Tensor, w_ST: Tensor, b_S: Tensor | None = None, impl: str = "auto", act: str = "none"
) -> Tensor:
    """Mix tokens: every output token is a weighted sum of the input tokens, the same for every channel.

    The product runs as a batched matrix product whose left side is the weight, expanded over the batch and never
    copied. The result is dense in (batch, tokens, channels), so nothing after it pays for a stride.

    Args:
        x_BTC: tokens, `(batch, tokens_in, channels)`.
        w_ST: weight, `(tokens_out, tokens_in)`.
        b_S: bias, `(tokens_out,)`, or None.
        impl: `"auto"` (the fastest known here), `"bmm"`, `"triton"` for a kernel on a GPU that applies the activation
            in the same pass, or `"reference"`.
        act: `"none"`, `"gelu"` or `"gelu_tanh"`, applied to the result.

    Returns:
        Tokens, `(batch, tokens_out, channels)`, contiguous.

    Raises:
        ValueError: for an unknown `impl` or `act`, or for `"triton"` where it cannot run.
    """
    if act not in ("none", "gelu", "gelu_tanh"):
        raise ValueError(f"unknown activation '{act}' of token_linear: choose 'none', 'gelu' or 'gelu_tanh'")
    if impl == "reference":
        return token_linear_reference(x_BTC, w_ST, b_S, act)
    if impl == "triton":
        return token_linear_triton(x_BTC, w_ST, b_S, act)
    if impl not in ("auto", "bmm", "triton", "reference"):
        raise ValueError(f"unknown impl '{impl}' of token_linear: choose 'auto', 'bmm', 'triton' or 'reference'")
    w_BST = w_ST.expand(x_BTC.shape[0], -1, -1)
    if b_S is None:
        return _activated(torch.bmm(w_BST, x_BTC), act)
    return _activated(torch.baddbmm(b_S.unsqueeze(-1), w_BST, x_BTC), act)

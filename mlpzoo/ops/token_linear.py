"""A linear map over the token axis of (batch, tokens, channels), without moving a tensor in memory.

Shape suffixes: B batch, T tokens in, S tokens out, C channels.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor


def token_linear_reference(x_BTC: Tensor, w_ST: Tensor, b_S: Tensor | None = None) -> Tensor:
    """The same map as `token_linear`, written as the papers do: transpose, linear, transpose back."""
    x_BCT = rearrange(x_BTC, "b t c -> b c t")
    return rearrange(F.linear(x_BCT, w_ST, b_S), "b c s -> b s c").contiguous()


def token_linear(x_BTC: Tensor, w_ST: Tensor, b_S: Tensor | None = None, impl: str = "auto") -> Tensor:
    """Mix tokens: every output token is a weighted sum of the input tokens, the same for every channel.

    The product runs as a batched matrix product whose left side is the weight, expanded over the batch and never
    copied. The result is dense in (batch, tokens, channels), so nothing after it pays for a stride.

    Args:
        x_BTC: tokens, `(batch, tokens_in, channels)`.
        w_ST: weight, `(tokens_out, tokens_in)`.
        b_S: bias, `(tokens_out,)`, or None.
        impl: `"auto"` (the fastest known here), `"bmm"`, or `"reference"`.

    Returns:
        Tokens, `(batch, tokens_out, channels)`, contiguous.

    Raises:
        ValueError: for an unknown `impl`.
    """
    # TorchScript cannot compile einops, so a scripted module always runs the fast path.
    if impl == "reference" and not torch.jit.is_scripting():
        return token_linear_reference(x_BTC, w_ST, b_S)
    if impl not in ("auto", "bmm", "reference"):
        raise ValueError(f"unknown impl '{impl}' of token_linear: choose 'auto', 'bmm' or 'reference'")
    w_BST = w_ST.expand(x_BTC.shape[0], -1, -1)
    if b_S is None:
        return torch.bmm(w_BST, x_BTC)
    return torch.baddbmm(b_S.unsqueeze(-1), w_BST, x_BTC)

"""Self-attention.

Shape suffixes: B batch, A heads, T tokens, D channels of a head, C channels of a token.
"""

import torch
from torch import Tensor, nn

from mlpzoo.layers.linear import apply_linear, rest
from mlpzoo.ops import attention


class Attention(nn.Module):
    """Multi-head self-attention with one linear for queries, keys and values (ViT, arXiv:2010.11929, appendix A).

    Args:
        dim: channels of a token, a multiple of `num_heads`.
        num_heads: heads; each sees `dim / num_heads` channels.
        impl: which implementation of `mlpzoo.ops.attention` runs; if `"reference"`, of every op inside.
        qkv_bias: whether queries, keys and values have a bias.
        attn_drop: dropout rate of the attention weights.
        proj_drop: dropout rate after the last linear.
        device: where the parameters live.
        dtype: their type.

    Raises:
        ValueError: when `dim` does not divide into `num_heads`.

    Shape:
        Tokens in and out, `(batch, tokens, dim)`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        impl: str = "auto",
        qkv_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            raise ValueError(f"{dim} channels do not divide into {num_heads} heads: choose a divisor of {dim}")
        self.num_heads = num_heads
        self.impl = impl
        self.attn_drop = attn_drop
        self.qkv = nn.Linear(dim, 3 * dim, qkv_bias, device=device, dtype=dtype)
        self.proj = nn.Linear(dim, dim, device=device, dtype=dtype)
        self.proj_drop = nn.Dropout(proj_drop)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw as flax does: Xavier uniform, queries, keys and values each by itself; zero biases."""
        for weight in (*self.qkv.weight.chunk(3), self.proj.weight):
            nn.init.xavier_uniform_(weight)
        for bias in (self.qkv.bias, self.proj.bias):
            if bias is not None:
                nn.init.zeros_(bias)

    def forward(self, x_BTC: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """`(batch, tokens, dim)` to the same; for the mask see `mlpzoo.ops.attention`."""
        qkv_BTC = apply_linear(self.qkv, x_BTC, impl=rest(self.impl))
        qkv_3BATD = qkv_BTC.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        q_BATD, k_BATD, v_BATD = qkv_3BATD.unbind(0)
        drop = self.attn_drop if self.training else 0.0
        x_BATD = attention(q_BATD, k_BATD, v_BATD, drop, self.impl, attn_mask)
        return self.proj_drop(apply_linear(self.proj, x_BATD.transpose(1, 2).flatten(2), impl=rest(self.impl)))

    def folded(self) -> nn.Module:
        """Itself, dropping nothing in whatever mode it is put."""
        self.attn_drop = 0.0
        return self

"""The transformer encoder's block.

Shape suffixes: B batch, T tokens, C channels.
"""

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from mlpzoo.layers.attention import Attention
from mlpzoo.layers.linear import rest
from mlpzoo.layers.mlp import MlpBlock


class EncoderBlock(nn.Module):
    """Self-attention, then an MLP, each after a LayerNorm and with a skip (ViT, arXiv:2010.11929, equations 2 and 3).

    Source: `Encoder1DBlock` of google-research/vision_transformer, `vit_jax/models_vit.py`.

    Args:
        dim: channels of a token.
        num_heads: heads of the attention.
        mlp_dim: hidden units of the MLP.
        impl: which implementation of `mlpzoo.ops.attention` runs; if `"reference"`, of every op inside.
        drop: dropout rate after the attention and inside the MLP.
        attn_drop: dropout rate of the attention weights.
        drop_path: stochastic depth rate of the attention and of the MLP.
        act_layer: name of the activation; the authors' is flax's GELU, the tanh form.
        norm_eps: epsilon of both LayerNorms, in the authors' code flax's default of 1e-6.
        device: where the parameters live.
        dtype: their type.

    Shape:
        `(batch, tokens, dim)`, in and out.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_dim: int,
        *,
        impl: str = "auto",
        drop: float = 0.0,
        attn_drop: float = 0.0,
        drop_path: float = 0.0,
        act_layer: str = "gelu_tanh",
        norm_eps: float = 1e-6,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps, device=device, dtype=dtype)
        self.attn = Attention(
            dim, num_heads, attn_drop=attn_drop, proj_drop=drop, impl=impl, device=device, dtype=dtype
        )
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps, device=device, dtype=dtype)
        self.mlp = MlpBlock(dim, mlp_dim, act_layer=act_layer, drop=drop, impl=rest(impl), device=device, dtype=dtype)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw as the authors do: Xavier uniform weights, tiny normal biases in the MLP, unit norms."""
        self.attn.reset_parameters()
        for linear in (self.mlp.fc1, self.mlp.fc2):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.normal_(linear.bias, std=1e-6)
        self.norm1.reset_parameters()
        self.norm2.reset_parameters()

    def forward(self, x_BTC: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """`(batch, tokens, dim)` to the same; for the mask see `mlpzoo.ops.attention`."""
        x_BTC = x_BTC + self.drop_path(self.attn(self.norm1(x_BTC), attn_mask))
        return x_BTC + self.drop_path(self.mlp(self.norm2(x_BTC)))

"""The MLP-Mixer block.

Shape suffixes: B batch, T tokens, C channels.
"""

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from mlpzoo.layers.linear import rest
from mlpzoo.layers.mixing import ChannelMixing, TokenMixing
from mlpzoo.ops.resize import Grid


class MixerBlock(nn.Module):
    """Token mixing, then channel mixing, each after a LayerNorm and with a skip (arXiv:2105.01601, equation 1).

    Source: `MixerBlock` of google-research/vision_transformer, `vit_jax/models_mixer.py`.

    Args:
        dim: channels of a token.
        num_tokens: tokens of an image, the paper's S, as the (height, width) of their grid; a number stands for a line
            of them.
        tokens_mlp_dim: hidden units of the token MLP, the paper's D_S.
        channels_mlp_dim: hidden units of the channel MLP, the paper's D_C.
        act_layer: name of the activation; the authors' is flax's GELU, the tanh form.
        norm_eps: epsilon of the LayerNorms; flax's default is 1e-6.
        drop: dropout rate inside both MLPs.
        drop_path: stochastic depth rate of both branches.
        impl: which implementation of `mlpzoo.ops.token_linear` runs; if `"reference"`, of every op inside.
        device: where the parameters live.
        dtype: their type.

    Shape:
        `(batch, num_tokens, dim)` to the same.
    """

    def __init__(
        self,
        dim: int,
        num_tokens: int | Grid,
        tokens_mlp_dim: int,
        channels_mlp_dim: int,
        *,
        act_layer: str = "gelu_tanh",
        norm_eps: float = 1e-6,
        drop: float = 0.0,
        drop_path: float = 0.0,
        impl: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps, device=device, dtype=dtype)
        self.mlp_tokens = TokenMixing(
            num_tokens, tokens_mlp_dim, act_layer=act_layer, drop=drop, impl=impl, device=device, dtype=dtype
        )
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps, device=device, dtype=dtype)
        self.mlp_channels = ChannelMixing(
            dim, channels_mlp_dim, act_layer=act_layer, drop=drop, impl=rest(impl), device=device, dtype=dtype
        )
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x_BTC: Tensor) -> Tensor:
        """`(batch, num_tokens, dim)` to the same."""
        x_BTC = x_BTC + self.drop_path(self.mlp_tokens(self.norm1(x_BTC)))
        return x_BTC + self.drop_path(self.mlp_channels(self.norm2(x_BTC)))

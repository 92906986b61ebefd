"""The ResMLP block.

Shape suffixes: B batch, T tokens, C channels.
"""

from collections.abc import Iterator

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from mlpzoo.layers.affine import Affine
from mlpzoo.layers.folding import may_merge, rounded, wide, with_map_before, with_values
from mlpzoo.layers.grid_bound import GridBound
from mlpzoo.layers.linear import has_hooks, rest
from mlpzoo.layers.mixing import ChannelMixing, TokenLinear
from mlpzoo.layers.packed import PackedLinear
from mlpzoo.ops import resize_output_tokens
from mlpzoo.ops.resize import Grid


class ResMLPBlock(GridBound):
    """A linear layer over the tokens, then an MLP over the channels (arXiv:2105.03404, equations 2 and 3).

    Each follows an `Affine` and is scaled channel by channel (LayerScale) before it is added to its input.

    Source: `layers_scale_mlp_blocks` of facebookresearch/deit, `resmlp_models.py`.

    Args:
        dim: channels of a token.
        num_tokens: tokens of an image.
        impl: which implementation of `mlpzoo.ops.token_linear` runs; if `"reference"`, of every op inside.
        mlp_ratio: hidden units of the channel MLP for every channel.
        layer_scale_init: what every entry of the two scales starts from.
        drop: dropout rate inside the channel MLP.
        drop_path: stochastic depth rate of both branches.
        act_layer: name of the activation; the authors' is the exact GELU.
        device: where the parameters live.
        dtype: their type.

    Shape:
        Tokens of one grid, `(batch, num_tokens, dim)`, to the same.
    """

    def __init__(
        self,
        dim: int,
        num_tokens: int,
        *,
        impl: str = "auto",
        mlp_ratio: float = 4.0,
        layer_scale_init: float = 1e-4,
        drop: float = 0.0,
        drop_path: float = 0.0,
        act_layer: str = "gelu",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.layer_scale_init = layer_scale_init
        self.norm1 = Affine(dim, device=device, dtype=dtype)
        self.linear_tokens = TokenLinear(num_tokens, num_tokens, impl=impl, device=device, dtype=dtype)
        self.ls1 = nn.Parameter(torch.empty(dim, device=device, dtype=dtype))
        self.norm2 = Affine(dim, device=device, dtype=dtype)
        self.mlp_channels = ChannelMixing(
            dim, int(mlp_ratio * dim), act_layer=act_layer, drop=drop, impl=rest(impl), device=device, dtype=dtype
        )
        self.ls2 = nn.Parameter(torch.empty(dim, device=device, dtype=dtype))
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every parameter as the authors do: normal weights of deviation 0.02, zero biases."""
        for linear in (self.linear_tokens, self.mlp_channels.fc1, self.mlp_channels.fc2):
            assert linear.bias is not None
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
        for scale in (self.ls1, self.ls2):
            nn.init.constant_(scale, self.layer_scale_init)
        self.norm1.reset_parameters()
        self.norm2.reset_parameters()

    def forward(self, x_BTC: Tensor) -> Tensor:
        """`(batch, num_tokens, dim)` to the same."""
        # One pass over memory scales a branch and adds it; scaling commutes with dropping whole samples.
        x_BTC = torch.addcmul(x_BTC, self.ls1, self.drop_path(self.linear_tokens(self.norm1(x_BTC))))
        return torch.addcmul(x_BTC, self.ls2, self.drop_path(self.mlp_channels(self.norm2(x_BTC))))

    def weights_at(self, old_grid: Grid, new_grid: Grid) -> Iterator[tuple[str, Tensor]]:
        """The token linear, which both reads and writes the tokens."""
        yield from self.linear_tokens.resized(old_grid, new_grid, "linear_tokens", inputs=True, outputs=True)

    def folded(self) -> nn.Module:
        """Both affine maps and both scales put into the linears.

        The token linear mixes tokens channel by channel, so it commutes with a factor a channel:
        W (α x + β) + b = α · (W x) + (β · rowsum W + b).
        """
        tokens, fc1, fc2 = self.linear_tokens, self.mlp_channels.fc1, self.mlp_channels.fc2
        usual = type(self.mlp_channels) is ChannelMixing and may_merge(self.norm1, tokens, self.norm2, fc1, fc2)
        if not usual or has_hooks(*self.modules()):
            return self
        assert tokens.bias is not None
        ls1_C, ls2_C = wide(self.ls1), wide(self.ls2)
        constant_TC = wide(tokens.weight).sum(1, keepdim=True) * wide(self.norm1.beta) + wide(tokens.bias)[:, None]
        linear_tokens = TokenLinear(*tokens.weight.shape[::-1], bias=False, impl=tokens.impl, device="meta")
        linear_tokens.weight = tokens.weight
        return FoldedResMLPBlock(
            linear_tokens,
            rounded(ls1_C * wide(self.norm1.alpha), self.ls1),
            rounded(ls1_C * constant_TC, self.ls1),
            PackedLinear(with_map_before(fc1, wide(self.norm2.alpha), wide(self.norm2.beta)), self.mlp_channels.act),
            PackedLinear(with_values(fc2, ls2_C[:, None] * wide(fc2.weight), ls2_C * wide(fc2.bias))),
        )


class FoldedResMLPBlock(GridBound):
    """A `ResMLPBlock` whose affine maps and scales are in its linears, but for one scale and one map that is added.

    With s a scale and m a map over tokens and channels, `y = x + s · (W x) + m`, then `y + W₂ act(W₁ y + b₁) + b₂`.

    Args:
        linear_tokens: W, without a bias.
        scale_C: s.
        shift_TC: m.
        fc1: W₁, b₁ and the activation.
        fc2: W₂ and b₂.

    Shape:
        Tokens of one grid, `(batch, tokens, channels)`, to the same.
    """

    def __init__(
        self,
        linear_tokens: TokenLinear,
        scale_C: nn.Parameter,
        shift_TC: nn.Parameter,
        fc1: PackedLinear,
        fc2: PackedLinear,
    ) -> None:
        super().__init__()
        self.linear_tokens = linear_tokens
        self.scale = scale_C
        self.shift = shift_TC
        self.fc1 = fc1
        self.fc2 = fc2

    def forward(self, x_BTC: Tensor) -> Tensor:
        """`(batch, tokens, channels)` to the same."""
        y_BTC = torch.addcmul(x_BTC, self.scale, self.linear_tokens(x_BTC)).add_(self.shift)
        return self.fc2(self.fc1(y_BTC), y_BTC)

    def weights_at(self, old_grid: Grid, new_grid: Grid) -> Iterator[tuple[str, Tensor]]:
        """Folding what is resized gives the same."""
        yield from self.linear_tokens.resized(old_grid, new_grid, "linear_tokens", inputs=True, outputs=True)
        yield "shift", resize_output_tokens(self.shift.T, old_grid, new_grid).T

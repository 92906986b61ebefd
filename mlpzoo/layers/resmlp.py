"""The ResMLP block.

Shape suffixes: B batch, T tokens, C channels.
"""

import math
from typing import ClassVar

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from mlpzoo.layers.affine import Affine
from mlpzoo.layers.folding import has_hooks, may_merge, rounded, wide, with_map_before, with_values
from mlpzoo.layers.grid_bound import GridAxes, GridBound, as_grid
from mlpzoo.layers.linear import apply_linear, rest
from mlpzoo.layers.mixing import ChannelMixing, TokenLinear
from mlpzoo.ops.resize import Grid


class ResMLPBlock(GridBound):
    """A linear layer over the tokens, then an MLP over the channels (arXiv:2105.03404, equations 2 and 3).

    Each follows an `Affine` and is scaled channel by channel (LayerScale) before it is added to its input.

    Source: `layers_scale_mlp_blocks` of facebookresearch/deit, `resmlp_models.py`.

    Args:
        dim: channels of a token.
        num_tokens: tokens of an image, as the (height, width) of their grid; a number stands for a line of them.
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

    grid_axes: ClassVar[GridAxes] = {"linear_tokens.weight": ("out", "in"), "linear_tokens.bias": ("out",)}

    def __init__(
        self,
        dim: int,
        num_tokens: int | Grid,
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
        self.grid = as_grid(num_tokens)
        tokens = math.prod(self.grid)
        self.linear_tokens = TokenLinear(tokens, tokens, impl=impl, device=device, dtype=dtype)
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
            with_map_before(fc1, wide(self.norm2.alpha), wide(self.norm2.beta)),
            self.mlp_channels.act,
            with_values(fc2, ls2_C[:, None] * wide(fc2.weight), ls2_C * wide(fc2.bias)),
            self.grid,
        )


class FoldedResMLPBlock(GridBound):
    """A `ResMLPBlock` whose affine maps and scales are in its linears, but for one scale and one map that is added.

    With s a scale and m a map over tokens and channels, `y = x + s · (W x) + m`, then `y + W₂ act(W₁ y + b₁) + b₂`.

    Args:
        linear_tokens: W, without a bias.
        scale_C: s.
        shift_TC: m.
        fc1: W₁ and b₁.
        act: the activation.
        fc2: W₂ and b₂.
        grid: height and width of the token grid.

    Shape:
        Tokens of one grid, `(batch, tokens, channels)`, to the same.
    """

    # Folding what is resized gives the same.
    grid_axes: ClassVar[GridAxes] = {"linear_tokens.weight": ("out", "in"), "shift": ("out",)}

    def __init__(
        self,
        linear_tokens: TokenLinear,
        scale_C: nn.Parameter,
        shift_TC: nn.Parameter,
        fc1: nn.Linear,
        act: nn.Module,
        fc2: nn.Linear,
        grid: Grid,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.linear_tokens = linear_tokens
        self.scale = scale_C
        self.shift = shift_TC
        self.fc1 = fc1
        self.act = act
        self.fc2 = fc2

    def forward(self, x_BTC: Tensor) -> Tensor:
        """`(batch, tokens, channels)` to the same."""
        y_BTC = torch.addcmul(x_BTC, self.scale, self.linear_tokens(x_BTC)).add_(self.shift)
        return apply_linear(self.fc2, apply_linear(self.fc1, y_BTC, self.act)) + y_BTC

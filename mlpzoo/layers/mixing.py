"""Mixing over tokens and over channels (MLP-Mixer, arXiv:2105.01601, section 2).

Shape suffixes: B batch, T tokens, S hidden units of the token MLP, C channels.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from mlpzoo.layers.activation import create_activation
from mlpzoo.layers.folding import mergeable
from mlpzoo.layers.grid_bound import GridAxes, GridBound, as_grid
from mlpzoo.layers.linear import gelu_form
from mlpzoo.layers.mlp import MlpBlock
from mlpzoo.ops import fast_path, fusable, token_linear
from mlpzoo.ops.resize import Grid

ChannelMixing = MlpBlock
"""The paper's name for an `MlpBlock` over the channels of every token: `(B, T, C)` to `(B, T, C)`."""


@fusable
@mergeable
class TokenLinear(nn.Module):
    """A linear layer over the token axis of `(batch, tokens, channels)`.

    It keeps its parameters as `nn.Linear(in_tokens, out_tokens)` would, but is no subclass of it: tools that swap
    every `nn.Linear` of a model (adapters, quantizers) apply theirs to the last axis, which would be wrong here.

    Args:
        in_tokens: tokens read.
        out_tokens: tokens written.
        bias: whether every output token has a bias.
        impl: which implementation of `mlpzoo.ops.token_linear` runs.
        device: where the parameters live.
        dtype: their type.

    Shape:
        `(batch, in_tokens, channels)` to `(batch, out_tokens, channels)`, contiguous.
    """

    def __init__(
        self,
        in_tokens: int,
        out_tokens: int,
        *,
        bias: bool = True,
        impl: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.impl = impl
        self.weight = nn.Parameter(torch.empty(out_tokens, in_tokens, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_tokens, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters as `nn.Linear` draws its own."""
        bound = self.weight.shape[1] ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """`(batch, in_tokens, channels)` to `(batch, out_tokens, channels)`."""
        return token_linear(x_BTC, self.weight, self.bias, impl=self.impl)

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        out_tokens, in_tokens = self.weight.shape
        return f"in_tokens={in_tokens}, out_tokens={out_tokens}, bias={self.bias is not None}, impl={self.impl!r}"


def activated_tokens(layer: nn.Module, act: nn.Module, x_BTC: Tensor) -> Tensor:
    """`act(layer(x_BTC))`, in one pass where a kernel does both."""
    form = gelu_form(act)
    if form and isinstance(layer, TokenLinear) and fast_path(layer, act):
        return token_linear(x_BTC, layer.weight, layer.bias, layer.impl, form)
    return act(layer(x_BTC))


class TokenMixing(GridBound):
    """The token-mixing MLP: linear, activation, linear over the tokens, shared by all channels.

    Args:
        num_tokens: tokens in and out, as the (height, width) of their grid; a number stands for a line of them.
        mlp_dim: hidden units, the paper's D_S.
        act_layer: name of the activation, see `create_activation`; the authors' is flax's GELU, the tanh form.
        drop: dropout rate after the activation and after the second linear.
        impl: which implementation of `mlpzoo.ops.token_linear` runs.
        device: where the parameters live.
        dtype: their type.

    Shape:
        `(batch, num_tokens, channels)` to the same, contiguous.
    """

    # The first weight is resized by mass, the second weight and its bias by shape.
    grid_axes: ClassVar[GridAxes] = {"fc1.weight": ("", "in"), "fc2.weight": ("out",), "fc2.bias": ("out",)}

    def __init__(
        self,
        num_tokens: int | Grid,
        mlp_dim: int,
        *,
        act_layer: str = "gelu_tanh",
        drop: float = 0.0,
        impl: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.grid = as_grid(num_tokens)
        tokens = math.prod(self.grid)
        self.fc1 = TokenLinear(tokens, mlp_dim, impl=impl, device=device, dtype=dtype)
        self.act = create_activation(act_layer)
        self.drop1 = nn.Dropout(drop)
        self.fc2 = TokenLinear(mlp_dim, tokens, impl=impl, device=device, dtype=dtype)
        self.drop2 = nn.Dropout(drop)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """`(batch, num_tokens, channels)` to the same."""
        x_BSC = activated_tokens(self.fc1, self.act, x_BTC)
        return self.drop2(self.fc2(self.drop1(x_BSC)))

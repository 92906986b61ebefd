"""The gMLP block and its spatial gating unit, with the tiny attention of aMLP.

Shape suffixes: B batch, T tokens, C channels of a token, E hidden units of the MLP, G = E / 2 of its gate, A channels
of the attention.
"""

import math
from typing import ClassVar

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from mlpzoo.layers.activation import create_activation
from mlpzoo.layers.grid_bound import GridAxes, GridBound, as_grid
from mlpzoo.layers.linear import apply_linear, gelu_form, rest
from mlpzoo.layers.mixing import TokenLinear
from mlpzoo.ops import attention, fast_path, fusable, linear_halves, spatial_gate
from mlpzoo.ops.resize import Grid


@fusable
class SpatialGatingUnit(GridBound):
    """Multiply one half of the channels by a linear map over the tokens of the other half, normalized.

    This is the only place where a gMLP mixes tokens (arXiv:2105.08050, section 2.1, equation 4). It starts as almost
    the identity on the first half: the map's weight is near zero and its bias is one.

    Args:
        dim: channels in; half of them come out.
        num_tokens: tokens of an image, as the (height, width) of their grid; a number stands for a line of them.
        impl: which implementation of `mlpzoo.ops.spatial_gate` runs.
        norm_eps: epsilon of the gate's LayerNorm.
        device: where the parameters live.
        dtype: their type.

    Raises:
        ValueError: when `dim` is odd.

    Shape:
        `(batch, num_tokens, dim)` to `(batch, num_tokens, dim / 2)`, contiguous.
    """

    grid_axes: ClassVar[GridAxes] = {"proj.weight": ("out", "in"), "proj.bias": ("out",)}

    def __init__(
        self,
        dim: int,
        num_tokens: int | Grid,
        *,
        impl: str = "auto",
        norm_eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if dim % 2:
            raise ValueError(f"a spatial gating unit halves its channels: {dim} is odd, choose an even number")
        self.norm = nn.LayerNorm(dim // 2, eps=norm_eps, device=device, dtype=dtype)
        self.grid = as_grid(num_tokens)
        tokens = math.prod(self.grid)
        self.proj = TokenLinear(tokens, tokens, impl=impl, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as the paper says, near the identity; it names no deviation, and 1e-6 is timm's."""
        assert self.proj.bias is not None
        nn.init.normal_(self.proj.weight, std=1e-6)
        nn.init.ones_(self.proj.bias)
        self.norm.reset_parameters()

    def forward(self, x_BTE: Tensor, shift_BTG: Tensor | None = None) -> Tensor:
        """`(batch, num_tokens, dim)` to half the channels; `shift_BTG`, if given, is added to the gate."""
        u_BTG, v_BTG = x_BTE.chunk(2, dim=-1)
        return self.gated(u_BTG, v_BTG, shift_BTG)

    def gated(self, u_BTG: Tensor, v_BTG: Tensor, shift_BTG: Tensor | None = None) -> Tensor:
        """The two halves of the channels to the first one, gated by the second."""
        v_BTG, proj = self.norm(v_BTG), self.proj
        if fast_path(proj):
            return spatial_gate(u_BTG, v_BTG, proj.weight, proj.bias, shift_BTG, proj.impl)
        gate_BTG = proj(v_BTG)
        return u_BTG * (gate_BTG if shift_BTG is None else gate_BTG + shift_BTG)


class TinyAttention(nn.Module):
    """Self-attention with one narrow head, whose output has another width (arXiv:2105.08050, section 4).

    Args:
        dim: channels in.
        out_dim: channels out.
        attn_dim: channels of queries, keys and values; 64 in the paper.
        impl: which implementation of `mlpzoo.ops.attention` runs; if `"reference"`, of every op inside.
        device: where the parameters live.
        dtype: their type.

    Shape:
        `(batch, tokens, dim)` to `(batch, tokens, out_dim)`.
    """

    def __init__(
        self,
        dim: int,
        out_dim: int,
        attn_dim: int = 64,
        *,
        impl: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.impl = impl
        self.qkv = nn.Linear(dim, 3 * attn_dim, device=device, dtype=dtype)
        self.proj = nn.Linear(attn_dim, out_dim, device=device, dtype=dtype)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """`(batch, tokens, dim)` to `(batch, tokens, out_dim)`."""
        q_B1TA, k_B1TA, v_B1TA = apply_linear(self.qkv, x_BTC, impl=rest(self.impl)).unsqueeze(1).chunk(3, dim=-1)
        x_BTA = attention(q_B1TA, k_B1TA, v_B1TA, impl=self.impl).squeeze(1)
        return apply_linear(self.proj, x_BTA, impl=rest(self.impl))


class SpatialGatingMlp(nn.Module):
    """An MLP over the channels with a `SpatialGatingUnit` between activation and second linear.

    Args:
        dim: channels in and out.
        mlp_dim: hidden units, the paper's d_ffn; an even number, for the gate halves them.
        num_tokens: tokens of an image, as the (height, width) of their grid; a number stands for a line of them.
        attn_dim: channels of a `TinyAttention` that reads the same input and is added to the gate; 0 for none.
        act_layer: name of the activation, see `create_activation`.
        gate_norm_eps: epsilon of the gate's LayerNorm.
        drop: dropout rate after the activation and after the second linear.
        impl: which implementation of its ops runs.
        device: where the parameters live.
        dtype: their type.

    Shape:
        `(batch, num_tokens, dim)` to the same.
    """

    def __init__(
        self,
        dim: int,
        mlp_dim: int,
        num_tokens: int | Grid,
        *,
        attn_dim: int = 0,
        act_layer: str = "gelu",
        gate_norm_eps: float = 1e-5,
        drop: float = 0.0,
        impl: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.attn = (
            TinyAttention(dim, mlp_dim // 2, attn_dim, impl=rest(impl), device=device, dtype=dtype)
            if attn_dim
            else None
        )
        self.impl = rest(impl)
        self.fc1 = nn.Linear(dim, mlp_dim, device=device, dtype=dtype)
        self.act = create_activation(act_layer)
        self.drop1 = nn.Dropout(drop)
        self.gate = SpatialGatingUnit(
            mlp_dim, num_tokens, impl=impl, norm_eps=gate_norm_eps, device=device, dtype=dtype
        )
        self.fc2 = nn.Linear(mlp_dim // 2, dim, device=device, dtype=dtype)
        self.drop2 = nn.Dropout(drop)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """`(batch, num_tokens, dim)` to the same."""
        shift_BTG = self.attn(x_BTC) if self.attn is not None else None
        fc1 = self.fc1
        if gelu_form(self.act) and fast_path(fc1, self.act, self.drop1, self.gate):
            u_BTG, v_BTG = linear_halves(x_BTC, fc1.weight, fc1.bias, gelu_form(self.act), self.impl)
            x_BTG = self.gate.gated(u_BTG, v_BTG, shift_BTG)
        else:
            x_BTG = self.gate(self.drop1(apply_linear(fc1, x_BTC, self.act, impl=self.impl)), shift_BTG)
        return self.drop2(apply_linear(self.fc2, x_BTG, impl=self.impl))


class GMLPBlock(nn.Module):
    """LayerNorm, `SpatialGatingMlp`, skip (arXiv:2105.08050, section 2 and the pseudo-code of figure 1).

    Args:
        dim: channels of a token.
        mlp_dim: hidden units of the MLP, the paper's d_ffn, an even number.
        num_tokens: tokens of an image, as the (height, width) of their grid; a number stands for a line of them.
        attn_dim: channels of the tiny attention in the gate, 64 in the paper's aMLP; 0 for none.
        act_layer: name of the activation.
        norm_eps: epsilon of the LayerNorm before the MLP.
        gate_norm_eps: epsilon of the one in the gate.
        drop: dropout rate inside the MLP.
        drop_path: stochastic depth rate.
        impl: which implementation of its ops runs.
        device: where the parameters live.
        dtype: their type.

    Shape:
        `(batch, num_tokens, dim)` to the same.
    """

    def __init__(
        self,
        dim: int,
        mlp_dim: int,
        num_tokens: int | Grid,
        *,
        attn_dim: int = 0,
        act_layer: str = "gelu",
        norm_eps: float = 1e-6,
        gate_norm_eps: float = 1e-5,
        drop: float = 0.0,
        drop_path: float = 0.0,
        impl: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=norm_eps, device=device, dtype=dtype)
        self.mlp_channels = SpatialGatingMlp(
            dim,
            mlp_dim,
            num_tokens,
            attn_dim=attn_dim,
            act_layer=act_layer,
            gate_norm_eps=gate_norm_eps,
            drop=drop,
            impl=impl,
            device=device,
            dtype=dtype,
        )
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw linears as timm does, Xavier uniform with tiny normal biases; gate and norm by their own rules."""
        for module in self.mlp_channels.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.normal_(module.bias, std=1e-6)
        self.mlp_channels.gate.reset_parameters()
        self.norm.reset_parameters()

    def forward(self, x_BTC: Tensor) -> Tensor:
        """`(batch, num_tokens, dim)` to the same."""
        return x_BTC + self.drop_path(self.mlp_channels(self.norm(x_BTC)))

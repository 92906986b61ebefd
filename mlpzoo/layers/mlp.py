"""The two-layer perceptron that every network here is made of."""

import torch
from torch import Tensor, nn

from mlpzoo.layers.activation import create_activation
from mlpzoo.layers.linear import apply_linear, gelu_form
from mlpzoo.ops import fast_path, mlp


class MlpBlock(nn.Module):
    """Linear, activation, linear over the last axis (MLP-Mixer, arXiv:2105.01601, section 2, equation 1).

    Args:
        dim: size of the last axis of the input.
        mlp_dim: size of the hidden layer; four times `dim` if not given.
        out_dim: size of the last axis of the output; `dim` if not given.
        act_layer: name of the activation, see `create_activation`.
        drop: dropout rate after the activation and after the second linear.
        bias: whether the two linears have a bias.
        recompute: whether the backward pass computes the hidden layer again from the input instead of saving it, see
            `mlpzoo.ops.mlp`. Otherwise it saves the layer before the activation, and computes the activation alone
            again. Both hold for a GELU without dropout after it.
        linear_layer: class of the two linears, see `mlpzoo.layers.pointwise`.
        impl: which implementation of `mlpzoo.ops.mlp` runs.
        device: where the parameters live.
        dtype: their type.

    Shape:
        `(..., dim)` to `(..., out_dim)`.
    """

    def __init__(
        self,
        dim: int,
        mlp_dim: int | None = None,
        out_dim: int | None = None,
        *,
        act_layer: str = "gelu",
        drop: float = 0.0,
        bias: bool = True,
        recompute: bool = False,
        linear_layer: type[nn.Linear] = nn.Linear,
        impl: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        mlp_dim = mlp_dim or 4 * dim
        self.recompute = recompute
        self.impl = impl
        self.fc1 = linear_layer(dim, mlp_dim, bias, device=device, dtype=dtype)
        self.act = create_activation(act_layer)
        self.drop1 = nn.Dropout(drop)
        self.fc2 = linear_layer(mlp_dim, out_dim or dim, bias, device=device, dtype=dtype)
        self.drop2 = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        """`(..., dim)` to `(..., out_dim)`."""
        fc1, fc2 = self.fc1, self.fc2
        if gelu_form(self.act) and fast_path(fc1, self.act, self.drop1, fc2):
            form = gelu_form(self.act)
            return self.drop2(mlp(x, fc1.weight, fc1.bias, fc2.weight, fc2.bias, form, self.impl, self.recompute))
        hidden = self.drop1(apply_linear(fc1, x, self.act, impl=self.impl))
        return self.drop2(apply_linear(fc2, hidden, impl=self.impl))

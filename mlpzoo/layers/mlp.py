"""The two-layer perceptron that every network here is made of."""

import torch
from torch import Tensor, nn

from mlpzoo.layers.activation import create_activation
from mlpzoo.layers.linear import Linear, activated


class MlpBlock(nn.Module):
    """Linear, activation, linear over the last axis (MLP-Mixer, arXiv:2105.01601, section 2, equation 1).

    Args:
        dim: size of the last axis of the input.
        mlp_dim: size of the hidden layer; four times `dim` if not given.
        out_dim: size of the last axis of the output; `dim` if not given.
        act_layer: name of the activation, see `create_activation`.
        drop: dropout rate after the activation and after the second linear.
        bias: whether the two linears have a bias.
        impl: which implementation of `mlpzoo.ops.linear` runs.
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
        impl: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        mlp_dim = mlp_dim or 4 * dim
        self.fc1 = Linear(dim, mlp_dim, bias, impl=impl, device=device, dtype=dtype)
        self.act = create_activation(act_layer)
        self.drop1 = nn.Dropout(drop)
        self.fc2 = Linear(mlp_dim, out_dim or dim, bias, impl=impl, device=device, dtype=dtype)
        self.drop2 = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        """`(..., dim)` to `(..., out_dim)`."""
        if torch.jit.is_scripting():  # noqa: SIM108 - TorchScript would compile both arms of an expression
            x = self.act(self.fc1(x))
        else:
            x = activated(self.fc1, self.act, x)
        return self.drop2(self.fc2(self.drop1(x)))

"""The two-layer perceptron that every network here is made of."""

import torch
from torch import Tensor, nn

from mlpzoo.layers.activation import create_activation
from mlpzoo.layers.linear import Linear, activated, gelu_form, has_hooks, is_plain, linear_after
from mlpzoo.ops import mlp


class MlpBlock(nn.Module):
    """Linear, activation, linear over the last axis (MLP-Mixer, arXiv:2105.01601, section 2, equation 1).

    Args:
        dim: size of the last axis of the input.
        mlp_dim: size of the hidden layer; four times `dim` if not given.
        out_dim: size of the last axis of the output; `dim` if not given.
        act_layer: name of the activation, see `create_activation`.
        drop: dropout rate after the activation and after the second linear.
        bias: whether the two linears have a bias.
        recompute: whether the backward pass computes the hidden layer again from the input instead of keeping it, see
            `mlpzoo.ops.mlp`. Otherwise it keeps the layer before the activation, and computes the activation alone
            again. Both hold for a GELU without dropout after it.
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
        recompute: bool = False,
        impl: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        mlp_dim = mlp_dim or 4 * dim
        self.recompute = recompute
        self.fc1 = Linear(dim, mlp_dim, bias, impl=impl, device=device, dtype=dtype)
        self.act = create_activation(act_layer)
        self.drop1 = nn.Dropout(drop)
        self.fc2 = Linear(mlp_dim, out_dim or dim, bias, impl=impl, device=device, dtype=dtype)
        self.drop2 = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        """`(..., dim)` to `(..., out_dim)`."""
        # Where there are gradients, compilers put the steps together on their own.
        if torch.compiler.is_compiling() and torch.is_grad_enabled():
            return self.drop2(self.fc2(self.drop1(self.act(self.fc1(x)))))
        if torch.is_grad_enabled() and gelu_form(self.act) and self._may_skip_steps():
            return self.drop2(self._keeping_less(x))
        return self.drop2(self.fc2(self.drop1(activated(self.fc1, self.act, x))))

    def _may_skip_steps(self) -> bool:
        """Whether nobody would notice that the layers up to the second linear are not called one by one."""
        drops = self.drop1.training and self.drop1.p > 0
        plain = is_plain(self.fc1) and is_plain(self.fc2)
        return plain and not drops and not has_hooks(self.fc1, self.act, self.drop1, self.fc2)

    def _keeping_less(self, x: Tensor) -> Tensor:
        if not self.recompute:
            return linear_after(self.fc2, self.act, self.fc1(x))
        fc1, fc2 = self.fc1, self.fc2
        return mlp(x, fc1.weight, fc1.bias, fc2.weight, fc2.bias, gelu_form(self.act), fc1.impl)

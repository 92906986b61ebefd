"""A linear layer over the last axis."""

import torch
from timm.layers.activations import GELU, GELUTanh
from torch import Tensor, nn

from mlpzoo.ops import linear


class Linear(nn.Linear):
    """`nn.Linear`, by the fastest implementation known where it runs.

    Args:
        in_features: size of the last axis of the input.
        out_features: size of the last axis of the output.
        bias: whether there is a bias.
        impl: which implementation of `mlpzoo.ops.linear` runs.
        device: where the parameters live.
        dtype: their type.

    Shape:
        `(..., in_features)` to `(..., out_features)`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        impl: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype)
        self.impl = impl

    def forward(self, x: Tensor, act: str = "none") -> Tensor:
        """`(..., in_features)` to `(..., out_features)`, through the activation named, see `mlpzoo.ops.linear`."""
        return linear(x, self.weight, self.bias, act, self.impl)


def rest(impl: str) -> str:
    """What the other ops of a layer run, whose `impl` names an implementation of its main one."""
    return "reference" if impl == "reference" else "auto"


def activated(layer: nn.Module, act: nn.Module, x: Tensor) -> Tensor:
    """`act(layer(x))`, in one pass where nothing is lost by it.

    That is inference with a `Linear` and a GELU that nobody has hooks on.
    """
    if type(layer) is not Linear or layer.impl == "reference" or torch.is_grad_enabled():
        return act(layer(x))
    if layer._forward_hooks or layer._forward_pre_hooks or act._forward_hooks or act._forward_pre_hooks:
        return act(layer(x))
    if isinstance(act, nn.GELU):
        return layer(x, "gelu" if act.approximate == "none" else "gelu_tanh")
    form = {GELU: "gelu", GELUTanh: "gelu_tanh"}.get(type(act))
    return layer(x, form) if form else act(layer(x))

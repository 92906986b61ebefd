"""A linear layer over the last axis."""

from collections.abc import Callable

import torch
from timm.layers.activations import GELU, GELUTanh
from torch import Tensor, nn

from mlpzoo.layers.packed import PackedLinear
from mlpzoo.ops import linear, linear_of


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

    def folded(self) -> nn.Module:
        """The weight laid out for the kernel that reads it."""
        return PackedLinear(self)


def rest(impl: str) -> str:
    """What the other ops of a layer run, whose `impl` names an implementation of its main one."""
    return "reference" if impl == "reference" else "auto"


def activated(layer: nn.Module, act: nn.Module, x: Tensor) -> Tensor:
    """`act(layer(x))`, in one pass where nothing is lost by it.

    That is inference with a `Linear` and a GELU that nobody has hooks on.
    """
    if not is_plain(layer) or torch.is_grad_enabled() or has_hooks(layer, act):
        return act(layer(x))
    form = gelu_form(act)
    return layer(x, form) if form else act(layer(x))


def linear_after(layer: nn.Module, make: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """`layer(make(*inputs))`, keeping the inputs for the backward pass and not what is made, see `linear_of`.

    For a `Linear` that nobody has hooks on; others get what they expect.
    """
    if torch.compiler.is_compiling() or not is_plain(layer) or has_hooks(layer):
        return layer(make(*inputs))
    assert isinstance(layer, Linear)
    return linear_of(make, inputs, layer.weight, layer.bias, layer.impl)


def is_plain(layer: nn.Module) -> bool:
    """Whether this is our linear layer and not an adapter's or quantizer's, free to run as it likes."""
    return type(layer) is Linear and layer.impl != "reference"


def has_hooks(*modules: nn.Module) -> bool:
    """Whether anybody waits for one of these to be called: by a hook, or by a `forward` put in place of its own."""
    return any(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in vars(module)
        for module in modules
    )


def gelu_form(act: nn.Module) -> str:
    """What `mlpzoo.ops.linear` calls a GELU; empty for any other activation."""
    if isinstance(act, nn.GELU):
        return "gelu" if act.approximate == "none" else "gelu_tanh"
    return {GELU: "gelu", GELUTanh: "gelu_tanh"}.get(type(act), "")

"""Linear layers over the last axis, run by the ops.

Blocks hold plain `nn.Linear`s, which every tool knows, and run them by the functions here. These call the layers where
`mlpzoo.ops.fast_path` says so.
"""

from collections.abc import Callable

from timm.layers.activations import GELU, GELUTanh
from torch import Tensor, nn

from mlpzoo.ops import fast_path, linear, linear_of


def apply_linear(layer: nn.Module, x: Tensor, act: nn.Module | None = None, *, impl: str = "auto") -> Tensor:
    """`act(layer(x))`, by `mlpzoo.ops.linear` where nothing is lost by it.

    Args:
        layer: an `nn.Linear`, or what a user has put in its place.
        x: `(..., in_features)`.
        act: the activation after it; none if not given. A GELU may run as part of the product.
        impl: which implementation of `mlpzoo.ops.linear` runs.

    Returns:
        `(..., out_features)`.
    """
    if not fast_path(layer):
        return layer(x) if act is None else act(layer(x))
    assert isinstance(layer, nn.Linear)
    if act is not None and gelu_form(act) and fast_path(act):
        return linear(x, layer.weight, layer.bias, gelu_form(act), impl)
    y = linear(x, layer.weight, layer.bias, impl=impl)
    return y if act is None else act(y)


def apply_linear_to(layer: nn.Module, make: Callable[..., Tensor], *inputs: Tensor, impl: str = "auto") -> Tensor:
    """`layer(make(*inputs))`, saving the inputs for the backward pass and not what is made, see `mlpzoo.ops.linear_of`.

    Args:
        layer: an `nn.Linear`, or what a user has put in its place.
        make: from `inputs` to `(..., in_features)`; no module, for its hooks would see a second call.
        inputs: what it takes.
        impl: which implementation of `mlpzoo.ops.linear` runs.

    Returns:
        `(..., out_features)`.
    """
    if not fast_path(layer):
        return layer(make(*inputs))
    assert isinstance(layer, nn.Linear)
    return linear_of(make, inputs, layer.weight, layer.bias, impl)


def rest(impl: str) -> str:
    """What the other ops of a layer run, whose `impl` names an implementation of its main one."""
    return "reference" if impl == "reference" else "auto"


def gelu_form(act: nn.Module) -> str:
    """What `mlpzoo.ops.linear` calls a GELU; empty for any other activation."""
    if isinstance(act, nn.GELU):
        return "gelu" if act.approximate == "none" else "gelu_tanh"
    return {GELU: "gelu", GELUTanh: "gelu_tanh"}.get(type(act), "")

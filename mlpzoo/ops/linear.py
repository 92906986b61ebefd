"""A linear map over the last axis, and the activation after it.

Shape suffixes: I channels in, O channels out, N rows; `…` stands for any axes before the last.
"""

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula

ACTIVATIONS = ("none", "gelu", "gelu_tanh")
"""Activations that can run as part of the product: none, GELU in its exact form, GELU in its tanh form."""

_ENOUGH_WORK = 8 << 20
"""Multiplications below which starting oneDNN costs more than it saves."""

_PLAIN = (Tensor, nn.Parameter)


def linear_reference(x: Tensor, w_OI: Tensor, b_O: Tensor | None = None, act: str = "none") -> Tensor:
    """The same function as `linear`, one step after the other."""
    y = F.linear(x, w_OI, b_O)
    if act == "none":
        return y
    return F.gelu(y, approximate="tanh" if act == "gelu_tanh" else "none")


def linear(x: Tensor, w_OI: Tensor, b_O: Tensor | None = None, act: str = "none", impl: str = "auto") -> Tensor:
    """Multiply the last axis by a weight, add a bias, apply an activation.

    `"onednn"` takes the product from oneDNN, which on the CPUs tried is faster than the library that PyTorch takes
    float32 products from (docs/performance.md); and where no gradient is recorded, it applies the activation while the
    product is in cache. It has gradients of every order. What tracers and compilers see is always
    `torch.nn.functional`.

    Args:
        x: `(…, channels_in)`, of any strides.
        w_OI: weight, `(channels_out, channels_in)`.
        b_O: bias, `(channels_out,)`, or None.
        act: `"none"`, `"gelu"` or `"gelu_tanh"`.
        impl: `"auto"` (the fastest known here), `"onednn"` or `"reference"`.

    Returns:
        `(…, channels_out)`.

    Raises:
        ValueError: for an unknown `impl` or `act`, or for `"onednn"` where it cannot run.
    """
    if torch.jit.is_scripting():
        return linear_reference(x, w_OI, b_O, act)
    if act not in ACTIVATIONS:
        raise ValueError(f"unknown activation '{act}' of linear: choose {', '.join(map(repr, ACTIVATIONS))}")
    if impl == "auto":
        if not onednn_runs(x, w_OI, b_O) or x.numel() * w_OI.shape[0] < _ENOUGH_WORK:
            return linear_reference(x, w_OI, b_O, act)
    elif impl == "reference":
        return linear_reference(x, w_OI, b_O, act)
    elif impl != "onednn":
        raise ValueError(f"unknown impl '{impl}' of linear: choose 'auto', 'onednn' or 'reference'")
    elif not onednn_runs(x, w_OI, b_O):
        raise ValueError(
            "impl 'onednn' of linear needs float32 tensors on a CPU, of two or more axes, outside autocast"
        )
    if torch.is_grad_enabled():
        y = _OneDnnLinear.apply(x, w_OI, b_O)
        return y if act == "none" else F.gelu(y, approximate="tanh" if act == "gelu_tanh" else "none")
    return _onednn(x, w_OI, b_O, act)


@functools.cache
def onednn_works() -> bool:
    """Whether PyTorch has oneDNN, and the operator called here takes and gives what is expected.

    It is the one that compiled code calls, and not meant for people: a release may change it.
    """
    like: dict[str, Any] = {"device": "cpu", "dtype": torch.float32}
    x, w_OI = torch.linspace(-1, 1, 6, **like).view(2, 3), torch.linspace(-1, 1, 12, **like).view(4, 3)
    try:
        with torch.no_grad():
            found = _onednn(x, w_OI, None, "gelu_tanh")
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.allclose(found, linear_reference(x, w_OI, None, "gelu_tanh"), atol=1e-5)


def onednn_runs(x: Tensor, w_OI: Tensor, b_O: Tensor | None) -> bool:
    """Whether oneDNN can take a product of these, and nobody is tracing who would not understand."""
    return bool(
        not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        # Proxies, fakes, distributed and quantized tensors have types of their own.
        and type(x) in _PLAIN
        and type(w_OI) in _PLAIN
        and x.device.type == "cpu"
        and x.dtype == w_OI.dtype == torch.float32
        and (b_O is None or (type(b_O) in _PLAIN and b_O.dtype == torch.float32))
        and x.ndim >= 2
        and x.numel() > 0
        and torch.backends.mkldnn.enabled
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()
        # Last, for under the two above its trial would fail.
        and onednn_works()
    )


def _onednn(x: Tensor, w_OI: Tensor, b_O: Tensor | None = None, act: str = "none") -> Tensor:
    """PyTorch's own binding, which its compiler emits for linears on a CPU. It records no gradient."""
    kind = "none" if act == "none" else "gelu"
    form = "tanh" if act == "gelu_tanh" else "none"
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, w_OI, b_O, kind, [], form)
    return y


class _OneDnnLinear(torch.autograd.Function):
    """The product with its gradients, all of them by oneDNN."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w_OI: Tensor, b_O: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, w_OI)
        ctx.save_for_forward(x, w_OI)
        return _onednn(x, w_OI, b_O)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (grad,) = gradients
        x, w_OI = ctx.saved_tensors
        g_NO, x_NI = grad.flatten(0, -2), x.flatten(0, -2)
        # Gradients of gradients are recorded: then the products must be ones that record them.
        multiply = _recorded if torch.is_grad_enabled() else _onednn
        needs_x, needs_w, needs_b = ctx.needs_input_grad
        return (
            multiply(grad, w_OI.t()) if needs_x else None,
            multiply(g_NO.t(), x_NI.t()) if needs_w else None,
            g_NO.sum(0) if needs_b else None,
        )

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        x_tangent, w_tangent, b_tangent = tangents
        x, w_OI = ctx.saved_tensors
        y: Any = 0
        if x_tangent is not None:
            y = y + F.linear(x_tangent, w_OI)
        if w_tangent is not None:
            y = y + F.linear(x, w_tangent)
        return y if b_tangent is None else y + b_tangent


def _recorded(x: Tensor, w_OI: Tensor) -> Tensor:
    return F.linear(x, w_OI)


def _flops(x_shape: Any, w_shape: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """Twice the multiplications, as PyTorch counts every product."""
    rows = 1
    for side in x_shape[:-1]:
        rows *= side
    return int(2 * rows * w_shape[0] * w_shape[1])


if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
    register_flop_formula(torch.ops.mkldnn._linear_pointwise)(_flops)

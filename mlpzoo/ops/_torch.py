"""Every private or fragile PyTorch API in use here, each tried once, each with a fallback that is public.

A release of PyTorch may rename or change any of these. `works` says whether one is there and gives what is expected of
it; where it does not, the function of this module does the same by public means, or answers such that the reference
implementation runs.
"""

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_answers: dict[str, bool] = {}


def works(name: str) -> bool:
    """Whether a private API is there and does what is expected; tried at the first question, and remembered.

    Args:
        name: one of `PROBES`.
    """
    if name not in _answers:
        try:
            _answers[name] = PROBES[name]()
        except (AttributeError, ImportError, NotImplementedError, RuntimeError, TypeError):
            _answers[name] = False
    return _answers[name]


def _probe_inputs() -> tuple[Tensor, Tensor]:
    like: dict[str, Any] = {"device": "cpu", "dtype": torch.float32}
    return torch.linspace(-1, 1, 6, **like).view(2, 3), torch.linspace(-1, 1, 12, **like).view(4, 3)


def _try_onednn_linear() -> bool:
    x, weight = _probe_inputs()
    with torch.no_grad():
        found = torch.ops.mkldnn._linear_pointwise(x, weight, None, "gelu", [], "tanh")
        return torch.allclose(found, F.gelu(F.linear(x, weight), approximate="tanh"), atol=1e-5)


def onednn_linear(x: Tensor, w_OI: Tensor, b_O: Tensor | None = None, act: str = "none") -> Tensor:
    """A linear map and the activation after it by oneDNN, on a CPU in float32. It records no gradient.

    It is the operator that compiled code calls.

    Args:
        x: `(…, channels_in)`, of two or more axes.
        w_OI: weight, `(channels_out, channels_in)`.
        b_O: bias, `(channels_out,)`, or None.
        act: `"none"`, `"gelu"` or `"gelu_tanh"`.

    Returns:
        `(…, channels_out)`.
    """
    form = "tanh" if act == "gelu_tanh" else "none"
    if works("onednn_linear"):
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, w_OI, b_O, "none" if act == "none" else "gelu", [], form)
        return y
    y = F.linear(x, w_OI, b_O)
    return y if act == "none" else F.gelu(y, approximate=form)


def _try_addmm_gelu() -> bool:
    x, weight = _probe_inputs()
    with torch.no_grad():
        found = torch._addmm_activation(torch.zeros(4), x, weight.t(), use_gelu=True)
        # The exact form on a CPU and the tanh form on a GPU: they differ by less than a thousandth.
        return torch.allclose(found, F.gelu(F.linear(x, weight)), atol=2e-3)


def addmm_gelu(b_O: Tensor, x_NI: Tensor, w_IO: Tensor) -> Tensor:
    """GELU(b + x w), applied before the product leaves a GPU's registers. It records no gradient.

    PyTorch's transformer encoder calls it. On a GPU its GELU is the tanh form, on a CPU the exact one.
    """
    if works("addmm_gelu"):
        y: Tensor = torch._addmm_activation(b_O, x_NI, w_IO, use_gelu=True)
        return y
    return F.gelu(torch.addmm(b_O, x_NI, w_IO), approximate="tanh" if x_NI.is_cuda else "none")


def _try_gelu_backward() -> bool:
    x, _ = _probe_inputs()
    found = torch.ops.aten.gelu_backward(torch.ones_like(x), x, approximate="tanh")
    return torch.allclose(found, _gelu_slope(x, "tanh"), atol=1e-5)


def _gelu_slope(x: Tensor, form: str) -> Tensor:
    """The derivative of GELU, in steps that have gradients of every order."""
    if form == "tanh":
        scale = (2 / torch.pi) ** 0.5
        t = torch.tanh(scale * (x + 0.044715 * x**3))
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * scale * (1 + 3 * 0.044715 * x * x)
    density = torch.exp(-0.5 * x * x) / (2 * torch.pi) ** 0.5
    return 0.5 * (1 + torch.erf(x * 0.5**0.5)) + x * density


def gelu_backward(grad: Tensor, x: Tensor, form: str, in_place: bool = False) -> Tensor:
    """The gradient of GELU's input.

    Args:
        grad: gradient of the output.
        x: the input, of the same shape.
        form: `"none"` for the exact form or `"tanh"`, as `torch.nn.functional.gelu` calls them.
        in_place: whether `grad` may be overwritten; there are no gradients of gradients then.
    """
    if not works("gelu_backward"):
        return grad.mul_(_gelu_slope(x, form)) if in_place else grad * _gelu_slope(x, form)
    if in_place:
        torch.ops.aten.gelu_backward(grad, x, approximate=form, grad_input=grad)
        return grad
    found: Tensor = torch.ops.aten.gelu_backward(grad, x, approximate=form)
    return found


def transforms_active() -> bool:
    """Whether a transform of `torch.func` or a `vmap` is at work; true where PyTorch cannot be asked."""
    return bool(torch._C._are_functorch_transforms_active()) if works("transforms_active") else True


def is_batched_gradient(value: Tensor) -> bool:
    """Whether this is a gradient of `torch.autograd.grad(…, is_grads_batched=True)`; true where PyTorch cannot say."""
    found = works("is_batched_gradient")
    return bool(torch._C._functorch.is_legacy_batchedtensor(value)) if found else True


def is_tracing() -> bool:
    """Whether `torch.jit.trace` is at work. PyTorch deprecated TorchScript; without it nothing is traced."""
    return bool(torch.jit.is_tracing()) if works("is_tracing") else False


def dispatch_mode_active() -> bool:
    """Whether a mode sees every operator called, as fake tensors and counters do; true where PyTorch cannot say."""
    if not works("dispatch_mode_active"):
        return True
    from torch.utils._python_dispatch import is_in_torch_dispatch_mode

    return bool(is_in_torch_dispatch_mode())


_GLOBAL_HOOKS = (
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
    "_global_backward_hooks",
    "_global_backward_pre_hooks",
)


def global_hooks() -> bool:
    """Whether hooks wait for the call of any module at all; true where PyTorch cannot say."""
    if not works("global_hooks"):
        return True
    module = torch.nn.modules.module
    return bool(
        module._global_forward_hooks
        or module._global_forward_pre_hooks
        or module._global_backward_hooks
        or module._global_backward_pre_hooks
    )


_OWN_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def own_hooks(module: nn.Module) -> bool:
    """Whether hooks wait for the call of this module; true where PyTorch cannot say."""
    if not works("own_hooks"):
        return True
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def fake_tensors() -> AbstractContextManager[Any]:
    """Under it, tensors have shapes and no values, and nothing is computed; where PyTorch has no such mode, it is."""
    if not works("fake_tensors"):
        return nullcontext()
    from torch._subclasses.fake_tensor import FakeTensorMode

    return FakeTensorMode(allow_non_fake_inputs=True)


def surely_equal(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether sizes are equal; False where they are symbols of a program for many sizes, and may or may not be.

    An ordinary comparison of symbols would bind the program to its answer.
    """
    if not works("surely_equal"):
        return one == other
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return all(statically_known_true(a == b) for a, b in zip(one, other, strict=True))


def _imports(module: str, name: str) -> Callable[[], bool]:
    def probe() -> bool:
        return hasattr(importlib.import_module(module), name)

    return probe


PROBES: dict[str, Callable[[], bool]] = {
    "onednn_linear": _try_onednn_linear,
    "addmm_gelu": _try_addmm_gelu,
    "gelu_backward": _try_gelu_backward,
    "transforms_active": lambda: hasattr(torch._C, "_are_functorch_transforms_active"),
    "is_batched_gradient": lambda: hasattr(torch._C._functorch, "is_legacy_batchedtensor"),
    "is_tracing": lambda: hasattr(torch.jit, "is_tracing"),
    "dispatch_mode_active": _imports("torch.utils._python_dispatch", "is_in_torch_dispatch_mode"),
    "global_hooks": lambda: all(hasattr(torch.nn.modules.module, name) for name in _GLOBAL_HOOKS),
    "own_hooks": lambda: all(hasattr(nn.Identity(), name) for name in _OWN_HOOKS),
    "surely_equal": _imports("torch.fx.experimental.symbolic_shapes", "statically_known_true"),
    "fake_tensors": _imports("torch._subclasses.fake_tensor", "FakeTensorMode"),
}
"""Name to what tries an API out."""

# What costs nothing is tried now: compilers that trace a question must find its answer.
for _name in ("transforms_active", "is_batched_gradient", "is_tracing", "global_hooks", "own_hooks", "surely_equal"):
    works(_name)


def register_onednn_flops(formula: Callable[..., int]) -> None:
    """Let PyTorch's counter of operations know oneDNN's linear."""
    from torch.utils.flop_counter import register_flop_formula

    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        register_flop_formula(torch.ops.mkldnn._linear_pointwise)(formula)

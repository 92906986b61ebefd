"""A linear map over the last axis, and the activation after it.

Shape suffixes: I channels in, O channels out, N rows; `…` stands for any axes before the last.
"""

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula

ACTIVATIONS = ("none", "gelu", "gelu_tanh")
"""Activations that can run as part of the product: none, GELU in its exact form, GELU in its tanh form."""

_ENOUGH_WORK = 8 << 20
"""Multiplications below which starting oneDNN costs more than it saves."""

_WIDE, _LARGE = 1024, 2 << 20
"""Channels in, or numbers in all, from which oneDNN takes the gradient of a weight faster than the other library."""

_PLAIN = (Tensor, nn.Parameter)

_ONEDNN = torch.backends.mkldnn.is_available()


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
    product is in cache. It has gradients of every order. `"epilogue"` applies the tanh form of GELU before the product
    leaves a GPU's registers, where no gradient is recorded.

    What tracers and compilers see is `torch.nn.functional`, with one exception: what `torch.compile` makes for
    inference in float32 on a CPU calls the operator `mlpzoo::linear`, without which it would be slower than what it was
    made from. `"reference"` leaves that to the compiler; and so does PyTorch 2.11, which cannot tell compiling from
    exporting.

    Args:
        x: `(…, channels_in)`, of any strides.
        w_OI: weight, `(channels_out, channels_in)`.
        b_O: bias, `(channels_out,)`, or None.
        act: `"none"`, `"gelu"` or `"gelu_tanh"`.
        impl: `"auto"` (the fastest known here), `"onednn"`, `"epilogue"` or `"reference"`.

    Returns:
        `(…, channels_out)`.

    Raises:
        ValueError: for an unknown `impl` or `act`, or for `"onednn"` or `"epilogue"` where it cannot run.
    """
    if act not in ACTIVATIONS:
        raise ValueError(f"unknown activation '{act}' of linear: choose {', '.join(map(repr, ACTIVATIONS))}")
    if impl in ("auto", "onednn") and compiles_to_operator(x, w_OI, b_O):
        return linear_operator(x, w_OI, b_O, act)
    if impl in ("auto", "epilogue") and epilogue_runs(x, w_OI, b_O, act):
        assert b_O is not None
        return _epilogue(x, w_OI, b_O)
    if chosen(impl, x, w_OI, b_O) == "reference":
        return linear_reference(x, w_OI, b_O, act)
    if torch.is_grad_enabled():
        y = _Linear.apply(x, w_OI, b_O, "onednn", None)
        return y if act == "none" else F.gelu(y, approximate="tanh" if act == "gelu_tanh" else "none")
    return _onednn(x, w_OI, b_O, act)


def linear_of_reference(
    make: Callable[..., Tensor], inputs: Sequence[Tensor], w_OI: Tensor, b_O: Tensor | None = None
) -> Tensor:
    """The same function as `linear_of`, which keeps what it made."""
    return F.linear(make(*inputs), w_OI, b_O)


def linear_of(
    make: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    w_OI: Tensor,
    b_O: Tensor | None = None,
    impl: str = "auto",
) -> Tensor:
    """Multiply what a function makes of some tensors by a weight, and keep those tensors instead of what it made.

    The gradient of the weight needs what was made, so it is made once more in the backward pass. That saves memory
    where the inputs are kept anyhow, as the one of a GELU is for its own gradient, and costs little time where making
    is cheap beside the product. Gradients of every order and those of forward mode are what they are without it, bit by
    bit. Compilers decide on their own what to keep, and where tracers and function transforms look on, nothing is made
    twice.

    Args:
        make: from `inputs` to `(…, channels_in)`; the same whenever it is called, and of tensors that learn only the
            inputs may be in it.
        inputs: what it takes.
        w_OI: weight, `(channels_out, channels_in)`.
        b_O: bias, `(channels_out,)`, or None.
        impl: as of `linear`; `"reference"` keeps what was made.

    Returns:
        `(…, channels_out)`.

    Raises:
        ValueError: for what `linear` refuses.
    """
    x = make(*inputs)
    if impl == "reference" or not torch.is_grad_enabled() or is_watched(x, w_OI, b_O, *inputs):
        return linear(x, w_OI, b_O, impl=impl)
    y: Tensor = _Linear.apply(x, w_OI, b_O, chosen(impl, x, w_OI, b_O), make, *inputs)
    return y


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


def chosen(impl: str, x: Tensor, w_OI: Tensor, b_O: Tensor | None) -> str:
    """`"onednn"` or `"reference"`: what an implementation asked for by name means here."""
    if impl == "auto":
        enough = onednn_runs(x, w_OI, b_O) and x.numel() * w_OI.shape[0] >= _ENOUGH_WORK
        return "onednn" if enough else "reference"
    if impl == "epilogue":
        raise ValueError(
            "impl 'epilogue' of linear needs act 'gelu_tanh', a bias, and tensors of float16 or bfloat16 on a GPU, "
            "outside autocast and where no gradient is recorded"
        )
    if impl not in ("onednn", "reference"):
        raise ValueError(f"unknown impl '{impl}' of linear: choose 'auto', 'onednn', 'epilogue' or 'reference'")
    if impl == "onednn" and not onednn_runs(x, w_OI, b_O):
        raise ValueError(
            "impl 'onednn' of linear needs float32 tensors on a CPU, of two or more axes, outside autocast"
        )
    return impl


def is_watched(*tensors: Tensor | None) -> bool:
    """Whether somebody looks on who would not understand an operator or a gradient of our own."""
    return bool(
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch._C._are_functorch_transforms_active()
        # Proxies, fakes, distributed and quantized tensors have types of their own.
        or not all(value is None or type(value) in _PLAIN for value in tensors)
        # As the gradients of `torch.autograd.grad(…, is_grads_batched=True)` are.
        or any(value is not None and torch._C._functorch.is_legacy_batchedtensor(value) for value in tensors)
    )


def onednn_runs(x: Tensor, w_OI: Tensor, b_O: Tensor | None) -> bool:
    """Whether oneDNN can take a product of these, and nobody is tracing who would not understand."""
    return bool(
        not is_watched(x, w_OI, b_O)
        and x.device.type == "cpu"
        and x.dtype == w_OI.dtype == torch.float32
        and (b_O is None or b_O.dtype == torch.float32)
        and x.ndim >= 2
        and x.numel() > 0
        and torch.backends.mkldnn.enabled
        and not torch.is_autocast_enabled("cpu")
        # Last, for its trial would fail where any of the above holds.
        and onednn_works()
    )


def compiles_to_operator(x: Tensor, w_OI: Tensor, b_O: Tensor | None) -> bool:
    """Whether `torch.compile` is at work on inference that oneDNN can take products of.

    It must not depend on the number of rows: the compiler would make new code when that changes.
    """
    return bool(
        torch.compiler.is_dynamo_compiling()
        and not torch.compiler.is_exporting()
        and not torch.is_grad_enabled()
        and _ONEDNN
        and x.device.type == "cpu"
        and x.dtype == w_OI.dtype == torch.float32
        and (b_O is None or b_O.dtype == torch.float32)
        and not torch.is_autocast_enabled("cpu")
        # Last, for asking leaves a node in the graph.
        and not torch._C._are_functorch_transforms_active()
    )


@torch.library.custom_op("mlpzoo::linear", mutates_args=(), device_types="cpu")
def linear_operator(x: Tensor, w_OI: Tensor, b_O: Tensor | None, act: str) -> Tensor:
    """`linear` without gradients, as an operator that compilers call and do not look into."""
    enough = x.ndim >= 2 and x.numel() * w_OI.shape[0] >= _ENOUGH_WORK
    if enough and torch.backends.mkldnn.enabled and onednn_works():
        return _onednn(x, w_OI, b_O, act).contiguous()
    return linear_reference(x, w_OI, b_O, act).contiguous()


@linear_operator.register_fake
def _(x: Tensor, w_OI: Tensor, b_O: Tensor | None, act: str) -> Tensor:
    return x.new_empty(*x.shape[:-1], w_OI.shape[0])


def epilogue_runs(x: Tensor, w_OI: Tensor, b_O: Tensor | None, act: str) -> bool:
    """Whether a GPU's product can apply the activation, and nobody is watching who would not understand.

    Not in float32: there the product could round to TF32 in one form and not in the other.
    """
    return bool(
        act == "gelu_tanh"
        and b_O is not None
        and not torch.is_grad_enabled()
        and not is_watched(x, w_OI, b_O)
        and x.device.type == "cuda"
        and x.dtype in (torch.float16, torch.bfloat16)
        and x.dtype == w_OI.dtype == b_O.dtype
        and x.ndim >= 2
        and x.numel() > 0
        and not torch.is_autocast_enabled("cuda")
    )


def _epilogue(x: Tensor, w_OI: Tensor, b_O: Tensor) -> Tensor:
    """PyTorch's own binding of what its transformer encoder runs. It records no gradient.

    On a GPU its GELU is the tanh form, on a CPU the exact one.
    """
    y: Tensor = torch._addmm_activation(b_O, rows(x), w_OI.t(), use_gelu=True)
    return y.view(*x.shape[:-1], w_OI.shape[0])


def _onednn(x: Tensor, w_OI: Tensor, b_O: Tensor | None = None, act: str = "none") -> Tensor:
    """PyTorch's own binding, which its compiler emits for linears on a CPU. It records no gradient."""
    kind = "none" if act == "none" else "gelu"
    form = "tanh" if act == "gelu_tanh" else "none"
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, w_OI, b_O, kind, [], form)
    return y


def autocast_now(device: torch.device) -> AbstractContextManager[Any]:
    """What brings the present state of autocast on a kind of device back."""
    kind = device.type
    if not torch.amp.is_autocast_available(kind):
        return nullcontext()
    return torch.autocast(kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind), cache_enabled=False)


def rows(x: Tensor) -> Tensor:
    """All axes before the last as one."""
    return x.reshape(-1, x.shape[-1])


def weight_gradient(grad: Tensor, x: Tensor, impl: str) -> Tensor:
    """The gradient of a weight `(channels_out, channels_in)`, from that of its product with `x`."""
    g_NO, x_NI = rows(grad), rows(x)
    # Sums over many rows for a small weight are what oneDNN is slow at.
    small = x_NI.shape[1] < _WIDE and x_NI.shape[1] * g_NO.shape[1] < _LARGE
    return linear(g_NO.t(), x_NI.t(), impl="reference" if small else impl)


class _Linear(torch.autograd.Function):
    """The product with its gradients, of `x` or, if `make` is given, of `make(*inputs)`, which `x` must be."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w_OI: Tensor,
        b_O: Tensor | None,
        impl: str,
        make: Callable[..., Tensor] | None,
        *inputs: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(w_OI, *(inputs if make else (x,)))
        ctx.save_for_forward(x, w_OI)
        ctx.impl, ctx.make, ctx.autocast = impl, make, autocast_now(x.device)
        return linear(x, w_OI, b_O, impl=impl)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        w_OI, *inputs = ctx.saved_tensors
        (grad,) = gradients
        needs_x, needs_w, needs_b, *_ = ctx.needs_input_grad
        impl = "reference" if is_watched(grad) else ctx.impl
        with ctx.autocast:
            # What is made may be large, and goes before the gradient of it comes.
            w_grad = weight_gradient(grad, ctx.make(*inputs) if ctx.make else inputs[0], impl) if needs_w else None
            x_grad = linear(grad, w_OI.t(), impl=impl) if needs_x else None
        b_grad = rows(grad).sum(0) if needs_b else None
        return x_grad, w_grad, b_grad, None, None, *(None for _ in (inputs if ctx.make else ()))

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        x, w_OI = ctx.saved_tensors
        return product_tangent(x, w_OI, *tangents[:3])


def product_tangent(
    x: Tensor, w_OI: Tensor, x_tangent: Tensor | None, w_tangent: Tensor | None, b_tangent: Tensor | None
) -> Tensor:
    """How a product changes with its factors and its bias."""
    y: Any = 0
    if x_tangent is not None:
        y = y + F.linear(x_tangent, w_OI)
    if w_tangent is not None:
        y = y + F.linear(x, w_tangent)
    return y if b_tangent is None else y + b_tangent


def _flops(x_shape: Any, w_shape: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """Twice the multiplications, as PyTorch counts every product."""
    rows = 1
    for side in x_shape[:-1]:
        rows *= side
    return int(2 * rows * w_shape[0] * w_shape[1])


register_flop_formula(torch.ops.mlpzoo.linear)(_flops)
if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
    register_flop_formula(torch.ops.mkldnn._linear_pointwise)(_flops)

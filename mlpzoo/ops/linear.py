"""A linear map over the last axis, and the activation after it.

Shape suffixes: I channels in, O channels out, N rows; `…` stands for any axes before the last.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from mlpzoo.ops import _torch
from mlpzoo.ops.dispatch import fast_path, one_call

IMPLS = ("auto", "onednn", "epilogue", "reference")
"""What can be asked for by name."""

ACTIVATIONS = ("none", "gelu", "gelu_tanh")
"""Activations that can run as part of the product: none, GELU in its exact form, GELU in its tanh form."""

_ENOUGH_WORK = 8 << 20
"""Multiplications below which starting oneDNN costs more than it saves."""

_WIDE, _LARGE = 1024, 2 << 20
"""Channels in, or numbers in all, from which oneDNN takes the gradient of a weight faster than the other library."""

_ONEDNN = torch.backends.mkldnn.is_available()


def linear_reference(x: Tensor, w_OI: Tensor, b_O: Tensor | None = None, act: str = "none") -> Tensor:
    """The same function as `linear`, one step after the other."""
    return activation(F.linear(x, w_OI, b_O), act)


def activation(x: Tensor, act: str) -> Tensor:
    """Apply one of `ACTIVATIONS`."""
    return x if act == "none" else F.gelu(x, approximate="tanh" if act == "gelu_tanh" else "none")


@one_call
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
    road = road_of(impl, x, w_OI, b_O, act)
    if road == "operator":
        return linear_operator(x, w_OI, b_O, act)
    if road == "epilogue":
        assert b_O is not None
        return _epilogue(x, w_OI, b_O)
    return product(x, w_OI, b_O, act, road)


def linear_halves_reference(x: Tensor, w_OI: Tensor, b_O: Tensor, act: str = "none") -> tuple[Tensor, Tensor]:
    """The same function as `linear_halves`: both are views of one result."""
    first, second = linear_reference(x, w_OI, b_O, act).chunk(2, dim=-1)
    return first, second


@one_call
def linear_halves(x: Tensor, w_OI: Tensor, b_O: Tensor, act: str = "none", impl: str = "auto") -> tuple[Tensor, Tensor]:
    """`linear`, its result cut into two halves of the channels.

    Where no gradient is recorded, each is a product of its own and dense, for a norm copies one that is not.

    Args:
        x: `(…, channels_in)`.
        w_OI: weight, `(channels_out, channels_in)`; an even number of channels out.
        b_O: bias, `(channels_out,)`.
        act: as of `linear`.
        impl: as of `linear`.

    Returns:
        Two of `(…, channels_out / 2)`.

    Raises:
        ValueError: for what `linear` refuses.
    """
    apart = not torch.is_grad_enabled() and (fast_path(x, w_OI, b_O) or compiles_to_operator(x, w_OI, b_O))
    if impl == "reference" or not apart:
        first, second = linear(x, w_OI, b_O, act, impl).chunk(2, dim=-1)
        return first, second
    (w1_GI, w2_GI), (b1_G, b2_G) = w_OI.chunk(2), b_O.chunk(2)
    return linear(x, w1_GI, b1_G, act, impl), linear(x, w2_GI, b2_G, act, impl)


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
    if impl == "reference" or not torch.is_grad_enabled() or not fast_path(x, w_OI, b_O, *inputs):
        return linear(x, w_OI, b_O, impl=impl)
    y: Tensor = _Linear.apply(x, w_OI, b_O, road_of(impl, x, w_OI, b_O, "none"), make, *inputs)
    return y


def road_of(impl: str, x: Tensor, w_OI: Tensor, b_O: Tensor | None, act: str) -> str:
    """What an implementation asked for by name means here: `"operator"`, `"onednn"`, `"epilogue"` or `"reference"`."""
    if impl not in IMPLS:
        raise ValueError(f"unknown impl '{impl}' of linear: choose {', '.join(map(repr, IMPLS))}")
    if impl in ("auto", "onednn") and compiles_to_operator(x, w_OI, b_O):
        return "operator"
    if impl in ("auto", "epilogue") and epilogue_runs(x, w_OI, b_O, act):
        return "epilogue"
    if impl == "auto":
        return product_road(x, w_OI, b_O)
    if impl == "epilogue":
        raise ValueError(
            "impl 'epilogue' of linear needs act 'gelu_tanh', a bias, and tensors of float16 or bfloat16 on a GPU, "
            "outside autocast and where no gradient is recorded"
        )
    if impl == "onednn" and not onednn_runs(x, w_OI, b_O):
        raise ValueError(
            "impl 'onednn' of linear needs float32 tensors on a CPU, of two or more axes, outside autocast, and oneDNN "
            "switched on (torch.backends.mkldnn)"
        )
    return impl


def product_road(x: Tensor, w_OI: Tensor, b_O: Tensor | None = None) -> str:
    """`"onednn"` or `"reference"`: the faster one, by the amount of work."""
    enough = onednn_runs(x, w_OI, b_O) and x.numel() * w_OI.shape[0] >= _ENOUGH_WORK
    return "onednn" if enough else "reference"


def product(x: Tensor, w_OI: Tensor, b_O: Tensor | None, act: str, road: str) -> Tensor:
    """`linear` by oneDNN where `road` is `"onednn"` and it can run, and by PyTorch's own functions everywhere else.

    It serves forward and backward passes, between which oneDNN may be switched off, or a transform set in.
    """
    if road != "onednn" or not onednn_runs(x, w_OI, b_O):
        return linear_reference(x, w_OI, b_O, act)
    if torch.is_grad_enabled():
        return activation(_Linear.apply(x, w_OI, b_O, road, None), act)
    return _torch.onednn_linear(x, w_OI, b_O, act)


def onednn_runs(x: Tensor, w_OI: Tensor, b_O: Tensor | None) -> bool:
    """Whether oneDNN can take a product of these."""
    return bool(
        fast_path(x, w_OI, b_O)
        and x.device.type == "cpu"
        and x.dtype == w_OI.dtype == torch.float32
        and (b_O is None or b_O.dtype == torch.float32)
        and x.ndim >= 2
        and x.numel() > 0
        and torch.backends.mkldnn.enabled
        and not torch.is_autocast_enabled("cpu")
        # Last, for its trial would fail where any of the above holds.
        and _torch.works("onednn_linear")
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
        and not _torch.transforms_active()
    )


@torch.library.custom_op("mlpzoo::linear", mutates_args=(), device_types="cpu")
def linear_operator(x: Tensor, w_OI: Tensor, b_O: Tensor | None, act: str) -> Tensor:
    """`linear` without gradients, as an operator that compilers call and do not look into."""
    enough = x.ndim >= 2 and x.numel() * w_OI.shape[0] >= _ENOUGH_WORK
    if enough and torch.backends.mkldnn.enabled and _torch.works("onednn_linear"):
        return _torch.onednn_linear(x, w_OI, b_O, act).contiguous()
    return linear_reference(x, w_OI, b_O, act).contiguous()


@linear_operator.register_fake
def _(x: Tensor, w_OI: Tensor, b_O: Tensor | None, act: str) -> Tensor:
    return x.new_empty(*x.shape[:-1], w_OI.shape[0])


def epilogue_runs(x: Tensor, w_OI: Tensor, b_O: Tensor | None, act: str) -> bool:
    """Whether a GPU's product can apply the activation.

    Not in float32: there the product could round to TF32 in one form and not in the other.
    """
    return bool(
        act == "gelu_tanh"
        and b_O is not None
        and not torch.is_grad_enabled()
        and fast_path(x, w_OI, b_O)
        and x.device.type == "cuda"
        and x.dtype in (torch.float16, torch.bfloat16)
        and x.dtype == w_OI.dtype == b_O.dtype
        and x.ndim >= 2
        and x.numel() > 0
        and not torch.is_autocast_enabled("cuda")
        and _torch.works("addmm_gelu")
    )


def _epilogue(x: Tensor, w_OI: Tensor, b_O: Tensor) -> Tensor:
    return _torch.addmm_gelu(b_O, rows(x), w_OI.t()).view(*x.shape[:-1], w_OI.shape[0])


def autocast_now(device: torch.device) -> AbstractContextManager[Any]:
    """What brings the present state of autocast on a kind of device back."""
    kind = device.type
    if not torch.amp.is_autocast_available(kind):
        return nullcontext()
    return torch.autocast(kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind), cache_enabled=False)


def rows(x: Tensor) -> Tensor:
    """All axes before the last as one."""
    return x.reshape(-1, x.shape[-1])


def weight_gradient(grad: Tensor, x: Tensor, road: str) -> Tensor:
    """The gradient of a weight `(channels_out, channels_in)`, from that of its product with `x`."""
    g_NO, x_NI = rows(grad), rows(x)
    # Sums over many rows for a small weight are what oneDNN is slow at.
    small = x_NI.shape[1] < _WIDE and x_NI.shape[1] * g_NO.shape[1] < _LARGE
    return product(g_NO.t(), x_NI.t(), None, "none", "reference" if small else road)


class _Linear(torch.autograd.Function):
    """The product with its gradients, of `x` or, if `make` is given, of `make(*inputs)`, which `x` must be."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w_OI: Tensor,
        b_O: Tensor | None,
        road: str,
        make: Callable[..., Tensor] | None,
        *inputs: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(w_OI, *(inputs if make else (x,)))
        ctx.save_for_forward(x, w_OI)
        ctx.road, ctx.make, ctx.autocast = road, make, autocast_now(x.device)
        return product(x, w_OI, b_O, "none", road)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        w_OI, *inputs = ctx.saved_tensors
        (grad,) = gradients
        needs_x, needs_w, needs_b, *_ = ctx.needs_input_grad
        with ctx.autocast:
            # What is made may be large, and goes before the gradient of it comes.
            w_grad = weight_gradient(grad, ctx.make(*inputs) if ctx.make else inputs[0], ctx.road) if needs_w else None
            x_grad = product(grad, w_OI.t(), None, "none", ctx.road) if needs_x else None
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
_torch.register_onednn_flops(_flops)

"""The two-layer perceptron, keeping as little as can be for the backward pass.

Shape suffixes: I channels in, E hidden units, O channels out; `…` stands for any axes before the last.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mlpzoo.ops.linear import autocast_now, chosen, is_watched, linear, product_tangent, rows, weight_gradient

FORMS = {"gelu": "none", "gelu_tanh": "tanh"}
"""The activations, and how PyTorch calls those forms of GELU."""


def mlp_reference(
    x: Tensor, w1_EI: Tensor, b1_E: Tensor | None, w2_OE: Tensor, b2_O: Tensor | None, act: str = "gelu"
) -> Tensor:
    """The same function as `mlp`, one step after the other."""
    return F.linear(F.gelu(F.linear(x, w1_EI, b1_E), approximate=FORMS[act]), w2_OE, b2_O)


def mlp(
    x: Tensor,
    w1_EI: Tensor,
    b1_E: Tensor | None,
    w2_OE: Tensor,
    b2_O: Tensor | None,
    act: str = "gelu",
    impl: str = "auto",
) -> Tensor:
    """Multiply the last axis by a weight, apply a GELU, multiply by a second weight.

    Of the two hidden maps, before and after the GELU, nothing is kept for the backward pass, which computes the first
    product once more: with four hidden units a channel that is eight ninths of the memory for a ninth of the
    arithmetic. In return the forward pass can apply the GELU as part of the product. There are gradients of every
    order and in forward mode. Compilers decide on their own what to keep: they, tracers and function transforms see the
    steps of the reference.

    Args:
        x: `(…, channels_in)`.
        w1_EI: first weight, `(hidden, channels_in)`.
        b1_E: its bias, `(hidden,)`, or None.
        w2_OE: second weight, `(channels_out, hidden)`.
        b2_O: its bias, `(channels_out,)`, or None.
        act: `"gelu"` or `"gelu_tanh"`.
        impl: as of `linear`; `"reference"` keeps everything.

    Returns:
        `(…, channels_out)`.

    Raises:
        ValueError: for an unknown `impl` or `act`, or for `"onednn"` where it cannot run.
    """
    if act not in FORMS:
        raise ValueError(f"unknown activation '{act}' of mlp: choose {', '.join(map(repr, FORMS))}")
    if impl == "reference":
        return mlp_reference(x, w1_EI, b1_E, w2_OE, b2_O, act)
    if not torch.is_grad_enabled() or is_watched(x, w1_EI, b1_E, w2_OE, b2_O):
        return linear(linear(x, w1_EI, b1_E, act, impl), w2_OE, b2_O, impl=impl)
    y: Tensor = _Mlp.apply(x, w1_EI, b1_E, w2_OE, b2_O, act, chosen(impl, x, w1_EI, b1_E))
    return y


class _Mlp(torch.autograd.Function):
    """The perceptron, of which the input and the weights are kept."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w1_EI: Tensor,
        b1_E: Tensor | None,
        w2_OE: Tensor,
        b2_O: Tensor | None,
        act: str,
        impl: str,
    ) -> Tensor:
        ctx.save_for_backward(x, w1_EI, b1_E, w2_OE)
        ctx.save_for_forward(x, w1_EI, b1_E, w2_OE)
        ctx.act, ctx.impl, ctx.autocast = act, impl, autocast_now(x.device)
        return linear(linear(x, w1_EI, b1_E, act, impl), w2_OE, b2_O, impl=impl)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, w1_EI, b1_E, w2_OE = ctx.saved_tensors
        (grad,) = gradients
        needs_x, needs_w1, needs_b1, needs_w2, needs_b2, *_ = ctx.needs_input_grad
        impl, form = "reference" if is_watched(grad) else ctx.impl, FORMS[ctx.act]
        x_grad = w1_grad = b1_grad = w2_grad = None
        with ctx.autocast:
            y = linear(x, w1_EI, b1_E, impl=impl)
            if needs_w2:
                w2_grad = weight_gradient(grad, F.gelu(y, approximate=form), impl)
            if needs_x or needs_w1 or needs_b1:
                y_grad = linear(grad, w2_OE.t(), impl=impl)
                if torch.is_grad_enabled() or is_watched(grad):
                    y_grad = torch.ops.aten.gelu_backward(y_grad, y, approximate=form)
                else:
                    # In place, for it is as large as all that is kept of four blocks.
                    torch.ops.aten.gelu_backward(y_grad, y, approximate=form, grad_input=y_grad)
                del y
                w1_grad = weight_gradient(y_grad, x, impl) if needs_w1 else None
                x_grad = linear(y_grad, w1_EI.t(), impl=impl) if needs_x else None
                b1_grad = rows(y_grad).sum(0) if needs_b1 else None
        return x_grad, w1_grad, b1_grad, w2_grad, rows(grad).sum(0) if needs_b2 else None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        x, w1_EI, b1_E, w2_OE = ctx.saved_tensors
        x_tangent, w1_tangent, b1_tangent, w2_tangent, b2_tangent, *_ = tangents
        y, form = F.linear(x, w1_EI, b1_E), FORMS[ctx.act]
        y_tangent = product_tangent(x, w1_EI, x_tangent, w1_tangent, b1_tangent)
        hidden_tangent = torch.ops.aten.gelu_backward(y_tangent, y, approximate=form)
        return product_tangent(F.gelu(y, approximate=form), w2_OE, hidden_tangent, w2_tangent, b2_tangent)

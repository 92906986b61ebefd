"""The two-layer perceptron, keeping as little as can be for the backward pass.

Shape suffixes: I channels in, E hidden units, O channels out; `…` stands for any axes before the last.
"""

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mlpzoo.ops import _torch
from mlpzoo.ops.dispatch import fast_path, one_call
from mlpzoo.ops.linear import (
    autocast_now,
    linear,
    linear_of,
    product,
    product_tangent,
    road_of,
    rows,
    weight_gradient,
)

FORMS = {"gelu": "none", "gelu_tanh": "tanh"}
"""The activations, and how PyTorch calls those forms of GELU."""


def mlp_reference(
    x: Tensor, w1_EI: Tensor, b1_E: Tensor | None, w2_OE: Tensor, b2_O: Tensor | None, act: str = "gelu"
) -> Tensor:
    """The same function as `mlp`, one step after the other."""
    return F.linear(F.gelu(F.linear(x, w1_EI, b1_E), approximate=FORMS[act]), w2_OE, b2_O)


@one_call
def mlp(
    x: Tensor,
    w1_EI: Tensor,
    b1_E: Tensor | None,
    w2_OE: Tensor,
    b2_O: Tensor | None,
    act: str = "gelu",
    impl: str = "auto",
    recompute: bool = True,
) -> Tensor:
    """Multiply the last axis by a weight, apply a GELU, multiply by a second weight.

    Of the two hidden maps, before and after the GELU, the backward pass finds none saved, and computes the first
    product once more: with four hidden units a channel that is eight ninths of the memory for a ninth of the
    arithmetic. In return the forward pass can apply the GELU as part of the product. There are gradients of every
    order and in forward mode. Compilers decide on their own what to save: they, tracers and function transforms see the
    steps of the reference.

    Args:
        x: `(…, channels_in)`.
        w1_EI: first weight, `(hidden, channels_in)`.
        b1_E: its bias, `(hidden,)`, or None.
        w2_OE: second weight, `(channels_out, hidden)`.
        b2_O: its bias, `(channels_out,)`, or None.
        act: `"gelu"` or `"gelu_tanh"`.
        impl: as of `linear`; `"reference"` saves both hidden maps.
        recompute: whether the first product is computed again. Otherwise the hidden map before the GELU is saved, and
            the GELU alone computed again.

    Returns:
        `(…, channels_out)`.

    Raises:
        ValueError: for an unknown `impl` or `act`, or for `"onednn"` where it cannot run.
    """
    if act not in FORMS:
        raise ValueError(f"unknown activation '{act}' of mlp: choose {', '.join(map(repr, FORMS))}")
    if impl == "reference":
        return mlp_reference(x, w1_EI, b1_E, w2_OE, b2_O, act)
    if not torch.is_grad_enabled() or not fast_path(x, w1_EI, b1_E, w2_OE, b2_O):
        return linear(linear(x, w1_EI, b1_E, act, impl), w2_OE, b2_O, impl=impl)
    if not recompute:
        gelu = functools.partial(F.gelu, approximate=FORMS[act])
        return linear_of(gelu, [linear(x, w1_EI, b1_E, impl=impl)], w2_OE, b2_O, impl)
    y: Tensor = _Mlp.apply(x, w1_EI, b1_E, w2_OE, b2_O, act, road_of(impl, x, w1_EI, b1_E, "none"))
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
        road: str,
    ) -> Tensor:
        ctx.save_for_backward(x, w1_EI, b1_E, w2_OE)
        ctx.save_for_forward(x, w1_EI, b1_E, w2_OE)
        ctx.act, ctx.road, ctx.autocast = act, road, autocast_now(x.device)
        return product(product(x, w1_EI, b1_E, act, road), w2_OE, b2_O, "none", road)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, w1_EI, b1_E, w2_OE = ctx.saved_tensors
        (grad,) = gradients
        needs_x, needs_w1, needs_b1, needs_w2, needs_b2, *_ = ctx.needs_input_grad
        road, form = ctx.road, FORMS[ctx.act]
        x_grad = w1_grad = b1_grad = w2_grad = None
        with ctx.autocast:
            y = product(x, w1_EI, b1_E, "none", road)
            if needs_w2:
                w2_grad = weight_gradient(grad, F.gelu(y, approximate=form), road)
            if needs_x or needs_w1 or needs_b1:
                y_grad = product(grad, w2_OE.t(), None, "none", road)
                # In place where it can be, for it is as large as all that is saved of four blocks.
                in_place = not torch.is_grad_enabled() and fast_path(grad)
                y_grad = _torch.gelu_backward(y_grad, y, form, in_place)
                del y
                w1_grad = weight_gradient(y_grad, x, road) if needs_w1 else None
                x_grad = product(y_grad, w1_EI.t(), None, "none", road) if needs_x else None
                b1_grad = rows(y_grad).sum(0) if needs_b1 else None
        return x_grad, w1_grad, b1_grad, w2_grad, rows(grad).sum(0) if needs_b2 else None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        x, w1_EI, b1_E, w2_OE = ctx.saved_tensors
        x_tangent, w1_tangent, b1_tangent, w2_tangent, b2_tangent, *_ = tangents
        y, form = F.linear(x, w1_EI, b1_E), FORMS[ctx.act]
        y_tangent = product_tangent(x, w1_EI, x_tangent, w1_tangent, b1_tangent)
        hidden_tangent = _torch.gelu_backward(y_tangent, y, form)
        return product_tangent(F.gelu(y, approximate=form), w2_OE, hidden_tangent, w2_tangent, b2_tangent)

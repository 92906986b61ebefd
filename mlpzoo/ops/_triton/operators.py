"""The products of `mlpzoo.ops` that run as kernels, as operators of PyTorch with their gradients.

Shape suffixes: B batch, H × W positions, C channels in, O channels out, T tokens in, S tokens out; A, L, Q, S the axes
that `product` knows.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from mlpzoo.ops import _torch
from mlpzoo.ops._triton._define import operator
from mlpzoo.ops._triton.product import Shift, product, weight_gradient


def _like_weight(g: Tensor, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    return w.new_empty(w.shape), w.new_empty(w.shape[0])


def _fake_token_linear(x_BTC: Tensor, w_ST: Tensor, b_S: Tensor | None, act: str, keep: bool) -> tuple[Tensor, Tensor]:
    y_BSC = x_BTC.new_empty(x_BTC.shape[0], w_ST.shape[0], x_BTC.shape[2])
    return y_BSC, torch.empty_like(y_BSC) if keep else x_BTC.new_empty(0)


@operator("token_linear", _fake_token_linear)
def token_linear(x_BTC: Tensor, w_ST: Tensor, b_S: Tensor | None, act: str, keep: bool) -> tuple[Tensor, Tensor]:
    """Map the token axis, and keep what the activation is applied to if the gradient will need it."""
    shape = (x_BTC.shape[0], w_ST.shape[0], x_BTC.shape[2], 1)
    y_BSC1, pre = product(x_BTC.contiguous().unsqueeze(3), w_ST, b_S, shape, act=act, keep=keep)
    return y_BSC1.squeeze(3), pre.squeeze(3) if keep else pre


def _fake_token_linear_input_gradient(g_BSC: Tensor, w_ST: Tensor) -> Tensor:
    return g_BSC.new_empty(g_BSC.shape[0], w_ST.shape[1], g_BSC.shape[2])


@operator("token_linear_input_gradient", _fake_token_linear_input_gradient)
def token_linear_input_gradient(g_BSC: Tensor, w_ST: Tensor) -> Tensor:
    """The gradient of the input of `token_linear`."""
    shape = (g_BSC.shape[0], w_ST.shape[1], g_BSC.shape[2], 1)
    return product(g_BSC.contiguous().unsqueeze(3), w_ST, None, shape, transposed=True)[0].squeeze(3)


@operator("token_linear_weight_gradient", _like_weight)
def token_linear_weight_gradient(g_BSC: Tensor, x_BTC: Tensor, w_ST: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of weight and bias of `token_linear`."""
    return weight_gradient(g_BSC.contiguous().unsqueeze(3), x_BTC.contiguous().unsqueeze(3))


def _remember_token_linear(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, w, b, ctx.act, ctx.keep = inputs
    ctx.save_for_backward(x, w, b, output[1])


def _token_linear_gradients(ctx: Any, g: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    x, w, b, pre = ctx.saved_tensors
    if ctx.act != "none":
        pre = pre if ctx.keep else token_linear(x, w, b, "none", False)[0]
        form = "tanh" if ctx.act == "gelu_tanh" else "none"
        g = _torch.gelu_backward(g, pre, form)
    g_x = token_linear_input_gradient(g, w) if ctx.needs_input_grad[0] else None
    return g_x, *_parameter_gradients(ctx, token_linear_weight_gradient, g, x, w), None, None


def _parameter_gradients(ctx: Any, gradient: Any, *inputs: Any) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of weight and bias, the second and third input, as far as they are needed."""
    if not any(ctx.needs_input_grad[1:3]):
        return None, None
    g_w, g_b = gradient(*inputs)
    return g_w, g_b if ctx.needs_input_grad[2] else None


token_linear.register_autograd(_token_linear_gradients, setup_context=_remember_token_linear)


def _lines(x_BHWC: Tensor, axis: int) -> Tensor:
    """A map as (A, L, Q, S), as in `mlpzoo.ops.axis_linear`."""
    batch, height, width, channels = x_BHWC.shape
    outer, lines = (batch, width * height) if axis == 1 else (batch * height, width)
    length = x_BHWC.shape[axis]
    return x_BHWC.contiguous().view(outer, length, lines, channels // length)


def _map_lines(x_BHWC: Tensor, w_CC: Tensor, b_C: Tensor | None, axis: int, transposed: bool) -> Tensor:
    x_ALQS = _lines(x_BHWC, axis)
    outer, length, lines, segment = x_ALQS.shape
    y_ALQS, _ = product(x_ALQS, w_CC, b_C, (outer, length, lines, segment), transposed=transposed)
    return y_ALQS.view(x_BHWC.shape)


def _fake_axis_linear(x_BHWC: Tensor, w_CC: Tensor, b_C: Tensor | None, axis: int) -> Tensor:
    return x_BHWC.new_empty(x_BHWC.shape)


@operator("axis_linear", _fake_axis_linear)
def axis_linear(x_BHWC: Tensor, w_CC: Tensor, b_C: Tensor | None, axis: int) -> Tensor:
    """Map lines along an axis."""
    return _map_lines(x_BHWC, w_CC, b_C, axis, False)


def _fake_axis_linear_input_gradient(g_BHWC: Tensor, w_CC: Tensor, axis: int) -> Tensor:
    return g_BHWC.new_empty(g_BHWC.shape)


@operator("axis_linear_input_gradient", _fake_axis_linear_input_gradient)
def axis_linear_input_gradient(g_BHWC: Tensor, w_CC: Tensor, axis: int) -> Tensor:
    """The gradient of the input of `axis_linear`."""
    return _map_lines(g_BHWC, w_CC, None, axis, True)


def _fake_axis_linear_weight_gradient(g_BHWC: Tensor, x_BHWC: Tensor, w_CC: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    return _like_weight(g_BHWC, x_BHWC, w_CC)


@operator("axis_linear_weight_gradient", _fake_axis_linear_weight_gradient)
def axis_linear_weight_gradient(g_BHWC: Tensor, x_BHWC: Tensor, w_CC: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """The gradients of weight and bias of `axis_linear`."""
    return weight_gradient(_lines(g_BHWC, axis), _lines(x_BHWC, axis))


def _remember_axis_linear(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, w, _, ctx.axis = inputs
    ctx.save_for_backward(x, w)


def _axis_linear_gradients(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    x, w = ctx.saved_tensors
    g_x = axis_linear_input_gradient(g, w, ctx.axis) if ctx.needs_input_grad[0] else None
    return g_x, *_parameter_gradients(ctx, axis_linear_weight_gradient, g, x, w, ctx.axis), None


axis_linear.register_autograd(_axis_linear_gradients, setup_context=_remember_axis_linear)


def _positions(x_BHWC: Tensor) -> Tensor:
    """A map as (1, 1, Q, S): one row a position."""
    batch, height, width, channels = x_BHWC.shape
    return x_BHWC.contiguous().view(1, 1, batch * height * width, channels)


def _fake_cycle_fc(
    x_BHWC: Tensor, w_OC: Tensor, b_O: Tensor | None, step: int, axis: int, dilation: int, offsets: list[int] | None
) -> Tensor:
    return x_BHWC.new_empty(*x_BHWC.shape[:3], w_OC.shape[0])


@operator("cycle_fc", _fake_cycle_fc)
def cycle_fc(
    x_BHWC: Tensor, w_OC: Tensor, b_O: Tensor | None, step: int, axis: int, dilation: int, offsets: list[int] | None
) -> Tensor:
    """Shift the channels, then map them."""
    shift = Shift(x_BHWC.shape, axis, step, dilation, offsets, x_BHWC.device)
    x_11QC = _positions(x_BHWC)
    y_11QO, _ = product(x_11QC, w_OC, b_O, (1, 1, x_11QC.shape[2], w_OC.shape[0]), load_shift=shift)
    return y_11QO.view(*x_BHWC.shape[:3], w_OC.shape[0])


def _fake_cycle_fc_input_gradient(
    g_BHWO: Tensor, w_OC: Tensor, step: int, axis: int, dilation: int, offsets: list[int] | None
) -> Tensor:
    return g_BHWO.new_empty(*g_BHWO.shape[:3], w_OC.shape[1])


@operator("cycle_fc_input_gradient", _fake_cycle_fc_input_gradient)
def cycle_fc_input_gradient(
    g_BHWO: Tensor, w_OC: Tensor, step: int, axis: int, dilation: int, offsets: list[int] | None
) -> Tensor:
    """The gradient of the input of `cycle_fc`: mapped back, then shifted back."""
    shift = Shift(g_BHWO.shape, axis, step, dilation, offsets, g_BHWO.device)
    g_11QO = _positions(g_BHWO)
    shape = (1, 1, g_11QO.shape[2], w_OC.shape[1])
    y_11QC, _ = product(g_11QO, w_OC, None, shape, transposed=True, store_shift=shift)
    return y_11QC.view(*g_BHWO.shape[:3], w_OC.shape[1])


def _fake_cycle_fc_weight_gradient(
    g_BHWO: Tensor, x_BHWC: Tensor, w_OC: Tensor, step: int, axis: int, dilation: int, offsets: list[int] | None
) -> tuple[Tensor, Tensor]:
    return _like_weight(g_BHWO, x_BHWC, w_OC)


@operator("cycle_fc_weight_gradient", _fake_cycle_fc_weight_gradient)
def cycle_fc_weight_gradient(
    g_BHWO: Tensor, x_BHWC: Tensor, w_OC: Tensor, step: int, axis: int, dilation: int, offsets: list[int] | None
) -> tuple[Tensor, Tensor]:
    """The gradients of weight and bias of `cycle_fc`; the input is shifted once more, not kept shifted."""
    shift = Shift(x_BHWC.shape, axis, step, dilation, offsets, x_BHWC.device)
    return weight_gradient(_positions(g_BHWO), _positions(x_BHWC), shift)


def _remember_cycle_fc(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, w, _, *ctx.shift = inputs
    ctx.save_for_backward(x, w)


def _cycle_fc_gradients(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    x, w = ctx.saved_tensors
    g_x = cycle_fc_input_gradient(g, w, *ctx.shift) if ctx.needs_input_grad[0] else None
    return g_x, *_parameter_gradients(ctx, cycle_fc_weight_gradient, g, x, w, *ctx.shift), None, None, None, None


cycle_fc.register_autograd(_cycle_fc_gradients, setup_context=_remember_cycle_fc)


def _flops(x_shape: Any, w_shape: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """Every number of the input is multiplied once for each column out."""
    return 2 * math.prod(x_shape) * int(w_shape[0])


def _input_gradient_flops(g_shape: Any, w_shape: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return 2 * math.prod(g_shape) * int(w_shape[1])


def _weight_gradient_flops(g_shape: Any, _: Any, w_shape: Any, *__: Any, out_shape: Any = None, **___: Any) -> int:
    return 2 * math.prod(g_shape) * int(w_shape[1])


_OPS = torch.ops.mlpzoo
register_flop_formula([_OPS.token_linear, _OPS.axis_linear, _OPS.cycle_fc])(_flops)
register_flop_formula(
    [_OPS.token_linear_input_gradient, _OPS.axis_linear_input_gradient, _OPS.cycle_fc_input_gradient]
)(_input_gradient_flops)
register_flop_formula(
    [_OPS.token_linear_weight_gradient, _OPS.axis_linear_weight_gradient, _OPS.cycle_fc_weight_gradient]
)(_weight_gradient_flops)

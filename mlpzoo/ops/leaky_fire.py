"""Leaky integrate-and-fire neurons along one axis of a map (SNN-MLP, arXiv:2203.14679, section 3.2).

Shape suffixes: B batch, H × W positions, C channels, T steps of a run; P and Q stand for H and W, of which one counts
runs instead of positions.
"""

from typing import Any

import torch
from torch import Tensor

from mlpzoo.ops.dispatch import fast_path, one_call
from mlpzoo.ops.recompute import may_recompute


def leaky_fire_reference(x_BHWC: Tensor, tau_1: Tensor, threshold_1: Tensor, run: int, axis: int) -> Tensor:
    """The same as `leaky_fire`, position after position, as the authors' kernel goes through a map.

    A map whose channels lie before its positions in memory gives one of the same kind.
    """
    lines, whole = x_BHWC.unbind(axis), x_BHWC.shape[axis] // run * run
    outputs: list[Tensor] = []
    left_BLC = torch.zeros_like(lines[0])
    for place, x_BLC in enumerate(lines[:whole]):
        left_BLC = torch.zeros_like(x_BLC) if place % run == 0 else left_BLC
        potential_BLC = tau_1 * left_BLC + x_BLC
        fires_BLC = potential_BLC > threshold_1
        outputs.append(torch.where(fires_BLC, potential_BLC, threshold_1))
        left_BLC = torch.where(fires_BLC, 0, potential_BLC)
    outputs += lines[whole:]
    if x_BHWC.permute(0, 3, 1, 2).is_contiguous():
        # Put together in this order, the channels stay in front.
        return torch.stack([y_BLC.transpose(1, 2) for y_BLC in outputs], dim=axis + 1).permute(0, 2, 3, 1)
    return torch.stack(outputs, dim=axis)


@one_call
def leaky_fire(x_BHWC: Tensor, tau_1: Tensor, threshold_1: Tensor, run: int, axis: int, impl: str = "auto") -> Tensor:
    """Let a neuron go along an axis, which adds up what it reads, and fires what exceeds a threshold.

    Its potential is the position's number and tau times what is left of the potential before. Where that exceeds the
    threshold, it is given out and nothing is left; elsewhere the threshold is given out and all is left. After each run
    of positions the neuron starts anew, and positions that fill no run are given out as they are. The gradient is that
    of the branch taken: whether a neuron fires has none.

    Source: `LIF` in huawei-noah/Efficient-AI-Backbones, `snnmlp_pytorch/models/snn_cuda.py` at f90e129.

    Args:
        x_BHWC: map, `(batch, height, width, channels)`, of any strides.
        tau_1: the leak, a factor, `(1,)`.
        threshold_1: the threshold, `(1,)`.
        run: positions of a run.
        axis: 1 to go along the height, 2 along the width.
        impl: `"auto"` (the fastest known here: all runs at once, nothing saved but the map; an operator of its own
            under `torch.compile`) or `"reference"`.

    Returns:
        `(batch, height, width, channels)`.

    Raises:
        ValueError: for an unknown `impl`.
    """
    if impl not in ("auto", "reference"):
        raise ValueError(f"unknown impl '{impl}' of leaky_fire: choose 'auto' or 'reference'")
    if impl == "reference":
        return leaky_fire_reference(x_BHWC, tau_1, threshold_1, run, axis)
    if may_recompute(x_BHWC, tau_1, threshold_1):
        y_BHWC: Tensor = _LeakyFire.apply(x_BHWC, tau_1, threshold_1, run, axis)
        return y_BHWC
    if torch.compiler.is_dynamo_compiling() and not torch.compiler.is_exporting():
        return leaky_fire_operator(x_BHWC, tau_1, threshold_1, run, axis)
    return _fired(x_BHWC, tau_1, threshold_1, run, axis)


def _steps(x_BHWC: Tensor, run: int, axis: int) -> tuple[Tensor, ...]:
    """The first position of every whole run, the second, and so on: views, `(B, P, Q, C)` each."""
    runs = x_BHWC.shape[axis] // run
    return x_BHWC.narrow(axis, 0, runs * run).unflatten(axis, (runs, run)).unbind(axis + 1)


def _rest(x_BHWC: Tensor, run: int, axis: int) -> Tensor:
    """The positions that fill no run."""
    rest = x_BHWC.shape[axis] % run
    return x_BHWC.narrow(axis, x_BHWC.shape[axis] - rest, rest)


def _put_together(steps: list[Tensor], rest_BHWC: Tensor, axis: int) -> Tensor:
    return torch.cat([torch.stack(steps, dim=axis + 1).flatten(axis, axis + 1), rest_BHWC], dim=axis)


def _fired(x_BHWC: Tensor, tau_1: Tensor, threshold_1: Tensor, run: int, axis: int) -> Tensor:
    """All runs at once, step by step."""
    in_place = not torch.is_grad_enabled() and fast_path(x_BHWC, tau_1, threshold_1)
    if in_place:
        y_BHWC = torch.empty_like(x_BHWC, memory_format=torch.contiguous_format)
        _rest(y_BHWC, run, axis).copy_(_rest(x_BHWC, run, axis))
        places = _steps(y_BHWC, run, axis)
    outputs: list[Tensor] = []
    left_BPQC: Tensor | None = None
    for step, x_BPQC in enumerate(_steps(x_BHWC, run, axis)):
        potential_BPQC = x_BPQC if left_BPQC is None else torch.addcmul(x_BPQC, left_BPQC, tau_1)
        silent_BPQC = potential_BPQC <= threshold_1
        left_BPQC = torch.where(silent_BPQC, potential_BPQC, 0)
        if in_place:
            torch.clamp(potential_BPQC, min=threshold_1, out=places[step])
        else:
            outputs.append(torch.where(silent_BPQC, threshold_1, potential_BPQC))
    return y_BHWC if in_place else _put_together(outputs, _rest(x_BHWC, run, axis), axis)


def _total(x: Tensor, factor: Tensor) -> Tensor:
    """The sum of a product of maps: of so many numbers that cancel, their own precision would lose most digits."""
    product = x.to(torch.promote_types(x.dtype, torch.float32)) * factor
    return product.sum(dtype=torch.float32 if x.device.type == "mps" else torch.float64).view(1)


def _gradients(
    grad_BHWC: Tensor, x_BHWC: Tensor, tau_1: Tensor, threshold_1: Tensor, run: int, axis: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Those of the map, the leak and the threshold; the potentials are computed again."""
    lefts: list[Tensor] = []
    silences: list[Tensor] = []
    for step, x_BPQC in enumerate(_steps(x_BHWC, run, axis)):
        potential_BPQC = torch.addcmul(x_BPQC, lefts[-1], tau_1) if step else x_BPQC
        silences.append(potential_BPQC <= threshold_1)
        lefts.append(torch.where(silences[-1], potential_BPQC, 0))
    tau_grad = threshold_grad = torch.zeros(1, device=x_BHWC.device)
    found: list[Tensor] = []
    # From the last step to the first: what is left of a potential counts in the next one.
    for step, grad_BPQC in reversed(list(enumerate(_steps(grad_BHWC, run, axis)))):
        threshold_grad = threshold_grad + _total(grad_BPQC, silences[step])
        onwards = tau_1 * found[0] if found else 0
        found.insert(0, torch.where(silences[step], onwards, grad_BPQC))
        if step:
            tau_grad = tau_grad + _total(found[0], lefts[step - 1])
    x_grad = _put_together(found, _rest(grad_BHWC, run, axis), axis)
    return x_grad, tau_grad.to(tau_1.dtype), threshold_grad.to(threshold_1.dtype)


class _LeakyFire(torch.autograd.Function):
    """The neuron, of which the map is kept."""

    @staticmethod
    def forward(ctx: Any, x_BHWC: Tensor, tau_1: Tensor, threshold_1: Tensor, run: int, axis: int) -> Tensor:
        ctx.save_for_backward(x_BHWC, tau_1, threshold_1)
        ctx.run, ctx.axis = run, axis
        return _fired(x_BHWC, tau_1, threshold_1, run, axis)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x_BHWC, tau_1, threshold_1 = ctx.saved_tensors
        return *_gradients(gradients[0], x_BHWC, tau_1, threshold_1, ctx.run, ctx.axis), None, None


@torch.library.custom_op("mlpzoo::leaky_fire", mutates_args=())
def leaky_fire_operator(x_BHWC: Tensor, tau_1: Tensor, threshold_1: Tensor, run: int, axis: int) -> Tensor:
    """`leaky_fire` as an operator that compilers do not look into.

    The runs of a map whose sides are expressions such as `((s0 + 3) // 4 + 1) // 2` would be expressions in their turn,
    over which compilers think for minutes.
    """
    return _fired(x_BHWC, tau_1, threshold_1, run, axis)


@leaky_fire_operator.register_fake
def _(x_BHWC: Tensor, tau_1: Tensor, threshold_1: Tensor, run: int, axis: int) -> Tensor:
    return torch.empty_like(x_BHWC, memory_format=torch.contiguous_format)


@torch.library.custom_op("mlpzoo::leaky_fire_backward", mutates_args=())
def leaky_fire_backward_operator(
    grad_BHWC: Tensor, x_BHWC: Tensor, tau_1: Tensor, threshold_1: Tensor, run: int, axis: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `leaky_fire_operator`."""
    return _gradients(grad_BHWC, x_BHWC, tau_1, threshold_1, run, axis)


@leaky_fire_backward_operator.register_fake
def _(
    grad_BHWC: Tensor, x_BHWC: Tensor, tau_1: Tensor, threshold_1: Tensor, run: int, axis: int
) -> tuple[Tensor, Tensor, Tensor]:
    x_grad = torch.empty_like(grad_BHWC, memory_format=torch.contiguous_format)
    return x_grad, torch.empty_like(tau_1), torch.empty_like(threshold_1)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x_BHWC, tau_1, threshold_1, ctx.run, ctx.axis = inputs
    ctx.save_for_backward(x_BHWC, tau_1, threshold_1)


def _backward(ctx: Any, grad_BHWC: Tensor) -> tuple[Tensor | None, ...]:
    return *leaky_fire_backward_operator(grad_BHWC, *ctx.saved_tensors, ctx.run, ctx.axis), None, None


leaky_fire_operator.register_autograd(_backward, setup_context=_keep)

"""Steps of which the backward pass finds only the inputs saved, and takes them again."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from mlpzoo.ops.dispatch import fast_path
from mlpzoo.ops.linear import autocast_now


def recomputing(make: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """What a function makes of some tensors, of which the backward pass keeps those tensors alone.

    It calls the function again and takes the gradients of that call, so there are gradients of every order. The first
    call records nothing: there the function may work in place, which it sees from `torch.is_grad_enabled()`. Compilers
    decide on their own what to keep, and where tracers and function transforms look on, or tangents of forward mode
    pass, nothing is computed twice.

    Args:
        make: from `inputs` to a tensor; the same whenever it is called, and of tensors that learn only the inputs may
            be in it. No module, for its hooks would see a second call.
        inputs: what it takes.

    Returns:
        `make(*inputs)`.
    """
    if not may_recompute(*inputs):
        return make(*inputs)
    y: Tensor = _Recomputing.apply(make, *inputs)
    return y


def may_recompute(*inputs: Tensor) -> bool:
    """Whether gradients are recorded, by a plain backward pass, which an autograd function may serve."""
    return torch.is_grad_enabled() and fast_path(*inputs) and all(unpack_dual(x).tangent is None for x in inputs)


class _Recomputing(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, make: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        ctx.save_for_backward(*inputs)
        ctx.make, ctx.autocast = make, autocast_now(inputs[0].device)
        return make(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[1:]
        again = torch.is_grad_enabled()
        with torch.enable_grad(), ctx.autocast:
            # Each a tensor of its own, so that one given twice gets two gradients.
            inputs = [
                x.view_as(x) if again else x.detach().requires_grad_(needs)
                for x, needs in zip(ctx.saved_tensors, needed, strict=True)
            ]
            y = ctx.make(*inputs)
            learning = [x for x, needs in zip(inputs, needed, strict=True) if needs]
            found = iter(torch.autograd.grad(y, learning, gradients, create_graph=again))
        return None, *(next(found) if needs else None for needs in needed)

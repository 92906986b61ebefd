"""The one place that decides between fast implementations and PyTorch's own functions, called layer by layer."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.fx
from timm.layers.activations import GELU, GELUTanh
from torch import Tensor, nn

from mlpzoo.ops import _torch

Op = TypeVar("Op", bound=Callable[..., Any])
Layer = TypeVar("Layer", bound=type[nn.Module])

_PLAIN = (Tensor, nn.Parameter)

_FUSABLE: set[type[nn.Module]] = {nn.Linear, nn.Conv2d, nn.Identity, nn.Dropout, nn.GELU, GELU, GELUTanh}


def fusable(layer: Layer) -> Layer:
    """Class decorator: an op may run in place of a call of this layer, but of no subclass."""
    _FUSABLE.add(layer)
    return layer


def fast_path(*subjects: Tensor | nn.Module | None) -> bool:
    """Whether an op may work on these tensors by code of its own, in place of calls of these layers.

    Asked with layers, before their parameters are handed to an op: true if each is of a class marked `fusable` (a
    subclass, as adapters, quantizers and parametrizations make, is not), drops nothing, has no hook on it, and no
    `forward` of its own; if no hook waits for all modules; and if nobody exports or traces the network by
    `torch.export` or TorchScript tracing, whose results tell which layer computed what. The op itself decides what it
    runs under compilers and transforms.

    Asked with tensors, inside an op, before it runs a custom autograd function, a library's kernel, or works in place:
    true if they are ordinary tensors, and if no compiler, tracer or function transform is at work, which support none
    of that.

    Args:
        subjects: tensors and layers in any order; None stands for a missing bias.
    """
    if torch.compiler.is_exporting() or _torch.is_tracing():
        return False
    layers = [subject for subject in subjects if isinstance(subject, nn.Module)]
    if layers and (_torch.global_hooks() or not all(_may_stay_uncalled(layer) for layer in layers)):
        return False
    tensors = [subject for subject in subjects if subject is not None and not isinstance(subject, nn.Module)]
    return not tensors or not (
        torch.compiler.is_compiling()
        or _torch.transforms_active()
        # Proxies, and fake, distributed and quantized tensors have types of their own.
        or any(type(value) not in _PLAIN or _torch.is_batched_gradient(value) for value in tensors)
    )


def _may_stay_uncalled(layer: nn.Module) -> bool:
    drops = isinstance(layer, nn.Dropout) and layer.training and layer.p > 0
    return type(layer) in _FUSABLE and not drops and not _torch.own_hooks(layer) and "forward" not in vars(layer)


def one_call(op: Op) -> Op:
    """Decorator of ops: `torch.fx` records the call and does not look inside.

    What an op asks of its tensors cannot be asked while tracing. It is asked where the graph runs, so that a graph runs
    the kernels that the network runs, and gives the same bit by bit.
    """

    @functools.wraps(op)
    def call(*args: Any, **kwargs: Any) -> Any:
        for value in args:
            if isinstance(value, torch.fx.Proxy):
                return value.tracer.create_proxy("call_function", call, args, kwargs)
        return op(*args, **kwargs)

    return call  # type: ignore[return-value]

"""Views of a network: the same modules and weights under another object, some of the weights replaced."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn

from mlpzoo.ops.resize import Grid

Module = TypeVar("Module", bound=nn.Module)
Weights = list[tuple[str, Tensor]]
KEPT_GRIDS = 4
"""Grids whose weights are kept: enough for the sizes a data set comes in, few enough for memory."""


def view_of(module: Module) -> Module:
    """A copy of the modules, down to the last, that shares every parameter, buffer and hook with the original."""
    view = module.__new__(type(module))
    view.__dict__ = {
        **module.__dict__,
        "_parameters": dict(module._parameters),
        "_modules": {name: child and view_of(child) for name, child in module._modules.items()},
    }
    return view


def put_weights(view: nn.Module, weights: Iterable[tuple[str, Tensor]]) -> None:
    """Put tensors, which need not be leaves of the autograd graph, where a view has parameters."""
    for name, value in weights:
        owner, _, leaf = name.rpartition(".")
        view.get_submodule(owner)._parameters[leaf] = value  # type: ignore[assignment]


class WeightsByGrid:
    """Weights resized to the grids seen last, for as long as the originals stay what they are.

    It belongs to one model in memory: copies and files of the model begin with an empty one.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[Grid, tuple[object, Weights]] = OrderedDict()

    def __reduce__(self) -> tuple[type["WeightsByGrid"], tuple[()]]:
        return WeightsByGrid, ()

    def get(self, grid: Grid, originals: Iterable[Tensor], make: Callable[[], Iterable[tuple[str, Tensor]]]) -> Weights:
        """The weights at a grid, made anew where `originals` are others, or hold other values, than last time."""
        stamp = [(id(w), w.data_ptr(), w.dtype, 0 if w.is_inference() else w._version) for w in originals]
        known, weights = self._kept.pop(grid, (None, []))
        if known != stamp:
            # Made in inference mode, they could never serve outside it.
            with torch.inference_mode(False), torch.no_grad():
                weights = [(name, value.contiguous()) for name, value in make()]
        self._kept[grid] = (stamp, weights)
        while len(self._kept) > KEPT_GRIDS:
            self._kept.popitem(last=False)
        return weights

"""Views of a network: the same modules under another object, some of those inside replaced.

Nothing of the original changes, so several views of one network may be made and run at once.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mlpzoo.layers import GridBound
from mlpzoo.ops.resize import Grid

Module = TypeVar("Module", bound=nn.Module)
RESIZE_HOOK = -1
"""Key of the hooks that resize and let go, after those of the original, whose keys are counted from 0."""


def shallow(module: Module, **changed: Any) -> Module:
    """Another object with the module's state and hooks, but for the attributes given, and a list of children to change.

    Parameters and buffers are looked up in the original's own tables when they are used, so that whoever replaces them
    there (FSDP when it gathers, say) reaches the view too.
    """
    view = object.__new__(type(module))
    # A compiled forward belongs to the original.
    own = {"_modules": dict(module._modules), "_compiled_call_impl": None}
    view.__dict__ = {**module.__dict__, **own, **changed}
    return view


def view_of(module: Module, replaced: Mapping[str, nn.Module]) -> Module:
    """The module with those of these names inside replaced; every other one is the original's own.

    A name may lie inside another: the inner replacement then stands in the outer one.
    """
    below: dict[str, dict[str, nn.Module]] = {}
    for name, replacement in replaced.items():
        first, _, rest = name.partition(".")
        below.setdefault(first, {})[rest] = replacement
    view = shallow(module)
    for place, inner in below.items():
        child = inner.pop("", None) or module._modules[place]
        assert child is not None
        view._modules[place] = view_of(child, inner) if inner else child
    return view


def with_own_tensors(module: Module) -> Module:
    """A copy of the modules, down to the last, whose tables of parameters and buffers are its own."""
    view = shallow(module, _parameters=dict(module._parameters), _buffers=dict(module._buffers))
    for name, child in module._modules.items():
        view._modules[name] = child and with_own_tensors(child)
    return view


def put_weights(view: GridBound, original: GridBound, grid: Grid) -> None:
    """Give a view, which has tables of its own, the original's weights at a grid."""
    for name, value in original.weights_at(grid):
        owner, _, leaf = name.rpartition(".")
        holder = view.get_submodule(owner)
        table: dict[str, Any] = holder._parameters if leaf in holder._parameters else holder._buffers
        # No leaf of the autograd graph, so no parameter.
        table[leaf] = value.contiguous()


def resized_view(module: GridBound, grid: Grid) -> GridBound:
    """A view of a module bound to another grid.

    It resizes when it is called, after all hooks before the forward have run: only then are sharded weights whole. What
    it made is let go once the forward has run.
    """
    view = with_own_tensors(module)
    view.grid = grid

    def take_originals(called: nn.Module, *_args: Any) -> None:
        for name, original in module.named_modules(remove_duplicate=False):
            copy = called.get_submodule(name)
            copy._parameters.update(original._parameters)
            copy._buffers.update(original._buffers)

    def resize(called: nn.Module, _args: Any) -> None:
        assert isinstance(called, GridBound)
        take_originals(called)
        put_weights(called, module, grid)

    view._forward_pre_hooks = OrderedDict([*module._forward_pre_hooks.items(), (RESIZE_HOOK, resize)])
    view._forward_hooks = OrderedDict([*module._forward_hooks.items(), (RESIZE_HOOK, take_originals)])
    return view


def without_statistics(module: Module) -> Module:
    """A view whose BatchNorms in training normalize by the batch as ever, but learn nothing from it."""
    frozen = {}
    for name, norm in module.named_modules():
        if isinstance(norm, _BatchNorm) and norm.training and norm.track_running_stats:
            copies = {key: None if value is None else value.clone() for key, value in norm._buffers.items()}
            frozen[name] = shallow(norm, _buffers=copies)
    if "" in frozen:
        return frozen[""]  # type: ignore[return-value]
    return view_of(module, frozen) if frozen else module

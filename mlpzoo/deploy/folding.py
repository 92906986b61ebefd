"""Fold what is fixed once training is over into the weights around it.

A walk over the modules. What a layer becomes, the layer says itself, see `mlpzoo.layers.folding`; here are the rules
for PyTorch's own layers. A rule is there only where it is exact everywhere, borders included, and saves time. What a
block gives out stays what it was, so features are those of the plain model too: the last norm is not folded into the
head.
"""

import copy
import itertools
from collections.abc import Iterable
from typing import Any

import torch
from timm.layers import DropPath
from torch import nn

from mlpzoo.layers.folding import LINEAR_MAPS, has_hooks, is_fixed, may_merge, with_norm_after
from mlpzoo.models import Network


def fold(model: nn.Module) -> nn.Module:
    """An equal, faster model for inference.

    Layers that can be folded say how (`folded`): ResMLP loses its affine maps and scales, ConvMixer half of its
    BatchNorms, ViT's ResNet stems the standardization of their kernels. In every model BatchNorms go into the
    convolution before them, and dropouts go. Whatever else is inside is copied as it is, so any module may be given; so
    are layers with hooks. The result gives the same logits and features and takes another image size as the plain model
    does. It is frozen, for inference alone, and its state dict is its own: released files and checkpoints fit the plain
    model, before folding.

    Args:
        model: the model, in evaluation mode; it is left as it is and shares no memory with the result.

    Returns:
        The folded copy, on the same devices and in the same types, in evaluation mode.

    Raises:
        TypeError: when `model` is not a module, or is compiled already.
        ValueError: when `model` or a part of it is in training mode.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"fold takes a model, got {type(model).__name__}")
    if hasattr(model, "_orig_mod"):
        raise TypeError(f"fold takes a model of plain modules, got {type(model).__name__}: fold first, compile after")
    training = [name or type(model).__name__ for name, module in model.named_modules() if module.training]
    if training:
        raise ValueError(
            f"got a model in training mode ({training[0]}), in which norms and dropout depend on the batch: call "
            "model.eval() before folding it"
        )
    with torch.no_grad():
        result = _folded(copy.deepcopy(model)).eval().requires_grad_(False)
    for part in result.modules():
        if isinstance(part, Network):
            part.is_folded = True
    return result


def _folded(module: Any) -> nn.Module:
    """Fold a module, then its parts. What its class inherits is not used: a subclass may compute something else."""
    if not has_hooks(module):
        kind = type(module)
        if kind in (nn.Dropout, DropPath):
            module = nn.Identity()
        elif kind is nn.Sequential:
            _merge_norms(module, _neighbours(module))
        elif "norm_after" in vars(kind):
            _merge_norms(module, vars(kind)["norm_after"].items())
        if "folded" in vars(kind):
            folded = module.folded()
            if type(folded) is not kind:
                return _folded(folded)
            module = folded
    for name, child in module.named_children():
        setattr(module, name, _folded(child))
    return module


def _merge_norms(module: nn.Module, pairs: Iterable[tuple[str, str]]) -> None:
    """Put BatchNorms into the layers before them, whose names are given first; identities take their places."""
    for before, after in pairs:
        layer: Any = module.get_submodule(before)
        norm: Any = module.get_submodule(after)
        if type(layer) in LINEAR_MAPS and may_merge(layer) and is_fixed(norm):
            setattr(module, before, with_norm_after(layer, norm))
            setattr(module, after, nn.Identity())


def _neighbours(parts: nn.Sequential) -> list[tuple[str, str]]:
    """Parts of a sequence with what is right after; not of linear layers, whose BatchNorm may be over another axis."""
    # A module that stands in two places is one child, but two steps.
    steps = [(name, part) for name, part in parts.named_modules(remove_duplicate=False) if name and "." not in name]
    return [
        (name, after) for (name, layer), (after, _) in itertools.pairwise(steps) if not isinstance(layer, nn.Linear)
    ]

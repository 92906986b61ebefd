"""Gradient checkpointing: parts of a network run again in the backward pass."""

import torch
from timm.models import checkpoint
from torch import Tensor, nn

from mlpzoo.models._views import without_statistics


def recomputed(part: nn.Module, x: Tensor) -> Tensor:
    """What `part(x)` gives, by a forward pass that saves no activations of it and runs it again in the backward pass.

    The second time its BatchNorms do not count the batch again.
    """
    if torch.compiler.is_compiling():
        # The compiler recomputes activations alone.
        return checkpoint(part, x)
    ran = False

    def run(x: Tensor) -> Tensor:
        nonlocal ran
        module = without_statistics(part) if ran else part
        ran = True
        return module(x)

    return checkpoint(run, x)

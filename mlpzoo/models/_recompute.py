"""Gradient checkpointing: parts of a network run again in the backward pass."""

import torch
from timm.models import checkpoint
from torch import Tensor, nn

from mlpzoo.models._views import without_statistics


def recomputed(part: nn.Module, *inputs: Tensor) -> Tensor:
    """What `part(*inputs)` gives, by a pass that saves no activations of it and runs it again in the backward pass.

    The second time its BatchNorms do not count the batch again.
    """
    if torch.compiler.is_compiling():
        # The compiler recomputes activations alone.
        return checkpoint(part, *inputs)
    ran = False

    def run(*inputs: Tensor) -> Tensor:
        nonlocal ran
        module = without_statistics(part) if ran else part
        ran = True
        return module(*inputs)

    return checkpoint(run, *inputs)

"""Small networks for detectors: one with stages, and those whose one map becomes a pyramid."""

from typing import Any

import torch
from models.tiny import TINY

COLUMNAR = ("mixer", "resmlp", "vit", "gmlp")
FAMILIES = ("cyclemlp", *COLUMNAR)


def small(family: str, **options: Any) -> tuple[str, dict[str, Any]]:
    """A name, and the options that make it small."""
    name, tiny = TINY[family]
    return name, {**tiny, **options}


def image(height: int = 96, width: int = 128, batch: int = 2, channels: int = 3) -> torch.Tensor:
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(0))


def assert_learns(module: torch.nn.Module) -> None:
    """Every trained parameter has a finite gradient that is not zero."""
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.any(), name

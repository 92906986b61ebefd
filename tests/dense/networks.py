"""Small networks for detectors: one with stages, and those whose one map becomes a pyramid."""

from pathlib import Path
from typing import Any

import formula
import numpy as np
import torch
from families import CASES, conformance_cases

COLUMNAR = ("mixer", "resmlp", "vit", "gmlp")
FAMILIES = ("cyclemlp", *COLUMNAR)


def small(family: str, **options: Any) -> tuple[str, dict[str, Any]]:
    """A name, and the options that make it small."""
    case = CASES[family]
    return case.model, {**case.small, **options}


def image(height: int = 96, width: int = 128, batch: int = 2, channels: int = 3) -> torch.Tensor:
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(0))


def assert_learns(module: torch.nn.Module) -> None:
    """Every trained parameter has a finite gradient that is not zero."""
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.any(), name


def features_case(folder: Path) -> tuple[str, dict[str, Any], torch.Tensor]:
    """The authors' backbone of the conformance vectors: its name here, the options for it, the image."""
    case = next(case for case in conformance_cases() if case.name == "cyclemlp_b2_features")
    options = {"feature_norms": True, "checkpoint_path": case.release(folder)}
    return case.model, options, torch.from_numpy(formula.image(tuple(case.description["input"]))).float()


def assert_features_are_the_authors(maps: list[torch.Tensor]) -> None:
    """Compare maps of the image of `features_case` with the vectors."""
    truth = next(case for case in conformance_cases() if case.name == "cyclemlp_b2_features").truth
    assert len(maps) == 4
    for i, y in enumerate(maps):
        assert tuple(y.shape) == tuple(truth[f"feature{i}_shape"])
        parts = {"mean_hw": y.mean((2, 3)), "patch": y[:, :8, :5, :7], "corner": y[:, -4:, -3:, -3:]}
        for part, found in parts.items():
            expected = truth[f"feature{i}_{part}"]
            assert expected.std() > 1e-3
            assert np.abs(found.detach().numpy() - expected).max() < 1e-4 * expected.std()

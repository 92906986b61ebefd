"""Recipes: each trains a model on one data set and writes a folder that `create_model` or `create_restorer` takes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from mlpzoo.train.denoise import DenoisingResult, train_denoise
from mlpzoo.train.digits import TrainingResult, train_digits


class Result(Protocol):
    """What every recipe returns, a dataclass."""

    @property
    def folder(self) -> Path:
        """Where everything was written."""

    @property
    def seconds(self) -> float:
        """The training took."""

    def rows(self) -> list[tuple[str, str]]:
        """For people: what was reached, by name."""


RECIPES: Mapping[str, Callable[..., Result]] = {"digits": train_digits, "denoise": train_denoise}
"""What `mlpzoo train` knows, by name."""

__all__ = ["RECIPES", "DenoisingResult", "Result", "TrainingResult", "train_denoise", "train_digits"]

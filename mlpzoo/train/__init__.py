"""Training: recipes, one engine over accelerate, and programs that show a network at work on data that come along."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

try:
    import accelerate  # noqa: F401
    import pydantic  # noqa: F401
    import yaml  # noqa: F401
except ImportError as error:
    raise ImportError(f"training needs the package {error.name}: pip install 'mlpzoo[train]'") from None

from mlpzoo.train.config import Recipe
from mlpzoo.train.denoise import DenoisingResult, train_denoise
from mlpzoo.train.detection_digits import DetectionResult, train_detection_digits
from mlpzoo.train.digit_images import write_digits
from mlpzoo.train.digits import train_digits
from mlpzoo.train.engine import Plan, TrainingResult, newest_checkpoint, plan, train, validate
from mlpzoo.train.loop import Diverged, Stopped
from mlpzoo.train.recipe_files import dump_recipe, read_recipe, shipped_recipes


class Result(Protocol):
    """What every training returns, a dataclass."""

    @property
    def folder(self) -> Path:
        """Where everything was written."""

    @property
    def seconds(self) -> float:
        """The training took."""

    def rows(self) -> list[tuple[str, str]]:
        """For people: what was reached, by name."""


PROGRAMS: Mapping[str, Callable[..., Result]] = {
    "denoise": train_denoise,
    "detection-digits": train_detection_digits,
}
"""What `mlpzoo train` knows besides recipes of classifiers, by name."""

__all__ = [
    "PROGRAMS",
    "DenoisingResult",
    "DetectionResult",
    "Diverged",
    "Plan",
    "Recipe",
    "Result",
    "Stopped",
    "TrainingResult",
    "dump_recipe",
    "newest_checkpoint",
    "plan",
    "read_recipe",
    "shipped_recipes",
    "train",
    "train_denoise",
    "train_detection_digits",
    "train_digits",
    "validate",
    "write_digits",
]

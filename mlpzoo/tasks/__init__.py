"""What is trained, each task on the one loop of `mlpzoo.train`: classification, detection, restoration.

`read_recipe` and `train` are where training starts. Detectors are built, loaded and run on files without the packages
that training needs; the names that need these are imported when they are first asked for.
"""

from typing import TYPE_CHECKING, Any

from mlpzoo.tasks.detection_files import DetectedFile, detect_files, draw_boxes
from mlpzoo.tasks.detector import Box, Detections, Detector, DetectorConfig, detect, load_detector, save_detector
from mlpzoo.tasks.detectors import build_detector, check_targets

if TYPE_CHECKING:
    from mlpzoo.tasks.runs import (
        TASKS,
        Plan,
        TrainingResult,
        plan,
        read_recipe,
        recipe_from,
        shipped_recipes,
        train,
        validate,
    )

__all__ = [
    "TASKS",
    "Box",
    "DetectedFile",
    "Detections",
    "Detector",
    "DetectorConfig",
    "Plan",
    "TrainingResult",
    "build_detector",
    "check_targets",
    "detect",
    "detect_files",
    "draw_boxes",
    "load_detector",
    "plan",
    "read_recipe",
    "recipe_from",
    "save_detector",
    "shipped_recipes",
    "train",
    "validate",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from mlpzoo.tasks import runs

        return getattr(runs, name)
    raise AttributeError(f"module 'mlpzoo.tasks' has no attribute '{name}'")

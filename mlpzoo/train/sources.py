"""Data sets that other packages add: what a recipe's `data.dataset` may name besides what its task reads itself."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from mlpzoo.train.config import Data, DataError, RecipeError, did_you_mean
from mlpzoo.train.image_files import folders_in

Split = Literal["train", "validation"]

SPLIT_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "eval", "evaluation"),
}
"""What the folders of a split are usually called: timm's list."""

USUAL_NAMES = {*SPLIT_NAMES["train"], *SPLIT_NAMES["validation"], "dev", "test", "testing", "holdout"}
"""Names of splits: a folder that has one of them holds splits, not classes."""


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set.

    Attributes:
        open: from the recipe's section `data` and a split to what the task reads.
        illustrate: given the trained `Task`, the folder of its network and its figures, adds pictures to that folder.
    """

    open: Callable[[Any, Split], Any]
    illustrate: Callable[[Any, Path, Mapping[str, float]], None] | None = None


_REGISTERED: dict[str, dict[str, Source]] = {}


def register_source(task: str, name: str, source: Source) -> None:
    """Let recipes of a task name a data set.

    Raises:
        ValueError: when that name is taken.
    """
    if name in sources(task):
        raise ValueError(f"{task} has a data set '{name}' already")
    _REGISTERED.setdefault(task, {})[name] = source


def open_registered(task: str, data: Data, split: Split, *own: str) -> Any:
    """Open a registered data set.

    Args:
        task: what it is for.
        data: the recipe's section.
        split: which part of it: the one that the recipe names for training or for validation.
        own: what the task reads itself; the first is a folder.

    Returns:
        What the data set gives; None where `data.dataset` is one of `own`.

    Raises:
        RecipeError: when there is no such data set.
        DataError: when it has no such split, or the recipe does not say where the folder is.
    """
    if data.dataset in sources(task):
        name = split_name(data, split)
        meant = [kind for kind, names in SPLIT_NAMES.items() if name in names]
        if not meant:
            raise DataError(f"the data set '{data.dataset}' has no split '{name}', but {' and '.join(SPLIT_NAMES)}")
        return sources(task)[data.dataset].open(data, meant[0])
    if data.dataset not in own:
        known = [*own, *sources(task)]
        raise RecipeError(
            f"unknown data set '{data.dataset}' (data.dataset){did_you_mean(data.dataset, known)}: {', '.join(known)}; "
            "mlpzoo.demos adds some when imported"
        )
    if not data.root:
        raise DataError("say where the images are: --data FOLDER (data.root)")
    if not Path(data.root).exists():
        raise DataError(f"there is no folder {data.root} (data.root)")
    if not Path(data.root).is_dir():
        raise DataError(f"{data.root} is a file, not a folder (data.root)")
    return None


def split_name(data: Data, split: Split) -> str | None:
    """What a recipe calls a split."""
    return data.train_split if split == "train" else data.validation_split


def split_folder(data: Data, split: Split, *, whole: bool | None = None) -> Path:
    """The subfolder of `data.root` that a recipe names for a split; `.` is the folder itself.

    The defaults, `train` and `validation`, also stand for the other usual names of their split. Any other name is taken
    as it is.

    Args:
        data: the recipe's section.
        split: which one.
        whole: whether a folder without any split may be all there is to train on; None where that has no meaning.

    Raises:
        DataError: when there is no such folder; naming those there are.
    """
    root, name = Path(data.root or ""), split_name(data, split) or "."
    if _is_folder(root, name):
        return root / name
    found = folders_in(root)
    if name == split:
        others = [other for other in SPLIT_NAMES[split] if other in found]
        if len(others) == 1:
            return root / others[0]
        if whole and not others and not any(other.lower() in USUAL_NAMES for other in found):
            return root
    there = f"there are {', '.join(found[:10])}{', …' if len(found) > 10 else ''}" if found else "there are no folders"
    advice = "go without validation by data.validation_split=null"
    if "held_out" in type(data).model_fields:
        advice = f"hold out a share of the training images by data.held_out=0.1, or {advice}"
    if split == "train":
        classes = whole is not None and not any(other.lower() in USUAL_NAMES for other in found)
        advice = f"where these are the classes themselves, {advice}" if classes else ""
    raise DataError(
        f"cannot open the split '{name}' of {data.dataset} {root} (data.{split}_split): it has no folder of that name"
        f"{did_you_mean(name, found)}; {there}. Name the one you mean{f', or {advice}' if advice else ''}"
    )


def _is_folder(root: Path, name: str) -> bool:
    """Whether there is a folder of exactly that name, on file systems that ignore capitals as well."""
    current = root
    for part in Path(name).parts:
        if part not in (os.curdir, os.pardir, os.sep) and part not in folders_in(current):
            return False
        current = current / part
    return current.is_dir()


def sources(task: str) -> Mapping[str, Source]:
    """The data sets registered for a task, by name."""
    return _REGISTERED.get(task, {})

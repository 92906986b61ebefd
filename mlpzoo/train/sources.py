"""Data sets that other packages add: what a recipe's `data.dataset` may name besides what its task reads itself."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from mlpzoo.train.config import Data

Split = Literal["train", "validation"]


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
        split: which part of it.
        own: what the task reads itself; the first is a folder.

    Returns:
        What the data set gives; None where `data.dataset` is one of `own`.

    Raises:
        ValueError: when there is no such data set, or the recipe does not say where the folder is.
    """
    if data.dataset in sources(task):
        return sources(task)[data.dataset].open(data, split)
    if data.dataset not in own:
        raise ValueError(
            f"unknown data set '{data.dataset}' (data.dataset): {', '.join([*own, *sources(task)])}; mlpzoo.demos adds "
            "some when imported"
        )
    if not data.root:
        raise ValueError("say where the images are: --data FOLDER (data.root)")
    if not Path(data.root).exists():
        raise ValueError(f"there is no folder {data.root} (data.root)")
    return None


def split_folder(data: Data, split: Split) -> Path:
    """The subfolder of `data.root` that a recipe names for a split."""
    return Path(data.root or "") / ((data.train_split if split == "train" else data.validation_split) or "")


def sources(task: str) -> Mapping[str, Source]:
    """The data sets registered for a task, by name."""
    return _REGISTERED.get(task, {})

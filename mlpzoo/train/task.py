"""What is trained: the base class of all tasks, and all that the training loop asks of one.

A new task is a file in `mlpzoo/tasks/` with two classes, and a line in `mlpzoo.tasks.TASKS`:

- a subclass of `Recipe` with the task's name and its own keys;
- a subclass of `Task`, whose constructor builds the network and opens the data, and which computes the loss of a
  batch, validates, and writes the finished network.

Its samples come from a function `make(index, seed)`, wrapped into `Samples` and `TrainingBatches`: they give the order,
the workers, the share of each process, the place to go on from, and what unreadable images do. Updates, accumulation,
mixed precision, several processes, moving averages, checkpoints, resuming, progress and pictures of the run are the
engine's.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn

from mlpzoo.images import ImageError
from mlpzoo.train.config import DataError, Recipe, RecipeError
from mlpzoo.train.data import BadImages, Readable
from mlpzoo.train.identity import Identity, identity
from mlpzoo.train.journal import read_metrics
from mlpzoo.train.loaders import Place, TrainingBatches
from mlpzoo.train.sources import sources
from mlpzoo.weights import CheckpointError

T = TypeVar("T")


@contextmanager
def building() -> Iterator[None]:
    """Within, where a task is built, a ValueError is about the recipe, unless it is about data or files of weights."""
    try:
        yield
    except (RecipeError, DataError, CheckpointError, ImageError):
        raise
    except ValueError as error:
        raise RecipeError(str(error)) from None


class Task(ABC):
    """A network, its data, its loss and its figures.

    A subclass's constructor calls this one and sets `model`, `validation_items`, and, unless `training` is false,
    `training`, `training_items` and `updates_per_epoch`.

    Args:
        recipe: all settings, of the class `recipe_type`.
        place: where the task runs. With `training=False` its folder holds a finished run.
        training: whether it is trained. If not, the network is the one in the folder, and only validation data are
            opened.

    Raises:
        ValueError: when the recipe, the data and the network do not go together.

    Attributes:
        model: the network, on the device of `place`, before any wrapping for several processes.
        training: the training batches.
        training_items: what they are made from.
        validation_items: what is validated on; None for nothing.
        updates_per_epoch: updates that make an epoch.
        num_classes: classes that are told apart; None where there are none.
        class_names: their names in order, where the data say.
        flops_per_image: of a training step; None where it is not known.
    """

    name: ClassVar[str]
    """As in a recipe's `task`."""
    recipe_type: ClassVar[type[Recipe]]
    """What recipes of the task may say."""
    best_by: ClassVar[str | None] = None
    """The figure of `validate` whose greatest value marks the best weights; None to keep none."""
    formats: ClassVar[Mapping[str, tuple[str, str]]] = {}
    """Title and format of each figure, such as `{"psnr": ("PSNR", "{:.2f} dB")}`."""
    curve: ClassVar[tuple[str, str | None, str | None]] = ("", None, None)
    """What `curves.png` shows besides the loss: title, and the names of the training and the validation figure."""

    model: nn.Module
    training: TrainingBatches
    training_items: Readable | None = None
    validation_items: Readable | None = None
    updates_per_epoch: int
    num_classes: int | None = None
    class_names: Sequence[str] | None = None
    flops_per_image: float | None = None

    def __init__(self, recipe: Any, place: Place, *, training: bool = True) -> None:
        self.recipe, self.place, self.device = recipe, place, place.device
        self.bad_images = BadImages(recipe.data.on_bad_image, place.folder)

    @abstractmethod
    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The mean loss of a batch, and means of other figures to show; the same names every time."""

    @abstractmethod
    def validate(self, model: nn.Module) -> dict[str, float]:
        """Figures over the validation data, the same in all processes; empty where there are none.

        The network is in evaluation mode, and no gradient is recorded.
        """

    @abstractmethod
    def save(self, weights: Mapping[str, Tensor], folder: Path, about: Mapping[str, Any]) -> None:
        """Write a folder, `config.json` last, from which the network can be built with these weights.

        Called in the main process alone; `about` goes into `config.json`.
        """

    @abstractmethod
    def probe(self) -> tuple[nn.Module, Tensor]:
        """The module whose cost `plan` counts, and its input for one image."""

    def batches(self, epoch: int, start: int) -> Iterator[Any]:
        """This process's batches of an epoch from an update on, `accumulate` of them an update, on the device.

        Raises:
            ImageError: for an unreadable image that the recipe does not skip.
        """
        for batch, bad, counted in self.training(epoch, start):
            if bad is not None and self.training_items is not None:
                self.bad_images.note(self.training_items, bad, counted)
            self.check(batch)
            yield send_to_device(batch, self.device, non_blocking=True)

    def identity(self) -> Identity:
        """What the data are, for a run that goes on to find that they are the same."""
        root = self.recipe.data.root
        classes = None if self.class_names is None else list(self.class_names)
        found: Identity = {"classes": classes}
        for part, items in (("training", self.training_items), ("validation", self.validation_items)):
            found[part] = identity(items, root, () if items is None else self.details(items))
        return found

    def details(self, items: Any) -> Iterable[object]:
        """What tells samples apart besides their names and files: labels, boxes."""
        return ()

    def check(self, batch: Any) -> None:  # noqa: B027  most tasks have nothing to refuse
        """Refuse a training batch, still on the CPU, that the network cannot be trained on."""

    def train_mode(self, model: nn.Module) -> None:
        """Put the network into training mode."""
        model.train()

    def shard_types(self) -> list[str]:
        """Names of the module classes that FSDP shards one by one; none if it cannot shard the network."""
        return []

    def illustrate(self, folder: Path, figures: Mapping[str, float]) -> None:
        """Add pictures to the folder that `save` wrote; called once, at the end, in the main process.

        By default `curves.png`, where matplotlib is installed, and what the data set adds.
        """
        recipe, run = self.recipe, self.place.folder
        try:
            from mlpzoo.train.curves import draw_curves
        except ImportError:
            pass
        else:
            records = read_metrics(run) if run else []
            if records:
                title = f"{recipe.model.name} on {recipe.data.dataset}"
                percent = "%" in self.formats.get(self.curve[2] or "", ("", ""))[1]
                draw_curves(folder / "curves.png", records, title, self.curve, percent=percent)
        source = sources(self.name).get(recipe.data.dataset)
        if source is not None and source.illustrate is not None:
            source.illustrate(self, folder, figures)

    @classmethod
    def shown(cls, name: str, value: float) -> tuple[str, str]:
        """A figure for people: its title and its value."""
        title, form = cls.formats.get(name, (name, "{:.3f}"))
        return title, form.format(value)

    def share(self, length: int) -> range:
        """This process's share of that many validation items."""
        return range(self.place.rank, length, self.place.processes)

    def gathered(self, rows: list[T]) -> list[T]:
        """The lists of all processes as one, in order of rank; every process must call it."""
        if not torch.distributed.is_initialized():
            return rows
        everyone: list[Any] = [None] * self.place.processes
        torch.distributed.all_gather_object(everyone, rows)
        return [row for part in everyone for row in part]

"""Samples to train on: in which order and with which random numbers they are drawn, and what unreadable ones do.

Every sample is drawn with a seed of its own, made of the run's seed, the epoch and its place in it. So a run gives the
same batches whatever the number of processes and workers, and goes on in the middle of an epoch as if it never stopped.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from mlpzoo.images import ImageError
from mlpzoo.train.randomness import mixed, seeded
from mlpzoo.weights._writing import naming

Draw = tuple[int, int]
"""An index of a sample and a seed; the index is −1 for a place that only fills a batch."""

BAD_IMAGES = "bad_images.jsonl"
MAX_BAD_IN_A_ROW = 100


class Readable(Protocol):
    """What samples are made from, in any order."""

    def __len__(self) -> int:
        """Number of items."""

    def read(self, index: int) -> Any:
        """An item; an `ImageError` where it cannot be read."""

    def name(self, index: int) -> str:
        """What the item is called in messages: its file, where it has one."""


class Samples(Dataset[tuple[Any, int, bool]]):
    """Samples by draw.

    An item is `(sample, bad, counted)`. `bad` is the index of an item that could not be read, else −1. In its place
    stands the next one that can be; or, if told not to replace, or none of the next hundred can, `empty`, for which
    `counted` is false.

    Args:
        make: from an index and a seed to a sample. The global random numbers of Python, NumPy and PyTorch follow the
            seed while it runs. It raises `ImageError` for what cannot be read.
        length: how many items there are.
        empty: what stands where there is no sample.
        replace: whether to read the next item in place of an unreadable one.
    """

    def __init__(
        self, make: Callable[[int, int], Any], length: int, *, empty: Any = None, replace: bool = False
    ) -> None:
        self.make, self.length, self.empty, self.replace = make, length, empty, replace

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, draw: Draw) -> tuple[Any, int, bool]:
        index, seed = draw
        bad = -1
        for place in range(index, index + (min(MAX_BAD_IN_A_ROW, self.length) if self.replace else 1)):
            if index < 0:
                break
            try:
                with seeded(seed):
                    return self.make(place % self.length, seed), bad, True
            except ImageError:
                bad = index
        return self.empty, bad, False


class BadImages:
    """What a run does with unreadable items: stop at the first, or list each once in `bad_images.jsonl`.

    Args:
        policy: `"error"` or `"skip"`.
        folder: of the run; None to list nothing.
    """

    def __init__(self, policy: Literal["error", "skip"], folder: Path | None) -> None:
        self.policy, self.folder = policy, folder
        self.listed: set[str] = set()

    def note(self, items: Readable, bad: Tensor, counted: Tensor | None = None) -> None:
        """Take up what `Samples` said of a batch.

        Args:
            items: what the samples were made from.
            bad: for each place the index of an unreadable item, else −1.
            counted: for each place whether it holds a sample, where every place must.

        Raises:
            ImageError: at an unreadable item, if told to stop, and where nothing readable was found to replace one.
        """
        for index in bad[bad >= 0].tolist():
            reason = _problem(items, index)
            if self.policy == "error":
                raise ImageError(f"{reason}. To train without such images: data.on_bad_image=skip")
            if reason not in self.listed and self.folder is not None:
                self.listed.add(reason)
                path = self.folder / BAD_IMAGES
                with naming(path), path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"image": items.name(index % len(items)), "reason": reason}) + "\n")
        if counted is not None and not counted.all():
            first = int(bad[~counted][0])
            tried = min(MAX_BAD_IN_A_ROW, len(items))
            reasons = [_problem(items, first + i) for i in range(min(3, tried))]
            more = f"; and {tried - 3} more" if tried > 3 else ""
            raise ImageError(f"no image could be read, of {tried} tried in a row: {'; '.join(reasons)}{more}")


def _problem(items: Readable, index: int) -> str:
    """Why an item cannot be read; an epoch may go through the items more than once."""
    index %= len(items)
    try:
        items.read(index)
    except ImageError as error:
        return str(error)
    return f"{items.name(index)} could not be read at first, and can be now"


class TrainingOrder(Sampler[Draw]):
    """Batches of one process: a new permutation every epoch, whole updates, from any place in it.

    Args:
        length: how many samples there are.
        updates: of an epoch.
        batch_size: samples in a batch of one process.
        accumulate: batches of each process that make an update.
        rank: which process this is.
        processes: how many there are.
        repeats: how often a sample is drawn in an epoch; one that repeats draws from as many fewer samples.
        seed: of the run.
    """

    def __init__(
        self,
        length: int,
        *,
        updates: int,
        batch_size: int,
        accumulate: int = 1,
        rank: int = 0,
        processes: int = 1,
        repeats: int = 1,
        seed: int = 0,
    ) -> None:
        self.length, self.updates, self.batch_size, self.accumulate = length, updates, batch_size, accumulate
        self.rank, self.processes, self.repeats, self.seed = rank, processes, repeats, seed
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return (self.updates - self.start) * self.accumulate

    def __iter__(self) -> Iterator[list[Draw]]:  # type: ignore[override]
        generator = torch.Generator().manual_seed(mixed(self.seed, self.epoch))
        order = torch.randperm(self.length, generator=generator).repeat_interleave(self.repeats).tolist()
        whole = self.batch_size * self.processes * self.accumulate
        for update in range(self.start, self.updates):
            for step in range(self.accumulate):
                # Processes take interleaved places: an update's samples are those of one process alone, and copies of
                # a sample go to different processes.
                first = update * whole + step * self.batch_size * self.processes + self.rank
                places = range(first, first + self.batch_size * self.processes, self.processes)
                yield [(order[place], mixed(self.seed, self.epoch, place)) for place in places]


class ValidationOrder(Sampler[Draw]):
    """Batches of one process: its share of all samples once, in order, padded so that every process has as many."""

    def __init__(self, length: int, *, batch_size: int, rank: int = 0, processes: int = 1) -> None:
        self.length, self.batch_size, self.rank, self.processes = length, batch_size, rank, processes

    def __len__(self) -> int:
        return -(-self.length // (self.batch_size * self.processes))

    def __iter__(self) -> Iterator[list[Draw]]:  # type: ignore[override]
        for batch in range(len(self)):
            first = batch * self.batch_size * self.processes + self.rank
            places = range(first, first + self.batch_size * self.processes, self.processes)
            yield [(place if place < self.length else -1, 0) for place in places]

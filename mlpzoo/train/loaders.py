"""Batches of samples: the orders of `data` and PyTorch's loaders put together."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from mlpzoo.train.config import Recipe
from mlpzoo.train.data import Samples, TrainingOrder, ValidationOrder

Batch = tuple[Any, Tensor | None, Tensor | None]
"""Samples; the index of the unreadable item in each place, −1 for none; and whether each place holds a sample. The last
two are None where they are not known."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a task runs.

    Attributes:
        device: of the network and the batches.
        rank: which process this is.
        processes: how many there are.
        folder: of the run; None to write nothing.
    """

    device: torch.device
    rank: int = 0
    processes: int = 1
    folder: Path | None = None


def step_size(recipe: Recipe, place: Place) -> int:
    """Samples in a step of one process.

    Raises:
        ValueError: when the batch size cannot be divided equally.
    """
    size, accumulate = recipe.data.batch_size, recipe.run.accumulate
    steps = place.processes * accumulate
    if size % steps:
        raise ValueError(
            f"data.batch_size is {size}, which {place.processes} processes of {accumulate} steps an update cannot "
            f"share equally: make it a multiple of {steps}"
        )
    return size // steps


def loader_options(workers: int, *, keep: bool = True) -> dict[str, Any]:
    """Options of PyTorch's loader.

    Args:
        workers: processes that read; no more than the machine has cores.
        keep: whether they live on from epoch to epoch.
    """
    workers = min(workers, os.cpu_count() or 1)
    # A generator of its own: making an iterator would take a number from the global one.
    generator = torch.Generator().manual_seed(0)
    return {"num_workers": workers, "persistent_workers": keep and workers > 0, "generator": generator}


class TrainingBatches:
    """Training batches of one process, in an order that the seed of the run decides.

    Args:
        samples: what is drawn.
        recipe: batch size, workers and seed.
        place: where they go.
        repeats: how often a sample is drawn in an epoch.
        collate: from a list of samples to a batch; PyTorch's `default_collate` by default.

    Attributes:
        order: of the draws.
        loader: PyTorch's.

    Raises:
        ValueError: when a batch cannot be divided equally or is larger than the data.
    """

    def __init__(
        self,
        samples: Samples,
        recipe: Recipe,
        place: Place,
        *,
        repeats: int = 1,
        collate: Callable[[list[Any]], Any] = default_collate,
    ) -> None:
        batch_size = step_size(recipe, place)
        updates = len(samples) // recipe.data.batch_size
        if not updates:
            raise ValueError(
                f"data.batch_size is {recipe.data.batch_size}, but there are only {len(samples)} images to train on"
            )
        self.order = TrainingOrder(
            len(samples),
            updates=updates,
            batch_size=batch_size,
            accumulate=recipe.run.accumulate,
            rank=place.rank,
            processes=place.processes,
            repeats=repeats,
            seed=recipe.run.seed,
        )
        self.loader: DataLoader[Any] = DataLoader(
            samples,
            batch_sampler=self.order,
            collate_fn=functools.partial(_collate, collate),
            pin_memory=place.device.type == "cuda",
            **loader_options(recipe.data.workers),
        )

    @property
    def updates_per_epoch(self) -> int:
        """Updates that make an epoch."""
        return self.order.updates

    def __call__(self, epoch: int, start: int) -> Iterator[Batch]:
        """Batches of an epoch from an update on."""
        self.order.epoch, self.order.start = epoch, start
        yield from self.loader


def validation_batches(
    samples: Samples, batch_size: int, workers: int, place: Place, collate: Callable[[list[Any]], Any] = default_collate
) -> DataLoader[Any]:
    """A process's share of all samples, each once, in order; places that only fill a batch are not counted.

    Args:
        samples: all of them.
        batch_size: samples in a batch.
        workers: processes that read them.
        place: which process this is.
        collate: from a list of samples to a batch.

    Returns:
        A loader of `Batch`.
    """
    order = ValidationOrder(len(samples), batch_size=batch_size, rank=place.rank, processes=place.processes)
    options = loader_options(workers, keep=False)
    return DataLoader(samples, batch_sampler=order, collate_fn=functools.partial(_collate, collate), **options)


def _collate(collate: Callable[[list[Any]], Any], items: Sequence[tuple[Any, int, bool]]) -> Batch:
    samples, bad, counted = zip(*items, strict=True)
    return collate(list(samples)), torch.tensor(bad), torch.tensor(counted)

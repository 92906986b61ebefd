"""Batches of a recipe's data: datasets, transforms and PyTorch's loaders put together."""

import os
from collections.abc import Iterator
from typing import Any, Literal

import torch
from timm.data import create_dataset
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms

from mlpzoo.train.config import Augment, Data, Recipe
from mlpzoo.train.data import Images, Samples, TrainingOrder, ValidationOrder, open_splits
from mlpzoo.transforms import create_transform, data_config_of

STREAMS = ("wds/", "hfids/", "tfds/")
"""Datasets that can only be read from the start."""

Batch = tuple[Tensor, Tensor, Tensor | None]
"""Images, labels, and the index of the unreadable image in each place, −1 for none; None where it is not known."""


class Loaders:
    """Training and validation batches of one process.

    Args:
        recipe: whose data they are.
        network: what the images are for: its size, channels and statistics.
        rank: which process this is.
        processes: how many there are.
        pin: whether batches are made in memory from which a GPU copies fast.

    Raises:
        ValueError: when the data cannot be opened, or a batch cannot be divided or is larger than the data.
    """

    def __init__(self, recipe: Recipe, network: nn.Module, *, rank: int, processes: int, pin: bool) -> None:
        data, run = recipe.data, recipe.run
        steps = processes * run.accumulate
        if data.batch_size % steps:
            raise ValueError(
                f"data.batch_size is {data.batch_size}, which {processes} processes of {run.accumulate} steps an "
                f"update cannot share equally: make it a multiple of {steps}"
            )
        self.batch_size = data.batch_size // steps
        self.config = data_config_of(network)
        shape = self.config["input_size"]
        mode: Literal["L", "RGB"] = "L" if shape[0] == 1 else "RGB"
        workers = min(data.workers, os.cpu_count() or 1)
        common: dict[str, Any] = {
            "num_workers": workers,
            "pin_memory": pin,
            "persistent_workers": workers > 0,
            # A generator of its own: making an iterator would take a number from the global one.
            "generator": torch.Generator().manual_seed(0),
        }
        augmented = training_transform(network, recipe.augment)
        plain = create_transform(network)
        skip = data.on_bad_image == "skip"
        self.training_images: Images | None = None
        self.validation_images: Images | None = None
        self.validation_loader: Any = None
        self.classes: list[str] | None = None
        if data.dataset.startswith(STREAMS):
            self._open_streams(data, mode, augmented, plain, common, processes)
            return
        train, held = open_splits(data, mode)
        self.training_images, self.validation_images = train, held
        self.classes = list(train.classes) if train.classes else None
        self.updates_per_epoch = len(train) // data.batch_size
        if not self.updates_per_epoch:
            raise ValueError(
                f"data.batch_size is {data.batch_size}, but there are only {len(train)} images to train on"
            )
        self.order = TrainingOrder(
            len(train),
            updates=self.updates_per_epoch,
            batch_size=self.batch_size,
            accumulate=run.accumulate,
            rank=rank,
            processes=processes,
            repeats=recipe.augment.repeats,
            seed=run.seed,
        )
        self.training_loader: Any = DataLoader(
            Samples(train, augmented, shape, replace=skip), batch_sampler=self.order, **common
        )
        if held is not None:
            self.validation_loader = validation_loader(
                held,
                network,
                batch_size=data.validation_batch_size or self.batch_size,
                workers=workers,
                rank=rank,
                processes=processes,
            )

    @property
    def num_classes(self) -> int:
        """Classes of the data; 0 where they do not say."""
        return len(self.classes or ())

    def training(self, epoch: int, start: int) -> Iterator[Batch]:
        """Batches of an epoch from an update on."""
        if self.training_images is None:
            yield from self._stream(epoch, start)
            return
        self.order.epoch, self.order.start = epoch, start
        yield from self.training_loader

    def validation(self) -> Iterator[Batch]:
        """All validation images once."""
        for images, labels, *bad in self.validation_loader:
            yield images, labels, bad[0] if bad else None

    def _open_streams(
        self, data: Data, mode: str, augmented: Any, plain: Any, common: dict[str, Any], processes: int
    ) -> None:
        """timm's datasets that are read from the start, each process its own part."""
        if not data.length:
            raise ValueError(f"{data.dataset} is a stream: say by data.length how many images make an epoch")
        self.updates_per_epoch = data.length // data.batch_size
        self.steps_per_epoch = data.length // (self.batch_size * processes)

        def stream(split: str, training: bool) -> DataLoader[Any]:
            try:
                dataset = create_dataset(
                    data.dataset,
                    root=data.root,
                    split=split,
                    is_training=training,
                    download=data.download,
                    batch_size=self.batch_size,
                    num_samples=data.length if training else None,
                    input_img_mode=mode,
                )
            except (AssertionError, RuntimeError, ValueError, OSError, ImportError) as error:
                raise ValueError(f"cannot open the split '{split}' of {data.dataset}: {error}") from None
            dataset.transform = augmented if training else plain
            return DataLoader(dataset, batch_size=self.batch_size, drop_last=training, **common)

        self.training_loader = stream(data.train_split, True)
        if data.validation_split is not None:
            self.validation_loader = stream(data.validation_split, False)

    def _stream(self, epoch: int, start: int) -> Iterator[Batch]:
        if hasattr(self.training_loader.dataset, "set_epoch"):
            self.training_loader.dataset.set_epoch(epoch)
        first = start * self.steps_per_epoch // self.updates_per_epoch
        for i, (images, labels) in enumerate(self.training_loader):
            if i >= first:
                yield images, labels, None


def validation_loader(
    images: Images, network: nn.Module, *, batch_size: int, workers: int, rank: int = 0, processes: int = 1
) -> DataLoader[Any]:
    """A process's share of images, prepared as the network's weights want them.

    Args:
        images: all of them.
        network: what they are for.
        batch_size: images in a batch.
        workers: processes that read them.
        rank: which process this is.
        processes: how many there are.

    Returns:
        Batches of images, labels and indices of unreadable images; see `Samples`.
    """
    samples = Samples(images, create_transform(network), data_config_of(network)["input_size"])
    order = ValidationOrder(len(images), batch_size=batch_size, rank=rank, processes=processes)
    return DataLoader(
        samples,
        batch_sampler=order,
        num_workers=min(workers, os.cpu_count() or 1),
        generator=torch.Generator().manual_seed(0),
    )


def training_transform(network: nn.Module, augment: Augment) -> Any:
    """timm's training transform as a recipe has it, with a random affine map before it where there is one."""
    transform = create_transform(
        network,
        is_training=True,
        scale=augment.scale,
        ratio=augment.ratio,
        interpolation=augment.interpolation,
        hflip=augment.hflip,
        vflip=augment.vflip,
        color_jitter=augment.color_jitter or None,
        auto_augment=augment.auto_augment,
        re_prob=augment.random_erasing,
        re_mode=augment.erasing_mode,
    )
    if not (augment.rotate or augment.shift or augment.zoom):
        return transform
    affine = transforms.RandomAffine(
        augment.rotate,
        (augment.shift, augment.shift),
        (1 - augment.zoom, 1 + augment.zoom),
        interpolation=transforms.InterpolationMode.BILINEAR,
    )
    return transforms.Compose([affine, transform])

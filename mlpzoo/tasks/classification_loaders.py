"""Batches of labelled images: datasets, timm's transforms and PyTorch's loaders put together."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from PIL import Image
from timm.data import create_dataset
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms

from mlpzoo.images import pillow_unlimited
from mlpzoo.tasks.classification_images import Images, Mode, check_dataset, open_images, open_splits
from mlpzoo.tasks.classification_recipe import Augment, ClassificationRecipe, Data
from mlpzoo.train.config import RecipeError
from mlpzoo.train.data import Samples
from mlpzoo.train.loaders import Batch, Place, TrainingBatches, loader_options, step_size, validation_batches
from mlpzoo.transforms import create_transform, data_config_of

NOT_COUNTED = -1
"""Label of a validation sample that only fills its place."""


class Loaders:
    """Training and validation batches, images and labels, of one process.

    Args:
        recipe: whose data they are.
        network: what the images are for: its size, channels and statistics.
        place: which process this is.

    Raises:
        ValueError: when the data cannot be opened, or a batch cannot be divided or is larger than the data.
    """

    def __init__(self, recipe: ClassificationRecipe, network: nn.Module, place: Place) -> None:
        self.recipe, self.place = recipe, place
        self.batch_size = step_size(recipe, place)
        self.shape = data_config_of(network)["input_size"]
        self.training_images: Images | None = None
        self.validation_images: Images | None = None
        self.validation_loader: Any = None
        self.classes: list[str] | None = None
        data, mode = recipe.data, image_mode(network)
        augmented, plain = training_transform(network, recipe.augment), create_transform(network)
        check_dataset(data.dataset)
        if data.is_stream:
            self._open_streams(data, mode, augmented, plain)
            return
        train, held = open_splits(data, mode, warn=place.rank == 0)
        self.training_images, self.validation_images = train, held
        self.classes = list(train.classes) if train.classes else None
        self.training: Any = TrainingBatches(
            labelled_samples(train, augmented, self.shape, replace=data.on_bad_image == "skip"),
            recipe,
            place,
            repeats=recipe.augment.repeats,
        )
        self.updates_per_epoch: int = self.training.updates_per_epoch
        if held is not None:
            self.validation_loader = validation_loader(held, network, recipe, place)

    @property
    def num_classes(self) -> int:
        """Classes of the data; 0 where they do not say."""
        return len(self.classes or ())

    def validation(self) -> Iterator[Batch]:
        """All validation images once."""
        streams = self.training_images is None
        yield from ((batch, None, None) for batch in self.validation_loader) if streams else self.validation_loader

    def _open_streams(self, data: Data, mode: str, augmented: Any, plain: Any) -> None:
        """timm's datasets that are read from the start, each process its own part."""
        if not data.length:
            raise RecipeError(f"{data.dataset} is a stream: say by data.length how many images make an epoch")
        self.updates_per_epoch = data.length // data.batch_size
        self.steps_per_epoch = data.length // (self.batch_size * self.place.processes)

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
            pin = self.place.device.type == "cuda"
            options = loader_options(data.workers)
            return DataLoader(dataset, batch_size=self.batch_size, drop_last=training, pin_memory=pin, **options)

        self._training_stream = stream(data.train_split, True)
        self.training = self._stream
        if data.validation_split is not None:
            self.validation_loader = stream(data.validation_split, False)

    def _stream(self, epoch: int, start: int) -> Iterator[Batch]:
        dataset: Any = self._training_stream.dataset
        if hasattr(dataset, "set_epoch"):
            dataset.set_epoch(epoch)
        first = start * self.steps_per_epoch // self.updates_per_epoch
        for i, batch in enumerate(self._training_stream):
            if i >= first:
                yield batch, None, None


def image_mode(network: nn.Module) -> Mode:
    """Pillow's name for images of as many channels as a network takes."""
    return "L" if data_config_of(network)["input_size"][0] == 1 else "RGB"


def labelled_samples(
    images: Images, transform: Callable[[Image.Image], Tensor], shape: Sequence[int], *, replace: bool = False
) -> Samples:
    """Transformed images with labels.

    Args:
        images: what is read.
        transform: from a PIL image to a tensor.
        shape: of what it makes.
        replace: whether to read the next image in place of an unreadable one.
    """
    empty = (torch.zeros(tuple(shape)), NOT_COUNTED)
    return Samples(functools.partial(_labelled, images, transform), len(images), empty=empty, replace=replace)


def _labelled(images: Images, transform: Callable[[Image.Image], Tensor], index: int, seed: int) -> tuple[Tensor, int]:
    image, label = images.read(index)
    with pillow_unlimited():
        return transform(image), label


def validation_loader(
    images: Images, network: nn.Module, recipe: ClassificationRecipe, place: Place
) -> DataLoader[Any]:
    """A process's share of images, prepared as the network's weights want them."""
    samples = labelled_samples(images, create_transform(network), data_config_of(network)["input_size"])
    size = recipe.data.validation_batch_size or step_size(recipe, place)
    return validation_batches(samples, size, recipe.data.workers, place)


def validation_images(data: Data, network: nn.Module, classes: list[str] | None) -> Images:
    """What a recipe validates on, opened without its training images where these are not needed.

    Args:
        data: the recipe's section.
        network: what the images are for.
        classes: names of its classes, which the data must have, and by which a folder's classes are numbered.

    Raises:
        ValueError: when there is nothing to validate on.
    """
    mode = image_mode(network)
    if data.held_out:
        held = open_splits(data, mode, classes=classes)[1]
        assert held is not None
        return held
    if data.validation_split is None:
        raise ValueError("the recipe validates on nothing: say which split")
    return open_images(data, "validation", mode, classes=classes)


def training_transform(network: nn.Module, augment: Augment) -> Any:
    """timm's training transform as a recipe has it, after a random affine map where there is one."""
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

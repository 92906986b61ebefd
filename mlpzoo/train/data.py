"""Images to train on: what they are read from, and in which order and with which random numbers they are drawn.

Every sample is drawn with a seed of its own, made of the run's seed, the epoch and its place in it. So a run gives the
same batches whatever the number of processes and workers, and goes on in the middle of an epoch as if it never stopped.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from PIL import Image
from timm.data import create_dataset
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from mlpzoo.inference import ImageError, read_image
from mlpzoo.train.config import Data
from mlpzoo.train.randomness import mixed, seeded

Draw = tuple[int, int]
"""An index of an image and a seed; the index is −1 for a place that only fills a batch."""

NOT_COUNTED = -1
"""Label of a sample that only fills its place."""

MAX_BAD_IN_A_ROW = 100


class Images(Protocol):
    """Images that can be read in any order."""

    @property
    def classes(self) -> Sequence[str] | None:
        """Names of the classes in order, where the data say."""

    @property
    def labels(self) -> Sequence[int] | None:
        """Label of each image, where known without reading it."""

    def __len__(self) -> int:
        """How many."""

    def read(self, index: int) -> tuple[Image.Image, int]:
        """An image and its label; an `ImageError` where it cannot be read."""

    def name(self, index: int) -> str:
        """What the image is called: its file, where it has one."""


class FileImages:
    """timm's readers of files and of Hugging Face datasets, the files opened as carefully as everywhere here."""

    def __init__(self, reader: Any, mode: Literal["L", "RGB"]) -> None:
        self.reader = reader
        self.mode: Literal["L", "RGB"] = mode
        names = getattr(reader, "class_to_idx", None)
        self.classes = sorted(names, key=names.__getitem__) if names else None
        samples = getattr(reader, "samples", None)
        self.labels = [label for _, label in samples] if samples else None

    def __len__(self) -> int:
        return len(self.reader)

    def read(self, index: int) -> tuple[Image.Image, int]:
        """An image and its label."""
        try:
            stream, label, *_ = self.reader[index]
        except OSError as error:
            raise ImageError(f"cannot read {self.name(index)}: {error.strerror or error}") from None
        with stream:
            return read_image(stream, self.mode, name=self.name(index)), label

    def name(self, index: int) -> str:
        """The file."""
        try:
            return str(self.reader.filename(index, absolute=True))
        except (NotImplementedError, TypeError, ValueError, KeyError, AttributeError):
            return f"image {index}"


class TorchvisionImages:
    """A dataset of torchvision, which decodes by itself."""

    def __init__(self, dataset: Any, mode: str) -> None:
        self.dataset = dataset
        self.mode = mode
        self.classes = [str(name) for name in dataset.classes] if hasattr(dataset, "classes") else None
        targets = getattr(dataset, "targets", None)
        self.labels = [int(label) for label in targets] if targets is not None else None

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, index: int) -> tuple[Image.Image, int]:
        """An image and its label."""
        try:
            image, label = self.dataset[index]
            return image.convert(self.mode), int(label)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ImageError(f"cannot read {self.name(index)}: {error}") from None

    def name(self, index: int) -> str:
        """Its place."""
        return f"image {index}"


class Part:
    """Some of the images."""

    def __init__(self, images: Images, indices: Sequence[int]) -> None:
        self.images, self.indices = images, indices
        self.classes = images.classes
        self.labels = [images.labels[i] for i in indices] if images.labels is not None else None

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> tuple[Image.Image, int]:
        """An image and its label."""
        return self.images.read(self.indices[index])

    def name(self, index: int) -> str:
        """What the image is called."""
        return self.images.name(self.indices[index])


def open_images(data: Data, split: str, mode: Literal["L", "RGB"], **options: Any) -> Images:
    """Open a split of a dataset whose images can be read in any order.

    Raises:
        ValueError: when there is no such dataset or it holds no images.
    """
    if data.dataset == "digits":
        from mlpzoo.train.digit_images import DigitImages

        return DigitImages()
    if data.dataset == "folder" and not data.root:
        raise ValueError("say where the images are: --data FOLDER (data.root)")
    if data.dataset == "folder" and not Path(str(data.root)).exists():
        raise ValueError(f"there is no folder {data.root} (data.root)")
    name = "" if data.dataset == "folder" else data.dataset
    try:
        dataset = create_dataset(
            name, root=data.root, split=split, download=data.download, input_img_mode=mode, **options
        )
    except (AssertionError, RuntimeError, ValueError, OSError) as error:
        raise ValueError(f"cannot open the split '{split}' of {data.dataset} {data.root or ''}: {error}") from None
    return FileImages(dataset.reader, mode) if hasattr(dataset, "reader") else TorchvisionImages(dataset, mode)


def open_splits(data: Data, mode: Literal["L", "RGB"]) -> tuple[Images, Images | None]:
    """Open what to train on and what to validate on, of the same classes.

    Raises:
        ValueError: when there are no images, less than two classes, classes in validation alone, or images that would
            be in both.
    """
    train = open_images(data, data.train_split, mode)
    if train.classes is not None and len(train.classes) < 2:
        raise ValueError(
            f"{data.root} has {len(train.classes)} class: a folder of images needs two or more, each a subfolder, by "
            f"themselves or in one named '{data.train_split}'"
        )
    if data.held_out or data.dataset == "digits":
        from mlpzoo.train.digit_images import HELD_OUT

        return hold_out(train, data.held_out or HELD_OUT)
    if data.validation_split is None:
        return train, None
    held = open_images(data, data.validation_split, mode)
    if isinstance(train, FileImages) and isinstance(held, FileImages) and data.dataset == "folder":
        if train.reader.root == held.reader.root:
            raise ValueError(
                f"{data.root} has no subfolder '{data.validation_split}' to validate on. Make one, or hold out a share "
                "of the images by data.held_out=0.1, or go without by data.validation_split=null"
            )
        held = numbered_as(held, train.classes or (), data, data.validation_split, mode)
    return train, held


def numbered_as(images: Images, classes: Sequence[str], data: Data, split: str, mode: Literal["L", "RGB"]) -> Images:
    """A folder's images with their classes numbered as in another list.

    Raises:
        ValueError: when a class is not in the list.
    """
    unknown = set(images.classes or ()) - set(classes)
    if unknown:
        raise ValueError(f"'{split}' has classes that were not trained on: {', '.join(sorted(unknown)[:5])}")
    return open_images(data, split, mode, class_map={name: number for number, name in enumerate(classes)})


def hold_out(images: Images, share: float) -> tuple[Part, Part]:
    """Split images so that a share of each class is held out, always the same ones.

    Raises:
        ValueError: when the labels are not known beforehand, or a class is too small.
    """
    from sklearn.model_selection import train_test_split

    if images.labels is None:
        raise ValueError("data.held_out needs a dataset whose labels are known: a folder, or one of torchvision's")
    try:
        kept, held = train_test_split(range(len(images)), test_size=share, stratify=images.labels, random_state=0)
    except ValueError as error:
        raise ValueError(f"cannot hold out {share:g} of every class (data.held_out): {error}") from None
    return Part(images, kept), Part(images, held)


class Samples(Dataset[tuple[Tensor, int, int]]):
    """Transformed images by draw.

    An item is `(image, label, bad)`: `bad` is the index of an image that could not be read, else −1. In its place
    stands the next one that can be; or, if told not to replace, or none of the next hundred can, an empty one that does
    not count.

    Args:
        images: what is read.
        transform: from a PIL image to a tensor; its random numbers, of Python, NumPy and PyTorch, follow the draw's
            seed.
        shape: of what it makes.
        replace: whether to read the next image in place of an unreadable one.
    """

    def __init__(
        self,
        images: Images,
        transform: Callable[[Image.Image], Tensor],
        shape: Sequence[int],
        *,
        replace: bool = False,
    ) -> None:
        self.images = images
        self.transform = transform
        self.shape = tuple(shape)
        self.replace = replace

    def __getitem__(self, draw: Draw) -> tuple[Tensor, int, int]:
        index, seed = draw
        bad = -1
        for place in range(index, index + (MAX_BAD_IN_A_ROW if self.replace else 1)):
            if index < 0:
                break
            try:
                image, label = self.images.read(place % len(self.images))
            except ImageError:
                bad = index
                continue
            with seeded(seed):
                return self.transform(image), label, bad
        return torch.zeros(self.shape), NOT_COUNTED, bad


class TrainingOrder(Sampler[Draw]):
    """Batches of one process: a new permutation every epoch, whole updates, from any place in it.

    Args:
        length: how many images there are.
        updates: of an epoch.
        batch_size: images in a batch of one process.
        accumulate: batches of each process that make an update.
        rank: which process this is.
        processes: how many there are.
        repeats: how often an image is drawn in an epoch; one that repeats draws from as many fewer images.
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
                # Processes take every so many places, so that an update's images are those of one process alone, and
                # copies of an image go to different ones.
                first = update * whole + step * self.batch_size * self.processes + self.rank
                places = range(first, first + self.batch_size * self.processes, self.processes)
                yield [(order[place], mixed(self.seed, self.epoch, place)) for place in places]


class ValidationOrder(Sampler[Draw]):
    """Batches of one process: its share of all images once, in order, filled up so that every process has as many."""

    def __init__(self, length: int, *, batch_size: int, rank: int = 0, processes: int = 1) -> None:
        self.length, self.batch_size, self.rank, self.processes = length, batch_size, rank, processes

    def __len__(self) -> int:
        return -(-self.length // (self.batch_size * self.processes))

    def __iter__(self) -> Iterator[list[Draw]]:  # type: ignore[override]
        for batch in range(len(self)):
            first = batch * self.batch_size * self.processes + self.rank
            places = range(first, first + self.batch_size * self.processes, self.processes)
            yield [(place if place < self.length else -1, 0) for place in places]

"""Images with class labels: folders, timm's and torchvision's datasets, and their splits."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from PIL import Image
from timm.data import create_dataset

from mlpzoo.images import ImageError, logger, read_image
from mlpzoo.tasks.classification_recipe import Data
from mlpzoo.train.data import Readable
from mlpzoo.train.sources import Split, open_registered, sources

TASK = "classification"
Mode = Literal["L", "RGB"]


class Images(Readable, Protocol):
    """Labelled images that can be read in any order, each as an image and its label."""

    @property
    def classes(self) -> Sequence[str] | None:
        """Names of the classes in order, where the data say."""

    @property
    def labels(self) -> Sequence[int] | None:
        """Label of each image, where known without reading it."""


class FileImages:
    """timm's readers of files and of Hugging Face datasets; the files are decoded by `mlpzoo.images.read_image`."""

    def __init__(self, reader: Any, mode: Mode, max_pixels: int | None = None) -> None:
        self.reader = reader
        self.mode: Mode = mode
        self.max_pixels = max_pixels
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
            name = self.name(index)
            # An epoch would repeat every remark on metadata.
            image = read_image(stream, self.mode, name=name, max_pixels=self.max_pixels, warn=logger.debug)
            return image, label

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


def open_images(data: Data, split: str, mode: Mode, **options: Any) -> Images:
    """Open a split of a dataset whose images can be read in any order.

    Raises:
        ValueError: when there is no such dataset or it holds no images.
    """
    if "/" not in data.dataset:
        own = ("folder", "torch/NAME", "hfds/NAME", "wds/NAME")
        part: Split = "train" if split == data.train_split else "validation"
        opened: Images | None = open_registered(TASK, data, part, *own)
        if opened is not None:
            return opened
    name = "" if data.dataset == "folder" else data.dataset
    try:
        dataset = create_dataset(
            name, root=data.root, split=split, download=data.download, input_img_mode=mode, **options
        )
    except (AssertionError, RuntimeError, ValueError, OSError) as error:
        raise ValueError(f"cannot open the split '{split}' of {data.dataset} {data.root or ''}: {error}") from None
    if hasattr(dataset, "reader"):
        return FileImages(dataset.reader, mode, data.max_pixels)
    return TorchvisionImages(dataset, mode)


def open_splits(data: Data, mode: Mode) -> tuple[Images, Images | None]:
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
    registered = data.dataset in sources(TASK)
    if data.held_out and not registered:
        return hold_out(train, data.held_out)
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


def numbered_as(images: Images, classes: Sequence[str], data: Data, split: str, mode: Mode) -> Images:
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

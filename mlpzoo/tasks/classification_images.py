"""Images with class labels: folders, timm's and torchvision's datasets, and their splits."""

from collections.abc import Sequence
from typing import Any, Protocol

from PIL import Image
from timm.data import create_dataset

from mlpzoo.images import ImageError, logger, read_image
from mlpzoo.tasks.classification_recipe import STREAMS, Data
from mlpzoo.tasks.image_folder import ImageFolder, Mode
from mlpzoo.train.config import DataError, RecipeError, did_you_mean
from mlpzoo.train.data import Readable
from mlpzoo.train.sources import SPLIT_NAMES, Split, open_registered, sources, split_folder, split_name

TASK = "classification"
KINDS = ("torch", "hfds", *STREAMS)
"""Kinds of timm's datasets."""
TORCH_FOLDERS = ("image_folder", "folder")
TORCH_PARTS = ("cifar10", "cifar100", "mnist", "kmnist", "fashion_mnist", "qmnist")
"""torchvision's datasets of which timm opens the training part for the usual names of it, and else the test part."""
TORCH = (*TORCH_FOLDERS, *TORCH_PARTS, "imagenet", "places365", "inaturalist", "inat")


class Images(Readable, Protocol):
    """Labelled images that can be read in any order, each as an image and its label."""

    @property
    def classes(self) -> Sequence[str] | None:
        """Names of the classes in order, where the data say."""

    @property
    def labels(self) -> Sequence[int] | None:
        """Label of each image, where known without reading it."""


class FileImages:
    """timm's readers of Hugging Face datasets; the files are decoded by `mlpzoo.images.read_image`."""

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


def check_dataset(name: str) -> None:
    """Refuse what is no dataset of timm's, whose own fallback is a folder.

    Raises:
        RecipeError: naming the nearest.
    """
    kind, slash, rest = name.partition("/")
    if not slash:
        return
    if kind.lower() not in KINDS:
        known = ", ".join(f"{kind}/NAME" for kind in KINDS)
        raise RecipeError(f"unknown data set '{name}' (data.dataset){did_you_mean(kind, KINDS)}: {known}")
    if kind.lower() == "torch" and rest.lower() not in TORCH:
        near = did_you_mean(rest, TORCH)
        raise RecipeError(f"torchvision has no data set '{rest}' (data.dataset){near}: {', '.join(TORCH)}")


def open_images(
    data: Data, split: Split, mode: Mode, *, classes: Sequence[str] | None = None, warn: bool = True
) -> Images:
    """Open a split of a dataset whose images can be read in any order.

    Args:
        data: the recipe's section.
        split: which of the two that it names.
        mode: of the images.
        classes: the classes in order that the labels are to number; those of the data if None.
        warn: whether to log what is left out of a folder.

    Raises:
        DataError: when there is no such dataset or split, it holds no images, or has other classes.
    """
    check_dataset(data.dataset)
    if "/" in data.dataset:
        images = _open_timm(data, split, mode)
    else:
        own = ("folder", "torch/NAME", "hfds/NAME", "wds/NAME")
        opened: Images | None = open_registered(TASK, data, split, *own)
        if opened is None:
            whole = split == "train" and (data.held_out > 0 or data.validation_split is None)
            folder = split_folder(data, split, whole=whole)
            return ImageFolder(folder, mode, classes=classes, max_pixels=data.max_pixels, warn=warn)
        images = opened
    if classes and images.classes is not None and list(images.classes) != list(classes):
        raise DataError(
            f"'{split_name(data, split)}' of {data.dataset} {data.root or ''} has other classes than were trained on, "
            f"or in another order: {', '.join(list(images.classes)[:5])}, …; trained on: {', '.join(classes[:5])}, …"
        )
    return images


def _open_timm(data: Data, split: Split, mode: Mode) -> Images:
    """A dataset of timm's, in a split that it has: its own fallbacks are all of the images, and the test part."""
    name = split_name(data, split) or ""
    kind, _, rest = data.dataset.lower().partition("/")
    root = data.root
    if kind == "torch" and rest in TORCH_FOLDERS:
        open_registered(TASK, data.model_copy(update={"dataset": "folder"}), split, "folder")
        root = str(split_folder(data, split))
    elif kind == "torch" and rest in TORCH_PARTS:
        known = (*SPLIT_NAMES["train"], *SPLIT_NAMES["validation"], "test")
        if name not in known:
            near = did_you_mean(name, known)
            raise DataError(f"{data.dataset} has no split '{name}' (data.{split}_split){near}: {', '.join(known)}")
    try:
        dataset = create_dataset(
            data.dataset, root=root, split=name, search_split=False, download=data.download, input_img_mode=mode
        )
    except (AssertionError, RuntimeError, ValueError, OSError, ImportError) as error:
        raise DataError(f"cannot open the split '{name}' of {data.dataset} {data.root or ''}: {error}") from None
    if hasattr(dataset, "reader"):
        return FileImages(dataset.reader, mode, data.max_pixels)
    return TorchvisionImages(dataset, mode)


def open_splits(
    data: Data, mode: Mode, *, classes: Sequence[str] | None = None, warn: bool = True
) -> tuple[Images, Images | None]:
    """Open what to train on and what to validate on, of the same classes; for arguments see `open_images`.

    Raises:
        DataError: when there are no images, less than two classes, classes in validation alone, or images that would
            be in both.
    """
    train = open_images(data, "train", mode, classes=classes, warn=warn)
    if train.classes is not None and len(train.classes) < 2:
        raise DataError(
            f"{getattr(train, 'folder', data.root)} has {len(train.classes)} class: a folder of images needs two or "
            "more, each a subfolder"
        )
    if data.held_out and data.dataset not in sources(TASK):
        return hold_out(train, data.held_out)
    if data.validation_split is None:
        return train, None
    held = open_images(data, "validation", mode, classes=train.classes, warn=warn)
    if isinstance(train, ImageFolder) and isinstance(held, ImageFolder):
        both = train.real_paths() & held.real_paths()
        if both:
            raise DataError(
                f"{train.folder} and {held.folder} hold the same {len(both):,} image{'s' * (len(both) > 1)}, such as "
                f"{min(both)}: what is validated on must not be trained on"
            )
    return train, held


def hold_out(images: Images, share: float) -> tuple[Part, Part]:
    """Split images so that a share of each class is held out, always the same ones.

    Raises:
        ValueError: when the labels are not known beforehand, or a class is too small.
    """
    from sklearn.model_selection import train_test_split

    if images.labels is None:
        raise DataError("data.held_out needs a dataset whose labels are known: a folder, or one of torchvision's")
    try:
        kept, held = train_test_split(range(len(images)), test_size=share, stratify=images.labels, random_state=0)
    except ValueError as error:
        raise RecipeError(f"cannot hold out {share:g} of every class (data.held_out): {error}") from None
    return Part(images, kept), Part(images, held)

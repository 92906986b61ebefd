"""A folder of classified images: each folder in it is a class, and every image below belongs to it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from PIL import Image

from mlpzoo.images import logger, read_image
from mlpzoo.train.config import DataError
from mlpzoo.train.image_files import LINKED, ImageFinder, folders_in, is_data, leads_back

Mode = Literal["L", "RGB"]


class ImageFolder:
    """The images of a folder, in every format that `mlpzoo.images` reads, each once by its real path.

    Hidden folders, images beside the class folders, and links that lead back make no class.

    Args:
        folder: whose folders are the classes.
        mode: of the images.
        classes: names of the classes in order; those of the folder, `2` before `10`, if None.
        max_pixels: how many pixels an image may have, see `read_image`.
        warn: whether to log what is left out.

    Attributes:
        folder: as given.
        files: the image files, class by class.
        classes: names of the classes in order.
        labels: of each image, the place of its class among these.

    Raises:
        DataError: when the folder cannot be read, a class has no image, or is none of `classes`.
    """

    def __init__(
        self,
        folder: Path,
        mode: Mode,
        *,
        classes: Sequence[str] | None = None,
        max_pixels: int | None = None,
        warn: bool = True,
    ) -> None:
        self.folder, self.max_pixels = folder, max_pixels
        self.mode: Mode = mode
        finder = ImageFinder()
        names = []
        for name in folders_in(folder):
            if leads_back(folder / name):
                finder.left_out[LINKED] += 1
            else:
                names.append(name)
        self.classes = list(names if classes is None else classes)
        unknown = set(names) - set(self.classes)
        if unknown:
            raise DataError(f"'{folder.name}' has classes that were not trained on: {', '.join(sorted(unknown)[:5])}")
        beside = sum(is_data(entry.name) and not entry.is_dir() for entry in os.scandir(folder))
        if beside:
            finder.left_out["beside the class folders"] = beside
        found = finder.find([folder / name for name in names])
        for name, files in zip(names, found, strict=True):
            if not files:
                left = f"; left out of {folder}: {finder.summary()}" if finder.left_out else ""
                raise DataError(f"the class folder {folder / name} holds no image: add some, or remove it{left}")
        if warn:
            finder.report(folder)
        number = {name: i for i, name in enumerate(self.classes)}
        self.files = [file for files in found for file in files]
        self.labels = [number[name] for name, files in zip(names, found, strict=True) for _ in files]

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> tuple[Image.Image, int]:
        """An image and its label."""
        # An epoch would repeat every remark on metadata.
        image = read_image(self.files[index], self.mode, max_pixels=self.max_pixels, warn=logger.debug)
        return image, self.labels[index]

    def name(self, index: int) -> str:
        """The file."""
        return self.files[index]

    def real_paths(self) -> set[str]:
        """Where the files really are."""
        return {os.path.realpath(file) for file in self.files}

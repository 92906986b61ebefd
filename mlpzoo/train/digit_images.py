"""Handwritten digits as images to train on: the 1,797 scans of 8×8 pixels that come with scikit-learn.

They are from the UCI set "Optical Recognition of Handwritten Digits".
"""

import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

HELD_OUT = 0.2
"""Share of the digits that every recipe holds out."""


class DigitImages:
    """All digits in scikit-learn's order: gray images, ink bright on dark.

    Raises:
        ImportError: when scikit-learn is missing, saying how to install it.
    """

    def __init__(self) -> None:
        if not importlib.util.find_spec("sklearn"):
            raise ImportError("the digits come with scikit-learn: pip install 'mlpzoo[demo]'")
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        # Kept as the 8-bit images they would be on disk, so that a digit read from a file is the one trained on.
        self.pixels = np.rint(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
        self.labels: Sequence[int] = labels.tolist()
        self.classes: Sequence[str] = [str(digit) for digit in range(10)]

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> tuple[Image.Image, int]:
        """A digit and what it is."""
        return Image.fromarray(self.pixels[index]), self.labels[index]

    def name(self, index: int) -> str:
        """Its place in scikit-learn's order."""
        return f"digit {index}"


def write_digits(folder: str | Path, classes: Iterable[int] = range(10), *, size: int = 8) -> int:
    """Write the digits as PNG files, `train/NAME/…` and `validation/NAME/…`, a subfolder for each class.

    Args:
        folder: where to; made if missing.
        classes: which of the ten digits.
        size: side of the files in pixels; enlarged without smoothing if more than 8.

    Returns:
        How many files were written.

    Raises:
        ImportError: when scikit-learn is missing.
        ValueError: for no digit.
    """
    from mlpzoo.train.data import hold_out

    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    wanted = set(classes)
    if not wanted <= set(range(10)):
        raise ValueError(f"the digits are 0 to 9, got {sorted(wanted)}")
    written = 0
    for split, part in zip(("train", "validation"), hold_out(DigitImages(), HELD_OUT), strict=True):
        for i in range(len(part)):
            image, label = part.read(i)
            if label in wanted:
                path = Path(folder) / split / names[label] / f"{part.indices[i]:04d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                image.resize((size, size), Image.Resampling.NEAREST).save(path)
                written += 1
    return written

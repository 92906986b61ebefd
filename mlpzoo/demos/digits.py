"""Handwritten digits as images to train on: the 1,797 scans of 8×8 pixels that come with scikit-learn.

They are from the UCI set "Optical Recognition of Handwritten Digits".
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mlpzoo.demos.packages import require
from mlpzoo.models.mixer import MlpMixer
from mlpzoo.registry import create_model
from mlpzoo.tasks.classification_images import Part, hold_out
from mlpzoo.train.sources import Split
from mlpzoo.transforms import create_transform

HELD_OUT = 0.2
"""Share of the digits that is held out where a recipe does not say."""
SAMPLE_SIZE = 64
"""Side in pixels of the digits written as image files."""


class DigitImages:
    """All digits in scikit-learn's order: gray images, ink bright on dark.

    Raises:
        ImportError: when scikit-learn is missing, saying how to install it.
    """

    def __init__(self) -> None:
        require("sklearn")
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


def open_digits(data: Any, split: Split) -> Part:
    """The digits of a split; the share that `data.held_out` says is held out, always the same ones.

    Raises:
        ImportError: when scikit-learn or matplotlib is missing, saying how to install them.
    """
    require("sklearn", "matplotlib")
    return hold_out(DigitImages(), data.held_out or HELD_OUT)[0 if split == "train" else 1]


def illustrate_digits(task: Any, folder: Path, figures: Mapping[str, float]) -> None:
    """Draw what a network trained on digits says of the held-out ones, and write some of them as image files.

    Args:
        task: the classification, trained.
        folder: that holds the network; gets `predictions.png`, `token_mixing.png` for a Mixer, and `samples/`.
        figures: what the last validation found.
    """
    from mlpzoo.demos.pictures import draw_predictions, draw_token_mixing

    held = task.validation_items
    if held is None:
        return
    network = create_model(f"local-dir:{folder}").eval()
    transform = create_transform(network)
    inputs = torch.stack([transform(held.read(i)[0]) for i in range(len(held))])
    with torch.inference_mode():
        predicted = network(inputs).argmax(dim=1)
    draw_predictions(folder / "predictions.png", held.images.pixels[held.indices], held.labels, predicted.tolist())
    if isinstance(network, MlpMixer):
        weight = network.get_parameter("blocks.0.mlp_tokens.fc1.weight")
        draw_token_mixing(folder / "token_mixing.png", weight.detach().numpy(), network.stem.grid_size)
    write_samples(folder / "samples", held)


def write_samples(folder: Path, digits: Part) -> None:
    """Write the first digit of each class as an image file, enlarged without smoothing."""
    folder.mkdir(exist_ok=True)
    labels = list(digits.labels or ())
    for number, index in enumerate(sorted(labels.index(label) for label in set(labels))):
        image, label = digits.read(index)
        image = image.resize((SAMPLE_SIZE, SAMPLE_SIZE), Image.Resampling.NEAREST)
        image.save(folder / f"sample-{number:02d}-label-{label}.png")

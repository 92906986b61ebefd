"""Scenes to detect digits in: handwritten digits blended onto photographs, with exact boxes.

The digits are scikit-learn's scans, enlarged smoothly; the photographs come with scikit-image and scikit-learn. Digits
and photographs of held-out scenes are in no scene to train on. A seed makes a scene, always the same one.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Literal

import numpy as np
from PIL import Image

from mlpzoo.train.data import hold_out
from mlpzoo.train.digit_images import HELD_OUT, DigitImages

SIZE = 128
"""Side of a scene in pixels."""
DIGITS = (2, 6)
"""Fewest and most digits of a scene."""
SCALE = (18, 56)
"""Least and greatest side, in pixels, of what the 8×8 pixels of a scan are enlarged to; their logarithm is uniform."""
OVERLAP = 0.05
"""Largest share of a box that another one covers."""
PHOTOGRAPHS: dict[str, Sequence[str]] = {
    "train": ("astronaut", "coffee", "rocket", "china.jpg"),
    "held_out": ("chelsea", "flower.jpg"),
}
"""Those with a suffix are scikit-learn's, the others scikit-image's; all come with the packages."""
CLASSES = tuple(map(str, range(10)))

TRIES = 20
FAINTEST = 0.15
"""Opacity of the faintest ink: what would be fainter is left out, so that a box ends where ink is seen."""

Split = Literal["train", "held_out"]


@dataclasses.dataclass(frozen=True)
class Scene:
    """An image and what is in it.

    Attributes:
        image: `(SIZE, SIZE, 3)`, uint8.
        boxes: `(digits, 4)`, left, top, right and bottom in pixels, float32; the ink touches all four sides.
        labels: the class of each, 0 to 9.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: tuple[int, ...]


class Scenes:
    """Scenes of one split, by seed.

    Args:
        split: `"train"`, or `"held_out"` for digits and photographs that no training scene has.

    Raises:
        ImportError: when scikit-learn or scikit-image is missing, saying how to install them.
    """

    def __init__(self, split: Split) -> None:
        digits = hold_out(DigitImages(), HELD_OUT)[0 if split == "train" else 1]
        scans = [digits.read(i) for i in range(len(digits))]
        # Enlarging needs dark all around, or ink at the border of a scan would be cut off.
        self.scans = [(Image.fromarray(np.pad(np.asarray(scan), 1)), label) for scan, label in scans]
        self.photographs = [read_photograph(name) for name in PHOTOGRAPHS[split]]

    def compose(self, seed: int) -> Scene:
        """The scene of a seed."""
        rng = np.random.default_rng(seed)
        canvas = self._background(rng).astype(np.float32)
        boxes: list[tuple[int, int, int, int]] = []
        labels: list[int] = []
        for _ in range(rng.integers(DIGITS[0], DIGITS[1] + 1)):
            scan, label = self.scans[rng.integers(len(self.scans))]
            ink = enlarge(scan, round(float(np.exp(rng.uniform(*np.log(SCALE))))))
            height, width = ink.shape
            for _ in range(TRIES):
                left, top = int(rng.integers(SIZE - width + 1)), int(rng.integers(SIZE - height + 1))
                box = (left, top, left + width, top + height)
                if not any(_covers(box, other) > OVERLAP for other in boxes):
                    _write_on(canvas[top : top + height, left : left + width], ink, rng)
                    boxes.append(box)
                    labels.append(label)
                    break
        return Scene(np.rint(canvas).astype(np.uint8), np.array(boxes, dtype=np.float32), tuple(labels))

    def _background(self, rng: np.random.Generator) -> np.ndarray:
        """A part of a photograph, at its own scale or reduced, perhaps mirrored."""
        photograph = self.photographs[rng.integers(len(self.photographs))]
        side = int(rng.integers(SIZE, min(photograph.size) // 2 + SIZE // 2 + 1))
        left, top = (int(rng.integers(length - side + 1)) for length in photograph.size)
        part = photograph.crop((left, top, left + side, top + side)).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        pixels = np.asarray(part)
        return pixels[:, ::-1] if rng.integers(2) else pixels


def read_photograph(name: str) -> Image.Image:
    """A photograph in RGB that comes with scikit-image, or with scikit-learn where the name has a suffix.

    Raises:
        ImportError: when that package is missing.
    """
    try:
        if name.endswith(".jpg"):
            from sklearn.datasets import load_sample_image

            return Image.fromarray(load_sample_image(name))
        import skimage.data

        return Image.fromarray(getattr(skimage.data, name)())
    except ModuleNotFoundError as error:
        raise ImportError(f"the photographs come with {error.name}: pip install 'mlpzoo[demo]'") from None


def enlarge(scan: Image.Image, side: int) -> np.ndarray:
    """The ink of a scan enlarged, as opacities in [0, 1]; every side of the array has some.

    Args:
        scan: 10×10 pixels, ink bright on dark, the outer ones dark.
        side: pixels that 8 of its pixels become.
    """
    length = round(side * scan.width / 8)
    gray = np.asarray(scan.resize((length, length), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    ink = np.clip((gray - 0.2) / 0.4, 0, 1)
    ink[ink < FAINTEST] = 0
    rows, columns = ink.any(1).nonzero()[0], ink.any(0).nonzero()[0]
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _write_on(patch: np.ndarray, ink: np.ndarray, rng: np.random.Generator) -> None:
    """Blend ink onto a part of a canvas, in a colour that stands out from what is there."""
    there = float(patch.mean())
    colour = rng.uniform(0, 80, 3) if there > 127 else rng.uniform(175, 255, 3)
    patch += ink[:, :, None] * (colour.astype(np.float32) - patch)


def _covers(box: Sequence[int], other: Sequence[int]) -> float:
    """The share of the smaller box that both cover."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    smaller = min((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other))
    return max(width, 0) * max(height, 0) / smaller


@functools.cache
def scenes_of(split: Split) -> Scenes:
    """The scenes of a split, read once."""
    return Scenes(split)

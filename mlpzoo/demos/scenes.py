"""Scenes for detecting digits: handwritten digits blended onto photographs, with exact boxes.

The digits are scikit-learn's scans, enlarged smoothly; the photographs come with scikit-image and scikit-learn. Digits
and photographs of validation scenes are in no training scene. The same seed always gives the same scene.
"""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mlpzoo.demos.digits import HELD_OUT, DigitImages
from mlpzoo.demos.packages import require
from mlpzoo.demos.photographs import read_photograph
from mlpzoo.tasks.classification_images import hold_out
from mlpzoo.tasks.coco import Target, coco_annotations, to_image, to_target, write_coco
from mlpzoo.tasks.detector import load_detector, to_boxes
from mlpzoo.train.randomness import mixed
from mlpzoo.train.sources import Split

SIZE = 128
"""Side of a scene in pixels."""
DIGITS = (2, 6)
"""Fewest and most digits of a scene."""
SCALE = (18, 56)
"""Least and greatest side, in pixels, of what the 8×8 pixels of a scan are enlarged to; their logarithm is uniform."""
OVERLAP = 0.05
"""Largest share of a box that another one covers."""
PHOTOGRAPHS: dict[Split, Sequence[str]] = {
    "train": ("astronaut", "coffee", "rocket", "china.jpg"),
    "validation": ("chelsea", "flower.jpg"),
}
"""Those with a suffix are scikit-learn's, the others scikit-image's; all come with the packages."""
CLASSES = tuple(map(str, range(10)))

TRIES = 20
FAINTEST = 0.15
"""Opacity of the faintest ink: what would be fainter is left out, so that a box ends where ink is seen."""
SHOWN = 12
"""Scenes in the picture."""
SCORE_THRESHOLD = 0.5
"""Least score of what is drawn."""


class Scenes:
    """Scenes of one split, composed when they are read.

    A training scene follows the seed with which it is read; the scenes to validate on are always the same.

    Args:
        split: `"train"`, or `"validation"` for digits and photographs that no training scene has.
        length: how many scenes there are.

    Raises:
        ImportError: when scikit-learn or scikit-image is missing, saying how to install them.
    """

    classes = CLASSES

    def __init__(self, split: Split, length: int) -> None:
        self.split, self.length = split, length
        digits = hold_out(DigitImages(), HELD_OUT)[0 if split == "train" else 1]
        scans = [digits.read(i) for i in range(len(digits))]
        # Enlarging needs dark all around, or ink at the border of a scan would be cut off.
        self.scans = [(Image.fromarray(np.pad(np.asarray(scan), 1)), label) for scan, label in scans]
        self.photographs = [read_photograph(name) for name in PHOTOGRAPHS[split]]

    def __len__(self) -> int:
        return self.length

    def read(self, index: int, seed: int = 0) -> tuple[Image.Image, Target]:
        """A scene of `SIZE` pixels square, and the box and class of each digit; the ink touches all four sides."""
        return self.compose(seed if self.split == "train" else mixed(index))

    def name(self, index: int) -> str:
        """Its number."""
        return f"scene {index}"

    def annotations(self) -> dict[str, Any]:
        """All scenes in COCO's format."""
        return coco_annotations([(SIZE, SIZE)] * len(self), [self.read(i)[1] for i in range(len(self))], CLASSES)

    def compose(self, seed: int) -> tuple[Image.Image, Target]:
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
        return Image.fromarray(np.rint(canvas).astype(np.uint8)), to_target(np.array(boxes), labels)

    def _background(self, rng: np.random.Generator) -> np.ndarray:
        """A part of a photograph, at its own scale or reduced, perhaps mirrored."""
        photograph = self.photographs[rng.integers(len(self.photographs))]
        side = int(rng.integers(SIZE, min(photograph.size) // 2 + SIZE // 2 + 1))
        left, top = (int(rng.integers(length - side + 1)) for length in photograph.size)
        part = photograph.crop((left, top, left + side, top + side)).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        pixels = np.asarray(part)
        return pixels[:, ::-1] if rng.integers(2) else pixels


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


@functools.lru_cache(maxsize=4)
def scenes_of(split: Split, length: int = 1) -> Scenes:
    """The scenes of a split, whose digits and photographs are read once."""
    return Scenes(split, length)


def open_scenes(data: Any, split: Split) -> Scenes:
    """As many scenes as `data.length` or `data.validation_length` says.

    Raises:
        ImportError: when a package is missing, saying how to install it.
        ValueError: when the recipe does not say how many scenes there are.
    """
    require("sklearn", "skimage", "matplotlib")
    length = data.length if split == "train" else data.validation_length
    if length is None:
        raise ValueError("scenes are made on the fly: say by data.length and data.validation_length how many")
    return scenes_of(split, length)


def illustrate_scenes(task: Any, folder: Path, figures: Mapping[str, float]) -> None:
    """Write the scenes validated on as a COCO data set, and draw what the detector finds in the first of them.

    Args:
        task: the detection, trained.
        folder: that holds the detector; gets `held_out/` and `detections.png`.
        figures: what the last validation found.
    """
    from mlpzoo.demos.pictures import Panel, draw_detections

    if task.held is None:
        return
    write_coco(folder / "held_out", task.held)
    detector = load_detector(folder, device=task.device)
    panels = []
    with torch.inference_mode():
        for i in range(min(SHOWN, len(task.held))):
            image, target = task.held.read(i)
            (found,) = detector([to_image(image).to(task.device)])
            truth = to_boxes({**target, "scores": torch.ones(len(target["labels"]))}, CLASSES, 0)
            panels.append(Panel(np.asarray(image), to_boxes(found, CLASSES, SCORE_THRESHOLD), truth))
    parameters = sum(parameter.numel() for parameter in detector.parameters())
    draw_detections(
        folder / "detections.png",
        panels,
        title=f"Held-out digits on held-out photographs: AP {figures['ap']:.3f}, AP50 {figures['ap50']:.3f}",
        subtitle=f"FCOS on {task.recipe.model.name}, {parameters:,} parameters; AP over {len(task.held)} scenes, the "
        f"first {len(panels)} shown, scores of {SCORE_THRESHOLD} and more",
    )

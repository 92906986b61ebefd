"""COCO data sets on disk, and the average precision of detections on them."""

import contextlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mlpzoo.images import logger, read_image
from mlpzoo.train._run import publish, staging
from mlpzoo.train.config import DataError
from mlpzoo.train.data import Readable

ANNOTATIONS = "annotations.json"
IMAGES = "images"

Target = dict[str, Tensor]
"""What torchvision's detectors train on: `boxes`, `(objects, 4)` in pixels, and `labels` from 1, 0 being background."""


class DetectionData(Readable, Protocol):
    """Images with boxes, as the detection task reads them."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes."""

    def read(self, index: int, seed: int = 0) -> tuple[Image.Image, Target]:
        """An image and what is in it. Data made on the fly follow the seed."""

    def annotations(self) -> dict[str, Any]:
        """All boxes in COCO's format, images in order."""


def to_target(boxes: np.ndarray, labels: Iterable[int]) -> Target:
    """Boxes, `(objects, 4)`, and labels from 0 to a target for torchvision."""
    return {
        "boxes": torch.from_numpy(np.asarray(boxes, dtype=np.float32).reshape(-1, 4)),
        "labels": torch.tensor([label + 1 for label in labels], dtype=torch.int64),
    }


def to_image(pixels: Image.Image | np.ndarray) -> Tensor:
    """`(height, width, 3)` in uint8 to `(3, height, width)` in [0, 1]."""
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1).float() / 255


def coco_annotations(images: Sequence[tuple[int, int]], targets: Iterable[Target], classes: Sequence[str]) -> Any:
    """COCO's annotations of images named `000000.png`, …; the category of class 0 is 1.

    Args:
        images: width and height of each.
        targets: what is in each.
        classes: names of the classes.
    """
    annotations: list[dict[str, Any]] = []
    for number, target in enumerate(targets, 1):
        for (left, top, right, bottom), label in zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True):
            box = [left, top, right - left, bottom - top]
            about = {"id": len(annotations) + 1, "image_id": number, "category_id": label, "iscrowd": 0}
            annotations.append({**about, "bbox": box, "area": box[2] * box[3]})
    return {
        "images": [
            {"id": i + 1, "file_name": f"{i:06d}.png", "height": height, "width": width}
            for i, (width, height) in enumerate(images)
        ],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(classes, 1)],
    }


def write_coco(folder: str | Path, data: DetectionData) -> None:
    """Write images with boxes as a COCO data set: `images/…` and `annotations.json`.

    Raises:
        OSError: when the folder cannot be written.
    """
    content = data.annotations()
    with staging(Path(folder)) as partial:
        (partial / IMAGES).mkdir()
        for i, image in enumerate(content["images"]):
            data.read(i)[0].save(partial / IMAGES / image["file_name"])
        (partial / ANNOTATIONS).write_text(json.dumps(content), encoding="utf-8")
        publish(partial, Path(folder))


class CocoFolder:
    """A COCO data set on disk; crowds and boxes without area are left out of the targets.

    Args:
        folder: with `annotations.json` and `images/`.
        max_pixels: how many pixels an image may have, see `mlpzoo.images.read_image`.

    Attributes:
        files: the image files, in order of COCO's numbers.
        classes: names of the classes, in order of COCO's numbers.

    Raises:
        DataError: when it is no such data set, saying what is wrong.
    """

    def __init__(self, folder: str | Path, *, max_pixels: int | None = None) -> None:
        self.max_pixels = max_pixels
        self.path = Path(folder) / ANNOTATIONS
        try:
            self.content = json.loads(self.path.read_text(encoding="utf-8"))
            images = self.content["images"] = sorted(self.content["images"], key=lambda image: image["id"])
            self.files = [Path(folder) / IMAGES / Path(image["file_name"]).name for image in images]
            categories = sorted(self.content["categories"], key=lambda category: category["id"])
            self.classes = tuple(str(category["name"]) for category in categories)
            number = {category["id"]: i for i, category in enumerate(categories)}
            found: dict[int, list[tuple[list[float], int]]] = {int(image["id"]): [] for image in images}
            for annotation in self.content["annotations"]:
                left, top, width, height = map(float, annotation["bbox"])
                label = number[annotation["category_id"]]
                if not annotation.get("iscrowd") and width > 0 and height > 0:
                    found[annotation["image_id"]].append(([left, top, left + width, top + height], label))
        except OSError as error:
            raise DataError(f"{folder} holds no COCO data set: cannot read {ANNOTATIONS}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.path} is no COCO annotation file: {type(error).__name__}: {error}") from None
        self.objects = list(found.values())

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int, seed: int = 0) -> tuple[Image.Image, Target]:
        """An image and what is in it.

        Raises:
            ImageError: when its file cannot be read.
        """
        boxes = np.array([box for box, _ in self.objects[index]], dtype=np.float32)
        image = read_image(self.files[index], max_pixels=self.max_pixels, warn=logger.debug)
        return image, to_target(boxes, [label for _, label in self.objects[index]])

    def name(self, index: int) -> str:
        """The file."""
        return str(self.files[index])

    def annotations(self) -> dict[str, Any]:
        """The content of `annotations.json`, images in order."""
        return self.content


def require_pycocotools() -> tuple[Any, Any]:
    """The classes of pycocotools that compute average precision.

    Raises:
        ImportError: when it is missing, saying how to install it.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise ImportError("average precision is computed by pycocotools: pip install 'mlpzoo[dense]'") from None
    return COCO, COCOeval


def average_precision(annotations: dict[str, Any], found: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
    """COCO's average precision of detections, computed by pycocotools.

    Args:
        annotations: the true boxes, in COCO's format.
        found: for each image in order the `boxes`, `labels` from 1 and `scores` that torchvision's detectors give.
            Label i is the i-th category in order of COCO's numbers.

    Returns:
        `ap`, the mean over classes and over overlaps of 0.5 to 0.95, `ap50` and `ap75`, those of one overlap.

    Raises:
        ImportError: when pycocotools is missing, saying how to install it.
        ValueError: when there are not as many detections as images.
    """
    images = annotations["images"]
    if len(found) != len(images):
        raise ValueError(f"got detections of {len(found)} images, but there are {len(images)}")
    categories = sorted(category["id"] for category in annotations["categories"])
    coco_type, evaluation_type = require_pycocotools()
    answers = [
        {
            "image_id": image["id"],
            "category_id": categories[label - 1],
            "bbox": [left, top, right - left, bottom - top],
            "score": score,
        }
        for image, detections in zip(images, found, strict=True)
        for (left, top, right, bottom), label, score in zip(
            detections["boxes"].tolist(), detections["labels"].tolist(), detections["scores"].tolist(), strict=True
        )
    ]
    if not answers:
        # pycocotools infers the kind of detections from the first one.
        return {"ap": 0.0, "ap50": 0.0, "ap75": 0.0}
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco_type()
        # pycocotools writes into the annotations.
        truth.dataset = json.loads(json.dumps(annotations))
        truth.createIndex()
        evaluation = evaluation_type(truth, truth.loadRes(answers), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    ap, ap50, ap75 = evaluation.stats[:3].tolist()
    return {"ap": ap, "ap50": ap50, "ap75": ap75}

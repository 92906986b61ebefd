"""COCO data sets of scenes on disk, and the average precision of detections on them."""

import contextlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from mlpzoo.inference import read_image
from mlpzoo.train._run import publish, staging
from mlpzoo.train.scenes import CLASSES, Scene

ANNOTATIONS = "annotations.json"
IMAGES = "images"

Target = dict[str, Tensor]


def to_target(boxes: np.ndarray, labels: Iterable[int]) -> Target:
    """What torchvision's detectors train on: labels count from 1, as 0 is the background."""
    return {
        "boxes": torch.from_numpy(np.asarray(boxes, dtype=np.float32).reshape(-1, 4)),
        "labels": torch.tensor([label + 1 for label in labels], dtype=torch.int64),
    }


def to_image(pixels: np.ndarray) -> Tensor:
    """`(height, width, 3)` in uint8 to `(3, height, width)` in [0, 1]."""
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1).float() / 255


def write_coco(folder: str | Path, scenes: Iterable[Scene], classes: Sequence[str] = CLASSES) -> None:
    """Write scenes as a COCO data set: `images/000000.png`, … and `annotations.json`.

    Args:
        folder: where to; made if missing.
        scenes: what to write.
        classes: names of the classes; COCO's category of class 0 is 1.

    Raises:
        OSError: when the folder cannot be written.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    with staging(Path(folder)) as partial:
        (partial / IMAGES).mkdir()
        for number, scene in enumerate(scenes, 1):
            name = f"{number - 1:06d}.png"
            Image.fromarray(scene.image).save(partial / IMAGES / name)
            height, width = scene.image.shape[:2]
            images.append({"id": number, "file_name": name, "height": height, "width": width})
            for (left, top, right, bottom), label in zip(scene.boxes.tolist(), scene.labels, strict=True):
                box = [left, top, right - left, bottom - top]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": label + 1,
                        "bbox": box,
                        "area": box[2] * box[3],
                        "iscrowd": 0,
                    }
                )
        categories = [{"id": number, "name": name} for number, name in enumerate(classes, 1)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (partial / ANNOTATIONS).write_text(json.dumps(content))
        publish(partial, Path(folder))


class CocoScenes(Dataset[tuple[Tensor, Target]]):
    """A COCO data set that `write_coco` wrote: images in [0, 1] and targets for torchvision's detectors, in order.

    Args:
        folder: with `annotations.json` and `images`.

    Attributes:
        annotations: the file.
        image_ids: COCO's number of each image.
        classes: names of the classes.

    Raises:
        ValueError: when it is no such data set, saying what is wrong.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.annotations = self.folder / ANNOTATIONS
        try:
            content = json.loads(self.annotations.read_text())
            images = sorted(content["images"], key=lambda image: image["id"])
            self.image_ids = [int(image["id"]) for image in images]
            self.files = [self.folder / IMAGES / Path(image["file_name"]).name for image in images]
            categories = sorted(content["categories"], key=lambda category: category["id"])
            self.classes = tuple(str(category["name"]) for category in categories)
            number = {category["id"]: i for i, category in enumerate(categories)}
            found: dict[int, list[tuple[list[float], int]]] = {i: [] for i in self.image_ids}
            for annotation in content["annotations"]:
                left, top, width, height = map(float, annotation["bbox"])
                box = [left, top, left + width, top + height]
                found[annotation["image_id"]].append((box, number[annotation["category_id"]]))
        except OSError as error:
            raise ValueError(f"{folder} holds no COCO data set: cannot read {ANNOTATIONS}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.annotations} is no COCO annotation file: {type(error).__name__}: {error}"
            ) from None
        self.objects = [found[i] for i in self.image_ids]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        objects = self.objects[index]
        boxes = np.array([box for box, _ in objects], dtype=np.float32)
        return to_image(np.asarray(self.read(index))), to_target(boxes, [label for _, label in objects])

    def read(self, index: int) -> Image.Image:
        """An image.

        Raises:
            ImageError: when its file cannot be read.
        """
        return read_image(self.files[index])


def average_precision(data: CocoScenes, found: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
    """COCO's average precision of detections, by its own tools.

    Args:
        data: what was looked at.
        found: for each image in order the `boxes`, `labels` from 1 and `scores` that torchvision's detectors give.

    Returns:
        `ap`, the mean over classes and over overlaps of 0.5 to 0.95, `ap50` and `ap75`, those of one overlap.

    Raises:
        ImportError: when pycocotools is missing, saying how to install it.
        ValueError: when there are not as many answers as images.
    """
    if len(found) != len(data):
        raise ValueError(f"got answers for {len(found)} images, but there are {len(data)}")
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise ImportError("average precision is computed by pycocotools: pip install 'mlpzoo[dense]'") from None
    answers = [
        {
            "image_id": number,
            "category_id": label,
            "bbox": [left, top, right - left, bottom - top],
            "score": score,
        }
        for number, detections in zip(data.image_ids, found, strict=True)
        for (left, top, right, bottom), label, score in zip(
            detections["boxes"].tolist(), detections["labels"].tolist(), detections["scores"].tolist(), strict=True
        )
    ]
    if not answers:
        # pycocotools looks at the first answer to see what kind they are.
        return {"ap": 0.0, "ap50": 0.0, "ap75": 0.0}
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(data.annotations))
        evaluation = COCOeval(truth, truth.loadRes(answers), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    ap, ap50, ap75 = evaluation.stats[:3].tolist()
    return {"ap": ap, "ap50": ap50, "ap75": ap75}

"""Training of torchvision's FCOS on a network of the zoo.

Recipes name a registered data set, or `coco`: a folder with two subfolders, `data.train_split` and
`data.validation_split`, each with `annotations.json` in COCO's format and `images/`.
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from accelerate.utils import extract_model_from_parallel
from pydantic import Field
from torch import Tensor, nn

from mlpzoo.images import ImageError
from mlpzoo.tasks.coco import CocoFolder, DetectionData, Target, average_precision, require_pycocotools, to_image
from mlpzoo.tasks.detector import Detector, DetectorConfig, load_detector, save_detector
from mlpzoo.train import config
from mlpzoo.train.data import Samples
from mlpzoo.train.loaders import Place, TrainingBatches
from mlpzoo.train.sources import Split, open_registered, split_folder
from mlpzoo.train.task import Task

Batch = tuple[list[Tensor], list[Target]]


class Model(config.Model):
    """The detector to train."""

    name: str
    """The backbone: a name of `mlpzoo list`; the detector on it is torchvision's FCOS."""
    pretrained: bool = False
    """Whether to start from the backbone's released weights."""
    detector: dict[str, Any] = Field({})
    """Fields of `DetectorConfig`: out_indices, out_channels, min_size, max_size, …"""


class Data(config.Data):
    """The images and their boxes."""

    dataset: str = "coco"
    """`coco`, folders of images with `annotations.json`; or a registered data set."""
    batch_size: int = Field(8, ge=1)
    """Images in an update, over all processes and accumulated steps: results do not depend on how many there are."""
    hflip: config.Share = 0.0
    """Probability that a training image is flipped from left to right."""
    length: int | None = Field(None, ge=1)
    """Images of a training epoch, of data made on the fly."""
    validation_length: int | None = Field(None, ge=1)
    """Images validated on, of data made on the fly."""


class DetectionRecipe(config.Recipe):
    """A detector."""

    task: Literal["detection"]
    model: Model
    data: Data = Data()


class Detection(Task):
    """Images and boxes, a detector, and the sum of its losses; see `Task`."""

    name = "detection"
    recipe_type = DetectionRecipe
    best_by = "ap"
    formats: ClassVar = {
        "ap": ("AP, mean over overlaps of 0.5 to 0.95", "{:.3f}"),
        "ap50": ("AP50", "{:.3f}"),
        "ap75": ("AP75", "{:.3f}"),
    }
    curve = ("average precision", None, "ap")

    def __init__(self, recipe: DetectionRecipe, place: Place, *, training: bool = True) -> None:
        super().__init__(recipe, place, training=training)
        self.held: DetectionData | None = None
        if recipe.data.validation_split is not None:
            require_pycocotools()
            self.held = self.validation_items = open_detection(recipe.data, "validation")
        if training:
            data = open_detection(recipe.data, "train")
            self.detector = build(recipe.model, data.classes)
            make = functools.partial(_sample, data, recipe.data.hflip)
            samples = Samples(make, len(data), replace=recipe.data.on_bad_image == "skip")
            self.training, self.training_items = TrainingBatches(samples, recipe, place, collate=_columns), data
            self.updates_per_epoch = self.training.updates_per_epoch
        else:
            assert place.folder is not None
            self.detector = load_detector(place.folder)
        self.model: nn.Module = self.detector.to(self.device)
        classes = tuple(self.detector.config.classes)
        self.num_classes, self.class_names = len(classes), classes
        if self.held is not None and tuple(self.held.classes) != classes:
            raise ValueError(f"the validation data have the classes {self.held.classes}, the detector {classes}")

    def details(self, items: DetectionData) -> Iterable[object]:
        """The boxes of data on disk; those made on the fly follow from their settings."""
        return items.objects if isinstance(items, CocoFolder) else ()

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of the detector's losses."""
        losses = model(*batch)
        return torch.stack(list(losses.values())).sum(), {}

    def validate(self, model: nn.Module) -> dict[str, float]:
        """COCO's average precision on the validation images, each seen by one process."""
        if self.held is None:
            return {}
        found = sorted(self.gathered(self.find(model, self.held)), key=lambda pair: pair[0])
        annotations = self.held.annotations()
        if len(found) < len(self.held):
            kept = [annotations["images"][i] for i, _ in found]
            ids = {image["id"] for image in kept}
            boxes = [box for box in annotations["annotations"] if box["image_id"] in ids]
            annotations = {**annotations, "images": kept, "annotations": boxes}
        return average_precision(annotations, [detections for _, detections in found])

    def find(self, model: nn.Module, data: DetectionData) -> list[tuple[int, Target]]:
        """What a detector in evaluation mode finds in this process's share of images, with their indices, on the CPU.

        Raises:
            ImageError: for an unreadable image that the recipe does not skip.
        """
        model = extract_model_from_parallel(model, keep_fp32_wrapper=True)
        found = []
        for i in self.share(len(data)):
            try:
                image = to_image(data.read(i)[0])
            except ImageError:
                self.bad_images.note(data, torch.tensor([i]))
                continue
            (answer,) = model([image.to(self.device)])
            found.append((i, {name: value.cpu() for name, value in answer.items()}))
        return found

    def save(self, weights: Mapping[str, Tensor], folder: Path, about: Mapping[str, Any]) -> None:
        """Write a folder for `load_detector`."""
        save_detector(self.detector, folder, about=about, weights=weights)

    def probe(self) -> tuple[nn.Module, Tensor]:
        """The backbone with its feature pyramid, and an image of the detector's smallest size."""
        size = self.detector.config.min_size
        return self.detector.model.get_submodule("backbone"), torch.randn(1, 3, size, size, device=self.device)


def open_detection(data: Data, split: Split) -> DetectionData:
    """The images and boxes of a split.

    Raises:
        ValueError: when there is no such data set.
    """
    opened: DetectionData | None = open_registered("detection", data, split, "coco")
    return opened or CocoFolder(split_folder(data, split), max_pixels=data.max_pixels)


def build(section: Model, classes: Sequence[str]) -> Detector:
    """The detector of a recipe.

    Raises:
        ValueError: for an unknown network or option.
        mlpzoo.CheckpointError: when the backbone's weights cannot be had or do not fit.
    """
    known = {field.name for field in dataclasses.fields(DetectorConfig)} - {"backbone", "backbone_args", "classes"}
    unknown = sorted(set(section.detector) - known)
    if unknown:
        raise ValueError(f"model.detector has no option '{unknown[0]}': {', '.join(sorted(known))}")
    settings = DetectorConfig(
        backbone=section.name, backbone_args=section.options, classes=tuple(classes), **section.detector
    )
    start = {"pretrained": True} if section.pretrained else {}
    try:
        return Detector(settings, **start, **({"checkpoint_path": section.checkpoint} if section.checkpoint else {}))
    except TypeError as error:
        raise ValueError(f"model.options: {error}") from None


def _sample(data: DetectionData, hflip: float, index: int, seed: int) -> tuple[Tensor, Target]:
    """A training image, perhaps flipped, and its target."""
    pixels, target = data.read(index, seed)
    image = to_image(pixels)
    if hflip and torch.rand(()) < hflip:
        boxes = target["boxes"]
        flipped = torch.stack([image.shape[2] - boxes[:, 2], boxes[:, 1], image.shape[2] - boxes[:, 0], boxes[:, 3]], 1)
        return image.flip(2), {**target, "boxes": flipped}
    return image, target


def _columns(samples: list[tuple[Tensor, Target]]) -> Batch:
    """Lists of images and of targets; where a sample is missing, neither."""
    there = [sample for sample in samples if sample is not None]
    return [image for image, _ in there], [target for _, target in there]

"""A detector and its config, saved as a folder, and from image files to boxes."""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOSHead
from torchvision.transforms.functional import to_tensor

from mlpzoo.dense import fpn_backbone
from mlpzoo.images import MAX_ASPECT, FilePath, ImageError, read_image
from mlpzoo.tasks.detectors import build_detector
from mlpzoo.weights import CONFIG, CheckpointError, read_config, weights_file, write_folder
from mlpzoo.weights._files import open_tensors, shorten

KIND = "fcos"
STRIDES = (4, 8, 16, 32)
LARGEST = 4096
"""No setting of a detector is greater: a folder that says so is damaged, or means to exhaust memory."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """Everything an FCOS on a network of the zoo is built from.

    Attributes:
        backbone: a name of `mlpzoo.list_models()`.
        backbone_args: options of it and of `fpn_backbone`.
        classes: names of the classes, without the background.
        out_indices: which maps of the backbone are used, 0 to 3 for strides 4 to 32. A pooled one is added.
        out_channels: channels of the feature pyramid and the head, a multiple of 32.
        head_convs: convolutions before each of the head's answers.
        min_size: pixels that images' shorter sides are resized to.
        max_size: pixels that longer sides have at most.
        nms_thresh: of two boxes of one class that overlap more, the one of the lower score is dropped.
        detections_per_img: boxes of an image, at most.
        mean: of each image channel, of pixels in [0, 1].
        std: standard deviation of each.
    """

    backbone: str
    backbone_args: Mapping[str, Any]
    classes: Sequence[str]
    out_indices: Sequence[int] = (0, 1, 2)
    out_channels: int = 64
    head_convs: int = 2
    min_size: int = 128
    max_size: int = 256
    nms_thresh: float = 0.5
    detections_per_img: int = 20
    mean: Sequence[float] = (0.485, 0.456, 0.406)
    std: Sequence[float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        """Refuse values no detector can be built from."""
        for name in ("out_channels", "head_convs", "min_size", "max_size", "detections_per_img"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of 1 or more, got {value!r}")
        if self.min_size > self.max_size:
            raise ValueError(f"min_size must be at most max_size, {self.max_size}, got {self.min_size}")
        if isinstance(self.nms_thresh, str) or not 0 <= self.nms_thresh <= 1:
            raise ValueError(f"nms_thresh must be from 0 to 1, got {self.nms_thresh!r}")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if isinstance(values, str) or len(values) != 3 or any(not isinstance(v, int | float) for v in values):
                raise ValueError(f"{name} must be three numbers, one an image channel, got {values!r}")


class Detector(nn.Module):
    """torchvision's FCOS with a config from which it can be built again.

    Args:
        config: its settings.
        start: options of the backbone that are no part of the config, for they matter only once: `pretrained` and
            `checkpoint_path`.

    Attributes:
        config: those.
        model: torchvision's detector.

    Raises:
        ValueError: for settings that make no detector.
        TypeError: for an unknown option of the backbone.
    """

    def __init__(self, config: DetectorConfig, **start: Any) -> None:
        super().__init__()
        if not config.classes:
            raise ValueError("a detector needs the name of one class or more")
        self.config = config
        backbone = fpn_backbone(
            config.backbone,
            out_channels=config.out_channels,
            out_indices=tuple(config.out_indices),
            **{key: tuple(value) if isinstance(value, list) else value for key, value in config.backbone_args.items()},
            **start,
        )
        # FCOS wants one anchor a position, of the map's stride; the level that the FPN pools is as coarse again.
        strides = [STRIDES[i] for i in config.out_indices]
        sizes = tuple((stride,) for stride in [*strides, 2 * strides[-1]])
        num_classes = len(config.classes) + 1
        self.model = build_detector(
            KIND,
            backbone,
            num_classes,
            anchor_generator=AnchorGenerator(sizes, ((1.0,),) * len(sizes)),
            head=FCOSHead(config.out_channels, 1, num_classes, config.head_convs),
            min_size=config.min_size,
            max_size=config.max_size,
            score_thresh=0.05,
            nms_thresh=config.nms_thresh,
            detections_per_img=config.detections_per_img,
            image_mean=list(config.mean),
            image_std=list(config.std),
        )

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        """Images in [0, 1] and targets to losses by name in training, images to detections in evaluation."""
        return self.model(images, targets)


def save_detector(
    detector: Detector,
    folder: str | Path,
    *,
    about: Mapping[str, Any] | None = None,
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a detector so that `load_detector` rebuilds it; `config.json` takes its place last.

    Args:
        detector: what to write.
        folder: where to; made if missing.
        about: anything else worth keeping, as JSON.
        weights: values to write instead of the detector's own, such as a moving average.
    """
    config = dataclasses.asdict(detector.config)
    content = {
        "architecture": f"{KIND}_{config['backbone']}",
        "task": "detection",
        "detector": {"kind": KIND, **config},
        **({"about": dict(about)} if about else {}),
    }
    write_folder(folder, content, weights or detector.state_dict())


def load_detector(folder: str | Path, *, device: torch.device | str = "cpu") -> Detector:
    """Build the detector of a folder that `save_detector` wrote, with exactly its weights.

    Args:
        folder: the folder.
        device: where the detector is put.

    Returns:
        The detector in evaluation mode.

    Raises:
        mlpzoo.CheckpointError: when the folder holds no detector, or one that does not fit its weights.
    """
    config = _read_config(folder)
    path = weights_file(folder)
    with open_tensors(path) as file:
        try:
            with torch.device("meta"):
                # Without memory: the config could ask for any amount.
                expected = {name: tuple(value.shape) for name, value in Detector(config).state_dict().items()}
        except (ValueError, TypeError, AssertionError, RuntimeError, IndexError) as error:
            raise CheckpointError(f"no detector can be built from the config of {folder}: {error}") from None
        wrong = [name for name, shape in expected.items() if file.shapes.get(name) != shape]
        unknown = sorted(set(file.shapes) - set(expected))
        if wrong or unknown:
            problem = (
                f"misses, or has of another shape: {shorten(wrong)}" if wrong else f"has besides: {shorten(unknown)}"
            )
            raise CheckpointError(f"the weights are not those of the detector in {CONFIG}; the file {problem}")
        weights = {name: file.read(name) for name in expected}
    detector = Detector(config)
    detector.load_state_dict(weights)
    return detector.to(device).eval()


def _read_config(folder: str | Path) -> DetectorConfig:
    content = read_config(folder)
    settings = content.get("detector")
    if not isinstance(settings, dict):
        raise CheckpointError(f"{folder} holds a {content['architecture']}, which is no detector")
    kind = settings.pop("kind", None)
    if kind != KIND:
        raise CheckpointError(f"{folder} holds a detector of kind {kind!r}; the one kind read here is {KIND!r}")
    fields = {field.name: field for field in dataclasses.fields(DetectorConfig)}
    odd = sorted(set(fields) ^ set(settings))
    if odd:
        raise CheckpointError(f"the detector's settings in {folder} lack, or should not have: {shorten(odd)}")
    if not all(isinstance(name, str) for name in settings["classes"]) or not isinstance(settings["backbone"], str):
        raise CheckpointError(f"names in the detector's settings in {folder} are no text")
    for number in _numbers(settings):
        if not 0 <= number <= LARGEST:
            raise CheckpointError(f"the detector's settings in {folder} hold {number}, not within 0 and {LARGEST}")
    return DetectorConfig(**settings)


def _numbers(value: Any) -> Iterator[float]:
    """All numbers in nested lists and tables."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _numbers(part)
    elif isinstance(value, int | float):
        yield value


@dataclasses.dataclass(frozen=True)
class Box:
    """One object that was found.

    Attributes:
        label: its class.
        score: the detector's confidence, from 0 to 1.
        box: left, top, right and bottom in pixels of the image.
    """

    label: str
    score: float
    box: tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True)
class Detections:
    """What a detector finds in one image file.

    Attributes:
        path: the file, as it was given.
        boxes: what was found, the highest score first; empty if the file cannot be used.
        image: the image, upright and in RGB; None if it cannot be read.
        error: why the file cannot be used, else None.
        notes: what could not be used of a file that was read nevertheless.
    """

    path: FilePath
    boxes: tuple[Box, ...] = ()
    image: Image.Image | None = None
    error: Exception | None = None
    notes: tuple[str, ...] = ()


def detect(
    detector: Detector,
    paths: FilePath | Iterable[FilePath],
    *,
    score_threshold: float = 0.5,
    max_pixels: int | None = None,
) -> Iterator[Detections]:
    """Detect objects in image files, in order, going on past those that cannot be read.

    Args:
        detector: what `load_detector` gave; it is put in evaluation mode.
        paths: the files.
        score_threshold: objects of a lower score are left out.
        max_pixels: how many pixels an image may have, see `mlpzoo.images.read_image`.

    Returns:
        One `Detections` a file, made as they are asked for.

    Raises:
        ValueError: for a threshold outside of 0 to 1, or less than one pixel; at the call.
    """
    if not 0 <= score_threshold <= 1:
        raise ValueError(f"score_threshold must be from 0 to 1, got {score_threshold}")
    if max_pixels is not None and max_pixels < 1:
        raise ValueError(f"max_pixels must be 1 or more, got {max_pixels}")
    files = [paths] if isinstance(paths, str | os.PathLike) else paths
    return (_detect(detector.eval(), path, score_threshold, max_pixels) for path in files)


def _detect(detector: Detector, path: FilePath, score_threshold: float, max_pixels: int | None) -> Detections:
    notes: list[str] = []
    try:
        image = read_image(path, max_pixels=max_pixels, warn=notes.append)
    except ImageError as error:
        return Detections(path, error=error)
    if max(image.size) > MAX_ASPECT * min(image.size):
        problem = f"{image.width}×{image.height} pixels, one side more than {MAX_ASPECT} times the other"
        return Detections(path, error=ImageError(f"cannot use {os.fspath(path)}: {problem}"))
    device = next(detector.parameters()).device
    with torch.inference_mode():
        (found,) = detector([to_tensor(image).to(device)])
    boxes = to_boxes(found, detector.config.classes, score_threshold)
    return Detections(path, boxes, image, notes=tuple(notes))


def to_boxes(found: Mapping[str, Tensor], classes: Sequence[str], score_threshold: float) -> tuple[Box, ...]:
    """What torchvision's detectors find in an image, the highest score first."""
    boxes = [
        Box(classes[label - 1], score, (left, top, right, bottom))
        for (left, top, right, bottom), label, score in zip(
            found["boxes"].tolist(), found["labels"].tolist(), found["scores"].tolist(), strict=True
        )
        if score >= score_threshold
    ]
    return tuple(sorted(boxes, key=lambda box: -box.score))

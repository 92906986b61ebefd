"""From image files to class names."""

import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from timm.data import ImageNetInfo
from torch import Tensor, nn

from mlpzoo.images import MAX_ASPECT, FilePath, ImageError, read_image
from mlpzoo.registry import create_model, list_pretrained, model_info, options_released_with
from mlpzoo.transforms import create_transform, data_config_of
from mlpzoo.weights import CheckpointError, identify_checkpoint, load_checkpoint, read_config


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a model says of one image file.

    Attributes:
        path: the file, as it was given.
        classes: pairs of class name and probability, the most probable first; empty if the file cannot be read.
        error: why the file cannot be read, else None.
        notes: what could not be used of a file that was read nevertheless.
    """

    path: FilePath
    classes: tuple[tuple[str, float], ...] = ()
    error: ImageError | None = None
    notes: tuple[str, ...] = ()


def load_classifier(
    checkpoint: FilePath | None = None,
    *,
    model: str | None = None,
    device: torch.device | str | None = None,
) -> tuple[nn.Module, list[str] | None]:
    """Build a trained model for `predict`.

    Args:
        checkpoint: a folder that training wrote, which names its model and classes itself; or a file of weights.
        model: a model's name: alone, the model whose released weights to download and use; with a file of weights, the
            model it is of, which is told from the file if None.
        device: where the model runs.

    Returns:
        The model in evaluation mode, and the names of its classes where the folder gives them.

    Raises:
        ValueError: for an unknown model name, one without released weights, or a combination that makes no sense.
        mlpzoo.CheckpointError: when the checkpoint cannot be read or does not fit.
    """
    if checkpoint is None:
        if model is None:
            raise ValueError("give a checkpoint, or the name of a model with released weights")
        if not model_info(model).weights:
            raise ValueError(f"no weights are released for {model}. There are: {', '.join(list_pretrained())}")
        return create_model(model, pretrained=True, device=device).eval(), None
    checkpoint = Path(checkpoint)
    if checkpoint.is_dir():
        if model is not None:
            raise ValueError(f"the folder {checkpoint} names its own model: leave out {model}")
        labels = read_config(checkpoint).get("label_names")
        if labels is not None and not (isinstance(labels, list) and all(isinstance(name, str) for name in labels)):
            raise CheckpointError(f"label_names in the config of {checkpoint} is no list of names")
        return create_model(f"local-dir:{checkpoint}", device=device).eval(), labels
    if not checkpoint.exists():
        raise CheckpointError(f"there is no file or folder {checkpoint}")
    options: dict[str, Any] = {}
    if model is None:
        found = identify_checkpoint(checkpoint)
        model, options = found.name, found.overrides
    if "." not in model:
        options = {**options, **options_released_with(model, checkpoint, options)}
    network = create_model(model, device=device, **options)
    report = load_checkpoint(network, checkpoint)
    if report.fresh or not network.num_classes:
        raise CheckpointError(f"{checkpoint} has no classifier for the {network.num_classes} classes of {model}")
    return network.eval(), None


def predict(
    model: nn.Module,
    paths: FilePath | Iterable[FilePath],
    *,
    labels: Sequence[str] | None = None,
    top_k: int = 5,
    batch_size: int = 32,
    max_pixels: int | None = None,
) -> Iterator[Prediction]:
    """Classify image files, in order, going on past those that cannot be read.

    Images are prepared as the model's data config says (`timm.data.resolve_data_config`), in as many channels as it
    takes, and run in batches where the model's parameters are. The model is put in evaluation mode.

    Args:
        model: a classifier of 1 or 3 image channels.
        paths: the files.
        labels: names of the classes in order. By default ImageNet's for a model of 1,000 classes, and the index of
            the class for any other.
        top_k: how many classes to give for each image, the most probable first; all if there are fewer.
        batch_size: images in one forward pass.
        max_pixels: how many pixels an image may have, see `read_image`.

    Returns:
        One `Prediction` a file, made as they are asked for.

    Raises:
        ValueError: when the model, the labels or the numbers are unusable; at the call.
    """
    for name, number in (("top_k", top_k), ("batch_size", batch_size), ("max_pixels", max_pixels)):
        if number is not None and number < 1:
            raise ValueError(f"{name} must be 1 or more, got {number}")
    num_classes = getattr(model, "num_classes", 0)
    if num_classes < 1:
        raise ValueError(f"this {type(model).__name__} has no classifier: build it with num_classes of 1 or more")
    if labels is None:
        labels = ImageNetInfo().label_descriptions() if num_classes == 1000 else [str(i) for i in range(num_classes)]
    if len(labels) != num_classes:
        raise ValueError(f"got names of {len(labels)} classes, but the model has {num_classes}")
    files = [paths] if isinstance(paths, str | os.PathLike) else paths
    return _predict(model.eval(), _Preparation(model, max_pixels), files, labels, min(top_k, num_classes), batch_size)


@dataclasses.dataclass(frozen=True)
class _Prepared:
    """An image as the model takes it, or why there is none."""

    path: FilePath
    pixels: Tensor | None
    error: ImageError | None
    notes: tuple[str, ...]


class _Preparation:
    """From a file to what the model takes."""

    def __init__(self, model: nn.Module, max_pixels: int | None) -> None:
        self.mode: Literal["L", "RGB"] = "L" if data_config_of(model)["input_size"][0] == 1 else "RGB"
        self.transform = create_transform(model)
        self.max_pixels = max_pixels

    def __call__(self, path: FilePath) -> _Prepared:
        notes: list[str] = []
        try:
            image = read_image(path, self.mode, max_pixels=self.max_pixels, warn=notes.append)
            if max(image.size) > MAX_ASPECT * min(image.size):
                raise ImageError(
                    f"cannot use {os.fspath(path)}: {image.width}×{image.height} pixels, one side more than "
                    f"{MAX_ASPECT} times the other"
                )
        except ImageError as error:
            return _Prepared(path, None, error, tuple(notes))
        return _Prepared(path, self.transform(image), None, tuple(notes))


def _predict(
    model: nn.Module,
    prepare: _Preparation,
    paths: Iterable[FilePath],
    labels: Sequence[str],
    top_k: int,
    batch_size: int,
) -> Iterator[Prediction]:
    anchor = next(model.parameters())
    remaining = iter(paths)
    while batch := [prepare(path) for path in itertools.islice(remaining, batch_size)]:
        images = [image.pixels for image in batch if image.pixels is not None]
        results: Iterator[tuple[tuple[str, float], ...]] = iter(())
        if images:
            with torch.inference_mode():
                logits = model(torch.stack(images).to(anchor.device, anchor.dtype))
                top = logits.float().softmax(-1).topk(top_k)
            results = iter(
                tuple((labels[i], p) for p, i in zip(values, indices, strict=True))
                for values, indices in zip(top.values.tolist(), top.indices.tolist(), strict=True)
            )
        for image in batch:
            classes = () if image.error else next(results)
            yield Prediction(image.path, classes, image.error, image.notes)

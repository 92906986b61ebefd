"""From image files to class names."""

import dataclasses
import itertools
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from timm.data import ImageNetInfo
from torch import Tensor, nn

from mlpzoo.registry import create_model, list_pretrained, model_info
from mlpzoo.transforms import create_transform, data_config_of
from mlpzoo.weights import CheckpointError, identify_checkpoint, load_checkpoint, read_config

FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Formats read. Pillow knows more, some of which start other programs (EPS) or run long on purpose-made files."""

MAX_ASPECT = 100
"""Longer side over shorter, at most: transforms resize by the shorter side, so a thin strip would become huge."""

FilePath = str | os.PathLike[str]


class ImageError(ValueError):
    """A file cannot be read as an image: the message names the file and the reason."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a model says of one image file.

    Attributes:
        path: the file, as it was given.
        classes: pairs of class name and probability, the most probable first; empty if the file cannot be read.
        error: why the file cannot be read, else None.
    """

    path: FilePath
    classes: tuple[tuple[str, float], ...] = ()
    error: ImageError | None = None


def read_image(
    source: FilePath | BinaryIO, mode: Literal["L", "RGB"] = "RGB", *, name: str | None = None
) -> Image.Image:
    """Read an image file upright, with 8 bits a channel and nothing transparent.

    The EXIF rotation is applied, transparent pixels are put on white, 16-bit grayscale is scaled to 8 bits, and
    palettes and CMYK are converted. Of an animation the first frame is read.

    Args:
        source: a file in one of `FORMATS`, told by content, or its bytes as a stream that can seek.
        mode: `"RGB"` for colour, `"L"` for grayscale.
        name: what a stream is called in errors.

    Returns:
        The image in that mode.

    Raises:
        ImageError: when the file is missing, damaged, no image, or would unpack to an enormous one.
    """
    if isinstance(source, str | os.PathLike):
        name, source = os.fspath(source), Path(source)
    try:
        return _read(source, mode)
    except ImageError as error:
        reason = str(error)
    except FileNotFoundError:
        reason = "there is no such file"
    except UnidentifiedImageError:
        reason = f"it is no image, or not in a format read here ({', '.join(FORMATS)})"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        reason = f"it unpacks to more than {Image.MAX_IMAGE_PIXELS:,} pixels; refused"
    except PermissionError as error:
        reason = str(error.strerror)
    except Exception as error:
        # Decoders fed a damaged file raise whatever they stumble over.
        reason = f"it is damaged or cut short ({error})"
    raise ImageError(f"cannot read {name or 'an image'}: {reason}")


def _read(source: Path | BinaryIO, mode: str) -> Image.Image:
    if isinstance(source, Path) and source.is_dir():
        raise ImageError("it is a folder")
    if isinstance(source, Path) and source.exists() and not source.is_file():
        raise ImageError("it is no regular file")
    with warnings.catch_warnings():
        # Pillow's remarks on odd metadata are of no use here; its warning of a huge image is a refusal.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(source, formats=FORMATS) as file:
            image = _scaled_to_8_bits(ImageOps.exif_transpose(file))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert(mode)


def _scaled_to_8_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grayscale, which Pillow's own conversion to 8 bits may clip instead; others pass unchanged."""
    if image.mode == "F":
        raise ImageError("its samples are floating-point numbers, whose range is unknown: save it with 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    samples = np.asarray(image).astype(np.int64)
    if samples.min() < 0 or samples.max() > 65535:
        raise ImageError("its samples are 32-bit numbers, whose range is unknown: save it with 8 or 16 bits")
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        samples[samples == transparent] = 65535
    return Image.fromarray(((samples + 128) // 257).astype(np.uint8))


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

    Returns:
        One `Prediction` a file, made as they are asked for.

    Raises:
        ValueError: when the model, the labels or the two numbers are unusable; at the call.
    """
    for name, number in (("top_k", top_k), ("batch_size", batch_size)):
        if number < 1:
            raise ValueError(f"{name} must be 1 or more, got {number}")
    num_classes = getattr(model, "num_classes", 0)
    if num_classes < 1:
        raise ValueError(f"this {type(model).__name__} has no classifier: build it with num_classes of 1 or more")
    if labels is None:
        labels = ImageNetInfo().label_descriptions() if num_classes == 1000 else [str(i) for i in range(num_classes)]
    if len(labels) != num_classes:
        raise ValueError(f"got names of {len(labels)} classes, but the model has {num_classes}")
    files = [paths] if isinstance(paths, str | os.PathLike) else paths
    return _predict(model.eval(), _Preparation(model), files, labels, min(top_k, num_classes), batch_size)


class _Preparation:
    """From a file to what the model takes."""

    def __init__(self, model: nn.Module) -> None:
        self.mode: Literal["L", "RGB"] = "L" if data_config_of(model)["input_size"][0] == 1 else "RGB"
        self.transform = create_transform(model)

    def __call__(self, path: FilePath) -> Tensor:
        image = read_image(path, self.mode)
        if max(image.size) > MAX_ASPECT * min(image.size):
            raise ImageError(
                f"cannot use {os.fspath(path)}: {image.width}×{image.height} pixels, one side more than {MAX_ASPECT} "
                "times the other"
            )
        return self.transform(image)


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
    while batch := list(itertools.islice(remaining, batch_size)):
        prepared: list[Tensor | ImageError] = []
        for path in batch:
            try:
                prepared.append(prepare(path))
            except ImageError as error:
                prepared.append(error)
        images = [image for image in prepared if isinstance(image, Tensor)]
        results: Iterator[tuple[tuple[str, float], ...]] = iter(())
        if images:
            with torch.inference_mode():
                logits = model(torch.stack(images).to(anchor.device, anchor.dtype))
                top = logits.float().softmax(-1).topk(top_k)
            results = iter(
                tuple((labels[i], p) for p, i in zip(values, indices, strict=True))
                for values, indices in zip(top.values.tolist(), top.indices.tolist(), strict=True)
            )
        for path, outcome in zip(batch, prepared, strict=True):
            if isinstance(outcome, ImageError):
                yield Prediction(path, error=outcome)
            else:
                yield Prediction(path, next(results))

"""Models by name: creating them, listing them, and what is known of each."""

import dataclasses
import difflib
import fnmatch
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from torch import nn

from mlpzoo._model_table import ModelSize, digest, measure, read_table
from mlpzoo._names import config_with, default_tag, family_of, tags_of
from mlpzoo._registration import register, register_all
from mlpzoo.models import CLASSIFICATION, FAMILIES, families
from mlpzoo.weights import (
    CONFIG,
    STATISTICS,
    WEIGHTS_NAMES,
    CheckpointError,
    fetch_hub,
    load_checkpoint,
    load_folder,
    read_config,
    recognize,
    weights_file,
)

__all__ = [
    "ModelInfo",
    "create_model",
    "family_of",
    "list_models",
    "list_pretrained",
    "model_info",
    "register",
    "register_all",
]

LOCAL = "local-dir:"
HUB = "hf-hub:"
CREATED_BY = {
    CLASSIFICATION: "mlpzoo.create_model",
    "detection": "mlpzoo.tasks.load_detector",
    "restoration": "mlpzoo.restoration.create_restorer",
}
"""The function that builds networks of a task, and opens folders of them."""


def create_model(
    name: str,
    pretrained: bool = False,
    *,
    checkpoint_path: str | Path | None = None,
    **options: Any,
) -> nn.Module:
    """Create a model by name.

    Args:
        name: a name of `list_models()`, with a tag after a dot to choose among released weights; or
            `"local-dir:FOLDER"` for a folder that mlpzoo or timm wrote, or `"hf-hub:OWNER/NAME"` for one on the Hugging
            Face hub, whose weights are loaded.
        pretrained: whether to download and load the released weights. A folder's are loaded anyway.
        checkpoint_path: a file to load, in any of the family's released formats or our own.
            The activation and the data config are then those of the file, if it is a released one by its name or hash.
        options: any field of the family's config (`num_classes`, `img_size`, `drop_path_rate`, …), `device`, `dtype`,
            `features_only=True` with `out_indices` for a backbone that returns feature maps, and `cache_dir` for a
            folder to keep downloads in.

    Returns:
        The model, in training mode.

    Raises:
        ValueError: for an unknown name, with the nearest ones, or an unusable value.
        TypeError: for an unknown option, with the known ones.
        mlpzoo.CheckpointError: when a file does not fit or cannot be had.
    """
    if checkpoint_path and not name.startswith((LOCAL, HUB)) and "." not in name:
        check_name(name)
        options = {**options, **options_released_with(name, Path(checkpoint_path), options)}
    own_file = bool(checkpoint_path)
    if name.startswith((LOCAL, HUB)):
        folder = folder_of(name, options.pop("cache_dir", None))
        config = read_folder(folder, CLASSIFICATION)
        name = config["architecture"]
        options = {**_size_in(config), **config["model_args"], **options}
        options.setdefault("pretrained_cfg_overlay", _overlay(config.get("pretrained_cfg", {})))
        checkpoint_path = checkpoint_path or weights_file(folder)
        pretrained = False
    check_name(name)
    model = timm.create_model(name, pretrained=pretrained, **options)
    if checkpoint_path:
        load_checkpoint(model, checkpoint_path) if own_file else load_folder(model, checkpoint_path)
    return model


def _size_in(config: Mapping[str, Any]) -> dict[str, Any]:
    """The image size that the data config of a folder says, for a network bound to one, as an option."""
    name = config["architecture"]
    family = next((family for family in FAMILIES.values() if name in family.variants), None)
    size = (config.get("pretrained_cfg") or {}).get("input_size")
    own = getattr(family.variants[name], "image_size", None) if family else None
    if own is None or not isinstance(size, list) or len(size) != 3 or tuple(size[1:]) == tuple(own):
        return {}
    return {"img_size": tuple(size[1:])}


def options_released_with(name: str, path: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """The activation and the data config of the released file that a path is, if it is one of the model.

    Args:
        name: of the model, without a tag.
        path: the file.
        options: of `create_model`, which have precedence.

    Returns:
        Options of `create_model`; empty for a file that is not recognized.
    """
    release = recognize(path, family_of(name))
    if release is None or release.name.split(".")[0] != name:
        return {}
    unseen = {key: options.get(key, value) for key, value in release.unseen.items()}
    data = {key: getattr(release.weights, key) for key in STATISTICS}
    return {**unseen, "pretrained_cfg_overlay": {**data, **(options.get("pretrained_cfg_overlay") or {})}}


def list_models(filter: str | list[str] = "", *, pretrained: bool = False, task: str = CLASSIFICATION) -> list[str]:
    """Names of the zoo's models, in the order of the papers' tables.

    Args:
        filter: a wildcard pattern or several, such as `"mixer_*"`.
        pretrained: only those with released weights.
        task: what the networks do; `create_model` builds those for `"classification"`.

    Returns:
        The names, without tags.
    """
    names = [name for family in families(task) for name in family.variants]
    if pretrained:
        released = {tagged.split(".")[0] for tagged in list_pretrained(task=task)}
        names = [name for name in names if name in released]
    return _filtered(names, filter)


def list_pretrained(filter: str | list[str] = "", *, task: str = CLASSIFICATION) -> list[str]:
    """Released weights as `name.tag`."""
    return _filtered([tagged for family in families(task) for tagged in family.weights], filter)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What is known of a model.

    Attributes:
        name: registered name.
        family: the paper's name for the architecture.
        parameters: how many, with the head for `num_classes`.
        gmacs: multiply-accumulates of one forward pass of one image, in 10⁹.
        input_size: channels, height and width in pixels.
        num_classes: classes of the head.
        top1: published ImageNet-1k top-1 accuracy in percent, None where none is published.
        top1_source: where the accuracy is from.
        weights: tags of the released weights, the default first if there is one.
        file: where the weights meant are: an address, a repository of the Hugging Face hub, or how a person gets them;
            empty where none are released.
        mean: mean of each image channel they were trained with, of pixels in [0, 1].
        std: standard deviation of each.
        interpolation: how images were resized.
        crop_pct: side of the evaluation crop over side of the resized image.
        license: of the default weights, or of the authors' code where there are none.
        paper: address of the paper.
        code: address of the authors' code.
    """

    name: str
    family: str
    parameters: int
    gmacs: float
    input_size: tuple[int, int, int]
    num_classes: int
    top1: float | None
    top1_source: str
    weights: tuple[str, ...]
    file: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float
    license: str
    paper: str
    code: str


@functools.cache
def model_info(name: str) -> ModelInfo:
    """Describe a model, from tables where they hold it, else by running it on the meta device.

    Args:
        name: a name of `list_models()`, or `name.tag`.

    Returns:
        Its size, cost, published accuracy, licence and sources.

    Raises:
        ValueError: for an unknown name, with the nearest ones.
    """
    check_name(name)
    base, _, tag = name.partition(".")
    family = family_of(base)
    tags = tags_of(family, base)
    weights = family.weights.get(f"{base}.{tag or default_tag(family, base)}")
    data = timm.models.get_pretrained_cfg(name)
    size = read_table().get((base, size_digest(name))) or measure_size(name)
    return ModelInfo(
        name=name,
        family=family.title,
        parameters=size.parameters,
        gmacs=size.macs / 1e9,
        input_size=data.input_size,
        num_classes=data.num_classes,
        top1=weights.top1 if weights else None,
        top1_source=weights.top1_source if weights else "",
        weights=tuple(tags),
        file=(weights.url or (f"{HUB}{weights.hub}" if weights.hub else weights.where)) if weights else "",
        mean=data.mean,
        std=data.std,
        interpolation=data.interpolation,
        crop_pct=data.crop_pct,
        license=weights.license if weights else family.license,
        paper=family.paper,
        code=family.code,
    )


def size_digest(name: str) -> str:
    """A digest of all that tells how large a model is, of a name with or without a tag: see `mlpzoo._model_table`."""
    base, _, tag = name.partition(".")
    family = family_of(base)
    weights = family.weights.get(f"{base}.{tag or default_tag(family, base)}")
    config = config_with(family.variants[base], base, weights.overrides if weights else {})
    data = timm.models.get_pretrained_cfg(name)
    return digest(family.name, config, data.input_size, data.num_classes)


def measure_size(name: str) -> ModelSize:
    """Build a model on the meta device and count its parameters and multiply-accumulates."""
    return measure(timm.create_model(name, device="meta"), timm.models.get_pretrained_cfg(name).input_size)


def _overlay(pretrained_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a folder's data config that this version of timm knows."""
    known = {field.name for field in dataclasses.fields(timm.models.PretrainedCfg)}
    return {key: tuple(v) if isinstance(v, list) else v for key, v in pretrained_cfg.items() if key in known}


def read_folder(folder: Path, task: str) -> dict[str, Any]:
    """The config of a folder that holds a network for a task, with a table `model_args`.

    Raises:
        CheckpointError: when it holds none, saying which function opens it if any does.
    """
    config = read_config(folder)
    name = config["architecture"]
    found = next((family.task for family in FAMILIES.values() if name in family.variants), CLASSIFICATION)
    found = config.get("task", found)
    if found != task:
        raise CheckpointError(f"{folder} holds a network for {found} ({name}){_created_elsewhere(found, task)}")
    if not isinstance(config.setdefault("model_args", {}), dict):
        raise CheckpointError(f"model_args in the config of {folder} is no table of options")
    return config


def folder_of(name: str, cache_dir: str | Path | None) -> Path:
    """The folder that a `local-dir:` or `hf-hub:` name means, its two files downloaded."""
    if name.startswith(LOCAL):
        return Path(name.removeprefix(LOCAL))
    repository, _, revision = name.removeprefix(HUB).partition("@")
    options: dict[str, Any] = {"revision": revision or None, "cache_dir": cache_dir}
    path = fetch_hub(repository, CONFIG, **options)
    try:
        fetch_hub(repository, WEIGHTS_NAMES[0], **options)
    except CheckpointError as error:
        try:
            fetch_hub(repository, WEIGHTS_NAMES[1], **options)
        except CheckpointError:
            raise error from None
    return path.parent


def _created_elsewhere(task: str, wanted: str) -> str:
    creator = CREATED_BY.get(task)
    return f", which {creator} builds, not {CREATED_BY[wanted]}" if creator else ""


def _filtered(names: list[str], filter: str | list[str]) -> list[str]:
    patterns = [filter] if isinstance(filter, str) else list(filter)
    patterns = [pattern for pattern in patterns if pattern]
    return [name for name in names if not patterns or any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]


def check_name(name: str, task: str = CLASSIFICATION) -> None:
    """Refuse what is no model's name, with or without a tag.

    Raises:
        ValueError: with the nearest names, or the function that builds networks of another task.
    """
    base, _, tag = name.partition(".")
    names = list_models(task=task)
    if base not in names:
        other = next((family.task for family in FAMILIES.values() if base in family.variants), None)
        if other:
            raise ValueError(f"{base} is a network for {other}{_created_elsewhere(other, task)}")
        near = difflib.get_close_matches(base, names, 3, 0.5)
        hint = f"The nearest: {', '.join(near)}." if near else f"The models: {', '.join(names)}."
        argument = "" if task == CLASSIFICATION else f"task='{task}'"
        raise ValueError(f"unknown model '{base}'. {hint} `mlpzoo.list_models({argument})` lists all")
    tags = tags_of(family_of(base), base)
    if tag and tag not in tags:
        known = f"it has {', '.join(f'{base}.{known}' for known in tags)}" if tags else "none are released for it"
        raise ValueError(f"unknown weights '{name}': {known}")

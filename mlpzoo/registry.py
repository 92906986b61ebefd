"""The names: every variant of every family, registered with timm, and what is known of each."""

import dataclasses
import difflib
import fnmatch
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from mlpzoo._model_table import ModelSize, digest, measure, read_table
from mlpzoo.models import CLASSIFICATION, FAMILIES, Backbone, Family, families
from mlpzoo.weights import (
    CONFIG,
    STATISTICS,
    CheckpointError,
    data_config,
    fetch_hub,
    load_checkpoint,
    read_config,
    recognize,
    released_file,
    weights_file,
)

LOCAL = "local-dir:"
HUB = "hf-hub:"
CREATED_BY = {
    CLASSIFICATION: "mlpzoo.create_model",
    "detection": "mlpzoo.tasks.load_detector",
    "restoration": "mlpzoo.restoration.create_restorer",
}
"""The function that builds networks of a task, and opens folders of them."""

BUILD_OPTIONS = ("device", "dtype", "features_only", "out_indices", "feature_cls", "feature_cfg")
"""Options of every model besides its config's fields."""


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
    if name.startswith((LOCAL, HUB)):
        folder = folder_of(name, options.pop("cache_dir", None))
        config = read_folder(folder, CLASSIFICATION)
        name = config["architecture"]
        options = {**config["model_args"], **options}
        options.setdefault("pretrained_cfg_overlay", _overlay(config.get("pretrained_cfg", {})))
        checkpoint_path = checkpoint_path or weights_file(folder)
        pretrained = False
    check_name(name)
    model = timm.create_model(name, pretrained=pretrained, **options)
    if checkpoint_path:
        load_checkpoint(model, checkpoint_path)
    return model


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
    tags = _tags(family, base)
    weights = family.weights.get(f"{base}.{tag or _default_tag(family, base)}")
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
    weights = family.weights.get(f"{base}.{tag or _default_tag(family, base)}")
    config = config_with(family.variants[base], base, weights.overrides if weights else {})
    data = timm.models.get_pretrained_cfg(name)
    return digest(family.name, config, data.input_size, data.num_classes)


def measure_size(name: str) -> ModelSize:
    """Build a model on the meta device and count its parameters and multiply-accumulates."""
    return measure(timm.create_model(name, device="meta"), timm.models.get_pretrained_cfg(name).input_size)


def config_with(
    config: Any, name: str, overrides: Mapping[str, Any], build_options: Sequence[str] = BUILD_OPTIONS
) -> Any:
    """A variant's config with some fields replaced.

    Args:
        config: the variant's.
        name: its name.
        overrides: field to value.
        build_options: what else a caller may give, for the error.

    Raises:
        TypeError: for a field the family does not have, listing those it has.
        ValueError: for an unusable value.
    """
    known = [field.name for field in dataclasses.fields(config)]
    wrong = [option for option in overrides if option not in known]
    if wrong:
        near = difflib.get_close_matches(wrong[0], [*known, *build_options], 1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        raise TypeError(
            f"{name} has no option '{wrong[0]}'{hint}. Its options: {', '.join(sorted(known))}. "
            f"Every model also takes {', '.join(build_options[:4])}"
        )
    return dataclasses.replace(config, **overrides)


def family_of(name: str) -> Family:
    """The family of a model, whatever its task.

    Raises:
        ValueError: for an unknown name.
    """
    variant = name.split(".")[0]
    for family in FAMILIES.values():
        if variant in family.variants:
            return family
    near = difflib.get_close_matches(
        variant, [name for family in FAMILIES.values() for name in family.variants], 3, 0.5
    )
    hint = f". The nearest: {', '.join(near)}" if near else ""
    raise ValueError(f"unknown model '{variant}'{hint}. `mlpzoo.list_models()` lists all")


def register(family: Family) -> None:
    """Take a family up: its variants get names in `create_model` and timm, its files are loaded and identified.

    The families of this package are registered when it is imported. Another package calls this for its own.

    Args:
        family: the family. Its model's class is defined in a module of its own.

    Raises:
        ValueError: when the family's name or a variant's is taken, here or in timm; nothing is registered then.
    """
    if FAMILIES.get(family.name, family) is not family:
        raise ValueError(f"there is a family named '{family.name}' already: {FAMILIES[family.name].title}")
    said = getattr(family.model, "family", None)
    if said != family.name:
        raise ValueError(f"the model of family '{family.name}' must have that name in `family`, not {said!r}")
    if family.task == CLASSIFICATION:
        taken = [name for name in family.variants if timm.is_model(name)]
        if taken:
            raise ValueError(f"there are models with these names already, here or in timm: {', '.join(taken)}")
        _register_with_timm(family)
    FAMILIES[family.name] = family


def register_all() -> None:
    """Register every family of this package."""
    for family in list(FAMILIES.values()):
        register(family)


def _register_with_timm(family: Family) -> None:
    """Give every variant an entrypoint in its family's module, where timm looks for it."""
    module = sys.modules[family.model.__module__]
    module.default_cfgs = generate_default_cfgs(_default_cfgs(family))  # type: ignore[attr-defined]
    # `register_model` looks its function up in, and adds its name to, the module the function says it is from.
    exported = list(getattr(module, "__all__", ()))
    for name in family.variants:
        entrypoint = _entrypoint(family, name)
        setattr(module, name, entrypoint)
        register_model(entrypoint)
    module.__all__ = exported + list(family.variants)  # type: ignore[attr-defined]


def _entrypoint(family: Family, name: str) -> Callable[..., nn.Module]:
    def create(pretrained: bool = False, **options: Any) -> nn.Module:
        tag = options.get("pretrained_cfg")
        options.setdefault("cache_dir", None)
        tags = _tags(family, name)
        tagged = f"{name}.{tag if isinstance(tag, str) else _default_tag(family, name)}"
        weights = family.weights.get(tagged)
        trained_with = dict(weights.overrides) if weights else {}
        if pretrained and tags and not tag and not weights:
            named = ", ".join(f"{name}.{known}" for known in tags)
            raise ValueError(f"no released file fits {name} as the paper has it: choose one of {named}")
        released = None
        if pretrained and weights and not _names_a_source(options):
            # Ours verifies, resumes and keeps apart what timm would cache under one file name. Before anything is
            # built, for a file may be missing.
            released = released_file(tagged, weights, cache_dir=options["cache_dir"])

        def build(device: Any = None, dtype: Any = None, **overrides: Any) -> Backbone:
            config = config_with(family.variants[name], name, {**trained_with, **overrides})
            return family.model(config, device=device, dtype=dtype)

        model = build_model_with_cfg(
            build,
            name,
            pretrained and released is None,
            feature_cfg={"feature_cls": "getter", "out_indices": None if family.variants[name].has_stages else 3},
            **options,
        )
        if isinstance(model, Backbone) and model.config.data_size:
            model._remember_input_size(model.config.data_size)
        if released:
            load_checkpoint(model, released)
        return model

    create.__name__ = create.__qualname__ = name
    create.__module__ = family.model.__module__
    create.__doc__ = f"{family.title}: `mlpzoo.create_model({name!r})`."
    return create


def _default_cfgs(family: Family) -> dict[str, dict[str, Any]]:
    """timm's data config of every variant and every released file."""
    cfgs: dict[str, dict[str, Any]] = {}
    for name, config in family.variants.items():
        common = {
            **family.data,
            "first_conv": config.first_conv,
            "classifier": "head",
            "input_size": (config.in_chans, *(config.data_size or (224, 224))),
            "fixed_input_size": config.image_size is not None,
            "paper_ids": family.paper.replace("https://arxiv.org/abs/", "arXiv:"),
            "paper_name": family.title,
            "origin_url": family.code,
            "license": family.license.lower(),
        }
        tags = _tags(family, name)
        for tag in tags:
            weights = family.weights[f"{name}.{tag}"]
            cfgs[f"{name}.{tag}"] = {
                **common,
                **data_config(family, config_with(config, name, weights.overrides), weights),
                "url": weights.url,
                "hf_hub_id": weights.hub or None,
                "custom_load": True,
                "num_classes": weights.num_classes,
                "license": weights.license.lower(),
            }
        if not _default_tag(family, name):
            # The star makes timm build the bare name from this, though there may be files under tags.
            cfgs[f"{name}.*" if tags else name] = common
    return cfgs


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
    for file in (CONFIG, weights_file("").name):
        path = fetch_hub(repository, file, revision=revision or None, cache_dir=cache_dir)
    return path.parent


def _names_a_source(options: Mapping[str, Any]) -> bool:
    """Whether timm was told where the weights are: a data config instead of a tag, or one laid over it."""
    overlay = options.get("pretrained_cfg_overlay") or {}
    tag = options.get("pretrained_cfg")
    return not isinstance(tag, str | None) or any(overlay.get(key) for key in ("file", "url", "hf_hub_id", "source"))


def _default_tag(family: Family, name: str) -> str:
    """The first tag of a variant, if its file was trained with the very network the bare name stands for."""
    tag = next(iter(_tags(family, name)), "")
    weights = family.weights.get(f"{name}.{tag}")
    as_the_paper_has_it = weights and not weights.overrides and weights.num_classes == family.variants[name].num_classes
    return tag if as_the_paper_has_it else ""


def _tags(family: Family, name: str) -> list[str]:
    return [tagged.split(".", 1)[1] for tagged in family.weights if tagged.split(".")[0] == name]


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
    tags = _tags(family_of(base), base)
    if tag and tag not in tags:
        known = f"it has {', '.join(f'{base}.{known}' for known in tags)}" if tags else "none are released for it"
        raise ValueError(f"unknown weights '{name}': {known}")

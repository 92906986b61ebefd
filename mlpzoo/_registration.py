"""Every variant of every family, registered with timm."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

import timm
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from mlpzoo._names import config_with, default_tag, tags_of
from mlpzoo.models import CLASSIFICATION, FAMILIES, Backbone, Family
from mlpzoo.weights import data_config, load_checkpoint, released_file


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
        tags = tags_of(family, name)
        tagged = f"{name}.{tag if isinstance(tag, str) else default_tag(family, name)}"
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
        if isinstance(model, Backbone):
            model._remember_input_size(model.config.data_size or model.pretrained_cfg["input_size"][1:])
            # Those of a tag are no options that the caller gave.
            model.remember_options(**{key: getattr(model.config, key) for key in trained_with})
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
        tags = tags_of(family, name)
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
        if not default_tag(family, name):
            # The star makes timm build the bare name from this, though there may be files under tags.
            cfgs[f"{name}.*" if tags else name] = common
    return cfgs


def _names_a_source(options: Mapping[str, Any]) -> bool:
    """Whether timm was told where the weights are: a data config instead of a tag, or one laid over it."""
    overlay = options.get("pretrained_cfg_overlay") or {}
    tag = options.get("pretrained_cfg")
    return not isinstance(tag, str | None) or any(overlay.get(key) for key in ("file", "url", "hf_hub_id", "source"))

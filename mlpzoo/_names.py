"""What a name stands for: its family, its config, its tags. Registration and creation are built on it."""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from mlpzoo.models import FAMILIES, Family

BUILD_OPTIONS = ("device", "dtype", "features_only", "out_indices", "feature_cls", "feature_cfg")
"""Options of every model besides its config's fields."""


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
    # JSON and YAML know no tuples.
    return dataclasses.replace(config, **{key: tuple(v) if isinstance(v, list) else v for key, v in overrides.items()})


def tags_of(family: Family, name: str) -> list[str]:
    return [tagged.split(".", 1)[1] for tagged in family.weights if tagged.split(".")[0] == name]


def default_tag(family: Family, name: str) -> str:
    """The first tag of a variant, if its file was trained with the very network the bare name stands for."""
    tag = next(iter(tags_of(family, name)), "")
    weights = family.weights.get(f"{name}.{tag}")
    as_the_paper_has_it = weights and not weights.overrides and weights.num_classes == family.variants[name].num_classes
    return tag if as_the_paper_has_it else ""

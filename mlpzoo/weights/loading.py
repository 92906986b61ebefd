"""Load a checkpoint into a model: strictly, all or nothing, from any size to any size."""

import dataclasses
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from timm.layers import to_2tuple
from timm.models import adapt_input_conv
from torch import Tensor, nn

from mlpzoo.models import FAMILIES, Backbone, ColumnarBackbone
from mlpzoo.weights import convmixer, cyclemlp, mixer, resmlp, vip, vit
from mlpzoo.weights._files import CheckpointError, TensorFile, open_tensors, shorten
from mlpzoo.weights._keymap import KeyMap, Source, as_is

_logger = logging.getLogger("mlpzoo")

KEY_MAPS: dict[str, tuple[KeyMap, ...]] = {
    "mixer": mixer.KEY_MAPS,
    "resmlp": resmlp.KEY_MAPS,
    "cyclemlp": cyclemlp.KEY_MAPS,
    "vip": vip.KEY_MAPS,
    "vit": vit.KEY_MAPS,
    # timm's layout is ours.
    "gmlp": (),
    "convmixer": convmixer.KEY_MAPS,
}
"""Released formats of each family, besides our own."""

PREFIXES = ("opt/target/", "params/", "module.", "_orig_mod.")
"""What training code puts before every name. Names without it, an optimizer's state, are then left aside."""

HEAD = ("head.weight", "head.bias")
FEATURE_NORMS = "feature_norms."
"""Norms of a dense-prediction backbone, which classification files do not have."""

Plan = dict[str, list[Source]]


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What a load did.

    Attributes:
        format: the format found, for people.
        fresh: parameters the file had no matching value for, left as they were initialized.
        adapted: what was changed on the way, for people.
    """

    format: str
    fresh: tuple[str, ...] = ()
    adapted: tuple[str, ...] = ()


def load_checkpoint(model: nn.Module, path: str | Path) -> LoadReport:
    """Load a released file into a model.

    The format is told by content: the family's authors' files and our own. Every name in the file must be
    accounted for and every parameter filled, with these exceptions, all reported: a head of another number of
    classes stays as it is, so do feature norms that the file does not have, and a first convolution of 3 channels
    adapts to the model's. Weights bound to another token grid are resized to the model's.

    Args:
        model: a model of this zoo, or what `features_only=True` made of one.
        path: the file.

    Returns:
        What was found and adapted.

    Raises:
        CheckpointError: when the file does not fit, saying how; the model is then as it was before the call.
        TypeError: when the model is none of this zoo's.
    """
    backbone = model if isinstance(model, Backbone) else getattr(model, "model", None)
    if not isinstance(backbone, Backbone):
        raise TypeError(f"load_checkpoint needs a model of mlpzoo, got {type(model).__name__}")
    path = Path(path)
    with open_tensors(path) as file:
        values, report = _fit(backbone, file)
    # Everything fits by now. A backbone pruned for features has fewer parameters than the file.
    own = backbone.state_dict()
    with torch.no_grad():
        for name, value in values.items():
            if name in own:
                own[name].copy_(value)
    if report.fresh:
        _logger.warning("%s: left as initialized, for lack of a match in the file: %s", path, ", ".join(report.fresh))
    for note in report.adapted:
        _logger.warning("%s: %s", path, note)
    return report


def _fit(backbone: Backbone, file: TensorFile) -> tuple[dict[str, Tensor], LoadReport]:
    """Read every tensor of a file into the shapes of the backbone, or raise before anything is changed."""
    names = _strip_prefixes(list(file.shapes))
    template = _template(backbone, backbone.config)
    plan, title = _choose_plan(backbone.family, names, template)
    shapes = {name: _planned_shape(sources, names, file) for name, sources in plan.items()}
    source_config, adapted = _source_config(backbone, shapes)
    if source_config is not backbone.config:
        template = _template(backbone, source_config)

    needed = set(backbone.state_dict())
    fresh = [name for name in HEAD if name in shapes and shapes[name] != template.get(name)]
    for name in fresh:
        plan.pop(name)
    if not any(name.startswith(FEATURE_NORMS) for name in plan):
        fresh += [name for name in needed if name.startswith(FEATURE_NORMS)]
    missing = sorted(needed - set(plan) - set(fresh))
    unexpected = sorted(plan[name][0].name for name in set(plan) - set(template))
    if missing or unexpected:
        raise CheckpointError(
            f"the file, read as {title}, has no value for {len(missing)} parameters ({shorten(missing) or 'none'}) "
            f"and has {len(unexpected)} the model does not have ({shorten(unexpected) or 'none'}). "
            f"{backbone.explain_misfit(shapes)}"
        )
    first_conv = f"{backbone.config.first_conv}.weight"
    wrong = [
        f"{name} is {_times(shapes[name])} in the file and {_times(template[name])} in the model"
        for name in template
        if name in plan
        and shapes[name] != template[name]
        and not (name == first_conv and _adaptable(shapes[name], template[name]))
    ]
    if wrong:
        raise CheckpointError(f"{shorten(wrong, 3)}. {backbone.explain_misfit(shapes)}")

    values = {name: _read(sources, names, file) for name, sources in plan.items()}
    if first_conv in values and shapes[first_conv] != template[first_conv]:
        values[first_conv] = adapt_input_conv(backbone.in_chans, values[first_conv])
        adapted.append(f"{first_conv} adapted from 3 to {backbone.in_chans} image channels")
    if source_config is not backbone.config:
        values = _resized(backbone, source_config, values)
    fresh = sorted(needed.intersection(fresh))
    return values, LoadReport(title, tuple(fresh), tuple(adapted))


def _strip_prefixes(names: list[str]) -> dict[str, str]:
    """Bare names to names in the file."""
    stripped = {name: name for name in names}
    for prefix in PREFIXES:
        inside = {bare.removeprefix(prefix): name for bare, name in stripped.items() if bare.startswith(prefix)}
        stripped = inside or stripped
    return stripped


def _template(backbone: Backbone, config: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the whole network, heads and all, without allocating it."""
    config = dataclasses.replace(config, num_classes=backbone.num_classes)
    build: Callable[..., Backbone] = type(backbone)
    whole = build(config, device="meta")
    return {name: tuple(value.shape) for name, value in whole.state_dict().items()}


def _choose_plan(family: str, names: Mapping[str, str], template: Mapping[str, Any]) -> tuple[Plan, str]:
    """The format that knows most of the names; an error if it does not know all."""
    own = {name: [Source(name, as_is)] for name in names if name in template or name in HEAD}
    candidates = [(own, [name for name in names if name not in own], "our own layout")]
    candidates += [(*key_map.plan(names), key_map.title) for key_map in KEY_MAPS[family]]
    plan, unknown, title = min(candidates, key=lambda candidate: len(candidate[1]))
    if unknown:
        hint = _recognize(names)
        raise CheckpointError(
            f"it is no {FAMILIES[family].title} checkpoint in a known format: {len(unknown)} of {len(names)} names are "
            f"unknown ({shorten(unknown)}).{hint}"
        )
    return plan, title


def _recognize(names: Mapping[str, str]) -> str:
    """Say which other family the file is of, if one of its formats knows every name."""
    for family, key_maps in KEY_MAPS.items():
        for key_map in key_maps:
            if not key_map.plan(names)[1]:
                return f" It looks like {FAMILIES[family].title}, in {key_map.title}."
    return ""


def _planned_shape(sources: list[Source], names: Mapping[str, str], file: TensorFile) -> tuple[int, ...]:
    """The shape a tensor of ours will have, from the shapes in the file alone."""
    try:
        parts = [source.layout(torch.empty(file.shapes[names[source.name]], device="meta")) for source in sources]
        return tuple(torch.cat(parts).shape) if len(parts) > 1 else tuple(parts[0].shape)
    except (RuntimeError, IndexError):
        found = ", ".join(f"{source.name} {_times(file.shapes[names[source.name]])}" for source in sources)
        raise CheckpointError(f"unusable shapes: {found}") from None


def _read(sources: list[Source], names: Mapping[str, str], file: TensorFile) -> Tensor:
    parts = [source.layout(file.read(names[source.name])) for source in sources]
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _adaptable(found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(found) == 4 and found[1] == 3 and (found[0], *found[2:]) == (wanted[0], *wanted[2:])


def _source_config(backbone: Backbone, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Any, list[str]]:
    """The config the file was trained with: the model's, at the file's own image size."""
    if not isinstance(backbone, ColumnarBackbone):
        return backbone.config, []
    tokens = backbone.tokens_in(shapes)
    grid = backbone.stem.grid_size
    if tokens is None or tokens == math.prod(grid):
        return backbone.config, []
    side = math.isqrt(tokens)
    if side * side != tokens:
        raise CheckpointError(
            f"it is bound to {tokens} tokens and the model to {math.prod(grid)} ({grid[0]}×{grid[1]}). Only square "
            "grids can be told from a file: build the model at the file's own img_size, load, then call set_input_size"
        )
    patch = to_2tuple(backbone.config.patch_size)
    config = dataclasses.replace(backbone.config, img_size=(side * patch[0], side * patch[1]))
    return config, [f"token grid resized from {side}×{side} to {grid[0]}×{grid[1]}; fine-tune before judging accuracy"]


def _resized(backbone: Backbone, source_config: Any, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Resize by the one mechanism there is: a model at the file's size, told to take the backbone's."""
    assert isinstance(backbone, ColumnarBackbone)
    at_source = type(backbone)(dataclasses.replace(source_config, num_classes=0), device="meta")
    bound = {name: value for name, value in values.items() if name in at_source.state_dict()}
    at_source.load_state_dict(bound, assign=True)
    at_source.set_input_size(backbone.stem.img_size)
    return {**values, **at_source.state_dict()}


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "a scalar"

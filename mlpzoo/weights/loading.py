"""Load a checkpoint into a model: strictly, all or nothing, from any size to any size."""

import dataclasses
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from timm.models import adapt_input_conv
from torch import Tensor, nn

from mlpzoo.models import FAMILIES, Network
from mlpzoo.models._keymap import Source
from mlpzoo.ops.resize import Grid
from mlpzoo.weights._files import CheckpointError, TensorFile, open_tensors, shorten
from mlpzoo.weights._formats import (
    OWN,
    choose_plan,
    planned_shapes,
    shapes_of,
    source_config,
    stated_size,
    strip_prefixes,
    times,
)
from mlpzoo.weights.identify import identify

_logger = logging.getLogger("mlpzoo")


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What a load did.

    Attributes:
        format: the format found, for people.
        fresh: parameters the file had no matching value for, left as they were initialized.
        adapted: what was changed on the way, for people.
        not_finite: parameters that hold NaN or infinity.
    """

    format: str
    fresh: tuple[str, ...] = ()
    adapted: tuple[str, ...] = ()
    not_finite: tuple[str, ...] = ()


def load_checkpoint(model: nn.Module, path: str | Path, *, img_size: int | Grid | None = None) -> LoadReport:
    """Load a released file into a model.

    The format is told by content: the family's authors' files, timm's and our own. Every name in the file must be
    accounted for and every parameter filled, with these exceptions, all reported: a head of another number of
    classes, or of none, stays as it is, so do feature norms that the file does not have, and a first convolution of 3
    channels adapts to the model's. Weights bound to another token grid are resized to the model's. A restoration
    network has none of these: it takes only a file that has all its names and shapes, and no others.

    Args:
        model: a model of this zoo, or what `features_only=True` made of one.
        path: the file.
        img_size: image height and width in pixels that the file was trained at, an int if square. Needed only where
            the file does not say and its token grid is not square.

    Returns:
        What was found and adapted.

    Raises:
        CheckpointError: when the file does not fit, saying how; the model is then as it was before the call.
        TypeError: when the model is none of this zoo's.
    """
    backbone = model if isinstance(model, Network) else getattr(model, "model", None)
    if not isinstance(backbone, Network):
        raise TypeError(f"load_checkpoint needs a model of mlpzoo, got {type(model).__name__}")
    path = Path(path)
    with open_tensors(path) as file:
        values, report = _fit(backbone, file, img_size)
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
    if report.not_finite:
        found = shorten(list(report.not_finite))
        _logger.warning("%s: NaN or infinity in %s; the model will answer with NaN", path, found)
    return report


def _fit(backbone: Network, file: TensorFile, img_size: int | Grid | None) -> tuple[dict[str, Tensor], LoadReport]:
    """Read every tensor of a file into the shapes of the backbone, or raise before anything is changed."""
    names = strip_prefixes(list(file.shapes))
    whole = backbone.whole_network(backbone.config)
    wanted = shapes_of(whole)
    plan, unknown, title = choose_plan(backbone.family, names, wanted, file)
    if unknown:
        raise CheckpointError(
            f"it is no {FAMILIES[backbone.family].title} checkpoint in a known format, or one of a larger network: "
            f"{len(unknown)} of {len(names)} names are unknown ({shorten(unknown)}).{_recognized(file, img_size)}"
        )
    shapes = planned_shapes(plan, names, file)
    stated = stated_size(img_size, file.metadata)
    trained_with, adapted = source_config(whole, shapes, stated, trust_count=title == OWN)
    resized = trained_with is not whole.config
    if resized:
        wanted = shapes_of(backbone.whole_network(trained_with))

    needed = set(backbone.state_dict())
    fresh = [name for name in backbone.head_names if name in shapes and shapes[name] != wanted.get(name)]
    for name in fresh:
        plan.pop(name)
    if not any(name in shapes for name in backbone.head_names):
        fresh += backbone.head_names
    for prefix in backbone.config.optional_prefixes:
        if not any(name.startswith(prefix) for name in plan):
            fresh += [name for name in needed if name.startswith(prefix)]
    missing = sorted(needed - set(plan) - set(fresh))
    unexpected = sorted(plan[name][0].name for name in set(plan) - set(wanted))
    if missing or unexpected:
        raise CheckpointError(
            f"the file, read as {title}, has no value for {len(missing)} parameters ({shorten(missing) or 'none'}) "
            f"and has {len(unexpected)} the model does not have ({shorten(unexpected) or 'none'}). "
            f"{_explain_misfit(backbone, shapes, file, img_size)}"
        )
    first_conv = f"{backbone.config.first_conv}.weight"
    wrong = [
        f"{name} is {times(shapes[name])} in the file and {times(wanted[name])} in the model"
        for name in wanted
        if name in plan
        and shapes[name] != wanted[name]
        and not (name == first_conv and _adaptable(shapes[name], wanted[name]))
    ]
    if wrong:
        raise CheckpointError(f"{shorten(wrong, 3)}. {_explain_misfit(backbone, shapes, file, img_size)}")

    values = {name: _read(sources, names, file) for name, sources in plan.items()}
    if first_conv in values and shapes[first_conv] != wanted[first_conv]:
        values[first_conv] = adapt_input_conv(backbone.config.in_chans, values[first_conv])
        adapted.append(f"{first_conv} adapted from 3 to {backbone.config.in_chans} image channels")
    if resized:
        values = _resized(backbone, trained_with, values)
    fresh = sorted(needed.intersection(fresh))
    not_finite = tuple(name for name in sorted(values) if not torch.isfinite(values[name]).all())
    return values, LoadReport(title, tuple(fresh), tuple(adapted), not_finite)


def _resized(backbone: Network, trained_with: Any, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Resize by the one mechanism there is: a model at the file's size, told to take the backbone's.

    It takes the tensors out of `values`, so that none is held twice.
    """
    build: Callable[..., Any] = type(backbone)
    at_source = build(dataclasses.replace(trained_with, num_classes=0), device="meta")
    at_source.load_state_dict({name: values.pop(name) for name in at_source.state_dict()}, assign=True)
    at_source.set_input_size(backbone.config.image_size)
    return {**values, **at_source.state_dict()}


def _recognized(file: TensorFile, img_size: int | Grid | None) -> str:
    """Say what the file is of, where it is of a variant known here."""
    found = identify(file, img_size)
    if not found:
        return ""
    options = "".join(f", {key}={value!r}" for key, value in found.overrides.items())
    return f" It fits create_model({found.name!r}{options})"


def _explain_misfit(
    backbone: Network, shapes: Mapping[str, tuple[int, ...]], file: TensorFile, img_size: int | Grid | None
) -> str:
    """What to do about a file of the right family that does not fit."""
    return backbone.explain_misfit(shapes) or _recognized(file, img_size).strip() or "Is it of another variant?"


def _read(sources: list[Source], names: Mapping[str, str], file: TensorFile) -> Tensor:
    parts = [source.layout(file.read(names[source.name])) for source in sources]
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _adaptable(found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(found) == 4 and found[1] == 3 and (found[0], *found[2:]) == (wanted[0], *wanted[2:])

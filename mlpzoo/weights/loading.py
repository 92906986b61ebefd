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
    times,
)
from mlpzoo.weights._nesting import strip_prefixes
from mlpzoo.weights.identify import identify
from mlpzoo.weights.recognize import doubts

_logger = logging.getLogger("mlpzoo")


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What a load did.

    Attributes:
        format: the format found, for people.
        fresh: parameters the file had no matching value for, left as they were initialized.
        adapted: what was changed on the way, for people.
        not_finite: parameters that hold NaN or infinity.
        left_out: names in the file that were not used, for lack of a match in the model.
        notes: what to know besides, for people: which weights of several were taken, and whether the file may have been
            trained with another activation or on other image statistics than the model's.
    """

    format: str
    fresh: tuple[str, ...] = ()
    adapted: tuple[str, ...] = ()
    not_finite: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def load_checkpoint(
    model: nn.Module, path: str | Path, *, img_size: int | Grid | None = None, prefer_ema: bool = True
) -> LoadReport:
    """Load a released file into a model.

    The format is told by content: the family's authors' files, timm's and our own, nested and prefixed as training code
    does. The file is compared with the model as it is, layers replaced by hand included. Every name in the file must be
    accounted for and every parameter filled, with these exceptions, all reported: a head of another number of classes,
    of another make, or of none, stays as it is, so do feature norms that the file does not have, and a first
    convolution of 3 channels adapts to the model's. Weights bound to another token grid are resized to the model's. A
    restoration network has none of these: it takes only a file that has all its names and shapes, and no others.

    Args:
        model: a model of this zoo, what `features_only=True` made of one, or one of these compiled, in `DataParallel`,
            or in a moving average such as timm's `ModelEmaV3`.
        path: the file.
        img_size: image height and width in pixels that the file was trained at, an int if square. Needed only where
            the file does not say and its token grid is not square.
        prefer_ema: whether to take a moving average, where the file holds it beside the weights it is of.

    Returns:
        What was found and adapted.

    Raises:
        CheckpointError: when the file does not fit, saying how; the model is then as it was before the call.
        TypeError: when the model is none of this zoo's, or is folded, sharded or on the meta device.
    """
    return _load(model, Path(path), img_size, prefer_ema, doubted=True)


def load_folder(model: nn.Module, path: str | Path) -> LoadReport:
    """As `load_checkpoint`, for a file whose folder says what the model is, so that nothing of it is doubted."""
    return _load(model, Path(path), None, True, doubted=False)


def _load(model: nn.Module, path: Path, img_size: int | Grid | None, prefer_ema: bool, *, doubted: bool) -> LoadReport:
    backbone = _network_in(model)
    with open_tensors(path, prefer_ema=prefer_ema) as file:
        values, report = _fit(backbone, file, img_size, prefer_ema, whole=backbone is model)
        if doubted:
            report = dataclasses.replace(report, notes=(*report.notes, *doubts(backbone, path, file, report.format)))
    # Everything fits by now. A backbone pruned for features has fewer parameters than the file.
    own = backbone.state_dict()
    with torch.no_grad():
        for name, value in values.items():
            if name in own:
                own[name].copy_(value)
    if report.fresh:
        _logger.warning("%s: left as initialized, for lack of a match in the file: %s", path, ", ".join(report.fresh))
    if report.left_out:
        _logger.warning("%s: left out, for lack of a match in the model: %s", path, shorten(list(report.left_out)))
    for note in (*report.adapted, *report.notes):
        _logger.warning("%s: %s", path, note)
    if report.not_finite:
        found = shorten(list(report.not_finite))
        _logger.warning("%s: NaN or infinity in %s; the model will answer with NaN", path, found)
    return report


def _network_in(model: nn.Module) -> Network:
    """The network inside of what others wrap around it.

    Raises:
        TypeError: when there is none, or it is in a state that no file fits.
    """
    inside: Any = model
    while not isinstance(inside, Network):
        wrapped = (getattr(inside, name, None) for name in ("_orig_mod", "module", "model"))
        inside = next((inner for inner in wrapped if isinstance(inner, nn.Module)), None)
        if inside is None:
            raise TypeError(f"load_checkpoint needs a model of mlpzoo, got {type(model).__name__}")
    if inside.is_folded:
        raise TypeError("this model is folded, and released files fit plain models: load first, fold after")
    for value in inside.state_dict().values():
        if value.is_meta:
            raise TypeError("this model is on the meta device and holds no values: move it by model.to_empty(device=…)")
        if hasattr(value, "full_tensor"):
            raise TypeError("this model is sharded: load first, shard after")
    return inside


def _fit(
    backbone: Network, file: TensorFile, img_size: int | Grid | None, prefer_ema: bool, *, whole: bool
) -> tuple[dict[str, Tensor], LoadReport]:
    """Read every tensor of a file into the shapes of the backbone, or raise before anything is changed.

    Args:
        backbone: what is loaded into.
        file: what is loaded.
        img_size: that the file was trained at, if the caller says so.
        prefer_ema: whether to take a moving average.
        whole: whether names that the backbone has not are worth a word; not where it gives features alone.
    """
    names, notes = strip_prefixes(file.shapes, prefer_ema=prefer_ema)
    as_built = backbone.whole_network(backbone.config)
    own, wanted = shapes_of(backbone), shapes_of(as_built)
    # What somebody replaced by hand counts as it is.
    by_hand = {name: shape for name, shape in own.items() if wanted.get(name) != shape}
    wanted |= by_hand
    dense = backbone.config.dense_prefixes
    plan, unknown, title = choose_plan(backbone.family, names, wanted, file, dense)
    if unknown:
        raise CheckpointError(
            f"it is no {FAMILIES[backbone.family].title} checkpoint in a known format, or one of a larger network: "
            f"{len(unknown)} of {len(names)} names are unknown ({shorten(unknown)}).{_recognized(file, img_size)}"
        )
    without = [name for name in plan if name.startswith(dense) and name not in wanted] if dense else []
    for name in without:
        del plan[name]
    shapes = planned_shapes(plan, names, file)
    stated = stated_size(img_size, file.metadata)
    trained_with, adapted = source_config(as_built, shapes, stated, trust_count=title == OWN)
    resized = trained_with is not as_built.config
    if resized:
        wanted = shapes_of(backbone.whole_network(trained_with)) | by_hand

    needed = set(own)
    fresh = _head_left_alone(backbone, plan, own, wanted, shapes)
    for prefix in backbone.config.optional_prefixes:
        if not any(name.startswith(prefix) for name in plan):
            fresh |= {name for name in needed if name.startswith(prefix)}
    if without and not any(name.startswith("norm.") for name in plan):
        fresh |= {name for name in needed if name.startswith(("norm.", "pre_logits."))}
        notes = [
            *notes,
            "it is of dense prediction: its norms of feature maps were left out, and the final norm is fresh",
        ]
    missing = sorted(needed - set(plan) - fresh)
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
        channels = wanted[first_conv][1]
        values[first_conv] = adapt_input_conv(channels, values[first_conv])
        adapted.append(f"{first_conv} adapted from 3 to {channels} image channels")
    if resized:
        values = _resized(backbone, trained_with, values)
    not_finite = tuple(name for name in sorted(values) if not torch.isfinite(values[name]).all())
    left_out = sorted({*values, *without} - needed) if whole else []
    return values, LoadReport(
        title,
        fresh=tuple(sorted(needed & fresh)),
        adapted=tuple(adapted),
        not_finite=not_finite,
        left_out=tuple(left_out),
        notes=(*file.notes, *notes),
    )


def _head_left_alone(
    backbone: Network,
    plan: dict[str, list[Source]],
    own: Mapping[str, tuple[int, ...]],
    wanted: Mapping[str, tuple[int, ...]],
    shapes: Mapping[str, tuple[int, ...]],
) -> set[str]:
    """The names of the head that keep their values; they are taken out of the plan."""
    prefixes = tuple({f"{name.rpartition('.')[0]}." for name in backbone.head_names})
    if not prefixes:
        return set()
    ours, theirs = ({name for name in names if name.startswith(prefixes)} for names in (own, plan))
    if not theirs:
        return ours
    # All of it where it is of another make.
    left = theirs if theirs - ours else {name for name in theirs if shapes[name] != wanted.get(name)}
    for name in left:
        plan.pop(name)
    return ours if left - ours else left


def _resized(backbone: Network, trained_with: Any, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Resize by the one mechanism there is: a model at the file's size, told to take the backbone's.

    Parts that were replaced by hand, and those that the file has not, are bound to no grid.
    """
    build: Callable[..., Any] = type(backbone)
    at_source = build(dataclasses.replace(trained_with, num_classes=0), device="meta")
    fitting = {name: value.shape for name, value in at_source.state_dict().items()}
    fitting = {name: shape for name, shape in fitting.items() if name in values and values[name].shape == shape}
    # Taken out, so that none is held twice.
    at_source.load_state_dict({name: values.pop(name) for name in fitting}, strict=False, assign=True)
    at_source.set_input_size(backbone.config.image_size)
    found = at_source.state_dict()
    return {**values, **{name: found[name] for name in fitting}}


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

"""Restoration networks from and to files: strictly, all or nothing; nothing is unpickled."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlpzoo.models import maxim_files
from mlpzoo.models._keymap import Source, as_is
from mlpzoo.restoration.maxim import MAXIM
from mlpzoo.weights import CONFIG, CheckpointError, LoadReport, weights_file
from mlpzoo.weights._files import open_tensors, shorten
from mlpzoo.weights._formats import OWN, Plan, planned_shapes, strip_prefixes, times
from mlpzoo.weights._writing import write_safetensors, write_text

HINT = "Is it of another variant (maxim_s1 to maxim_m3) or number of supervision scales?"


def load_checkpoint(model: nn.Module, path: str | Path) -> LoadReport:
    """Load a file into a restoration network: the authors' `.npz` as released, or our own layout.

    The format is told by content. Every name must be accounted for and every parameter filled; the optimizer's state
    that the authors' files carry beside the parameters is not read.

    Args:
        model: the network.
        path: the file.

    Returns:
        The format found.

    Raises:
        CheckpointError: when the file does not fit, saying how; the network is then as it was before the call.
        TypeError: when the model is no restoration network.
    """
    if not isinstance(model, MAXIM):
        raise TypeError(f"load_checkpoint of mlpzoo.restoration needs a MAXIM, got {type(model).__name__}")
    own = model.state_dict()
    with open_tensors(Path(path)) as file:
        names = strip_prefixes(list(file.shapes))
        plan, title = _choose_plan(names, own)
        _compare(planned_shapes(plan, names, file), own, title)
        # Names and shapes are the model's by now, so the tensors take no more memory than it does.
        values = {name: source.layout(file.read(names[source.name])) for name, (source,) in plan.items()}
    with torch.no_grad():
        for name, value in values.items():
            own[name].copy_(value)
    return LoadReport(title)


def _choose_plan(names: dict[str, str], own: dict[str, Tensor]) -> tuple[Plan, str]:
    """Where each of our tensors comes from, in the format that knows most of the names; all must be known."""
    ours: Plan = {name: [Source(name, as_is)] for name in names if name in own}
    candidates = [(ours, [name for name in names if name not in ours], OWN)]
    candidates += [(*key_map.plan(names), key_map.title) for key_map in maxim_files.FORMATS]
    plan, unknown, title = min(candidates, key=lambda candidate: len(candidate[1]))
    if unknown:
        raise CheckpointError(
            f"it is no MAXIM checkpoint of this size in a known format: {len(unknown)} of {len(names)} names are "
            f"unknown ({shorten(unknown)})"
        )
    return plan, title


def _compare(shapes: dict[str, tuple[int, ...]], own: dict[str, Tensor], title: str) -> None:
    """Refuse a file whose names or shapes are not the model's."""
    missing, unexpected = sorted(own.keys() - shapes.keys()), sorted(shapes.keys() - own.keys())
    if missing or unexpected:
        raise CheckpointError(
            f"the file, read as {title}, has no value for {len(missing)} parameters ({shorten(missing) or 'none'}) and "
            f"has {len(unexpected)} the model does not have ({shorten(unexpected) or 'none'}). {HINT}"
        )
    wrong = [
        f"{name} is {times(shapes[name])} in the file and {times(tuple(value.shape))} in the model"
        for name, value in own.items()
        if shapes[name] != tuple(value.shape)
    ]
    if wrong:
        raise CheckpointError(f"{shorten(wrong, 3)}. {HINT}")


def save_restorer(model: MAXIM, folder: str | Path, *, architecture: str, about: dict[str, Any] | None = None) -> None:
    """Write a network as `config.json` and `model.safetensors`; `create_restorer("local-dir:FOLDER")` rebuilds it.

    A reader never sees half a file; `config.json` comes last, so where it is, the weights are.

    Args:
        model: the network.
        folder: where to; created if missing.
        architecture: a name of `list_restorers()`; the config's every field is written besides.
        about: anything else worth keeping, as JSON.
    """
    folder = Path(folder)
    config = {
        "architecture": architecture,
        "task": "restoration",
        "model_args": dataclasses.asdict(model.config),
        **({"about": about} if about else {}),
    }
    write_safetensors(model.state_dict(), weights_file(folder))
    write_text(json.dumps(config, indent=2) + "\n", folder / CONFIG)

"""Restoration networks from and to files: strictly, all or nothing; nothing is unpickled."""

import dataclasses
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mlpzoo.restoration.maxim import MAXIM
from mlpzoo.weights import CONFIG, CheckpointError, LoadReport, maxim, read_config, weights_file
from mlpzoo.weights._files import open_tensors, shorten
from mlpzoo.weights._keymap import Source, as_is

PREFIXES = ("opt/target/", "params/", "module.", "_orig_mod.")
"""What training code puts before every name. Names without it, an optimizer's state, are then left aside."""


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
        names = _strip_prefixes(list(file.shapes))
        plan, title = _choose_plan(names, own)
        _compare({name: _planned_shape(s, names, file.shapes) for name, s in plan.items()}, own, title)
        # Names and shapes are the model's by now, so the tensors take no more memory than it does.
        values = {name: source.layout(file.read(names[source.name])) for name, source in plan.items()}
    with torch.no_grad():
        for name, value in values.items():
            own[name].copy_(value)
    return LoadReport(title)


def _strip_prefixes(names: list[str]) -> dict[str, str]:
    """Bare names to names in the file."""
    stripped = {name: name for name in names}
    for prefix in PREFIXES:
        inside = {bare.removeprefix(prefix): name for bare, name in stripped.items() if bare.startswith(prefix)}
        stripped = inside or stripped
    return stripped


def _choose_plan(names: dict[str, str], own: dict[str, Tensor]) -> tuple[dict[str, Source], str]:
    """Where each of our tensors comes from, in the format that knows most of the names; all must be known."""
    ours = {name: Source(name, as_is) for name in names if name in own}
    candidates = [(ours, [name for name in names if name not in ours], "our own layout")]
    for key_map in maxim.KEY_MAPS:
        found, unknown = key_map.plan(names)
        candidates.append(({name: sources[0] for name, sources in found.items()}, unknown, key_map.title))
    plan, unknown, title = min(candidates, key=lambda candidate: len(candidate[1]))
    if unknown:
        raise CheckpointError(
            f"it is no MAXIM checkpoint of this size in a known format: {len(unknown)} of {len(names)} names are "
            f"unknown ({shorten(unknown)})"
        )
    return plan, title


def _planned_shape(source: Source, names: dict[str, str], shapes: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    """The shape a tensor of ours will have, from the shapes in the file alone."""
    shape = shapes[names[source.name]]
    try:
        return tuple(source.layout(torch.empty(shape, device="meta")).shape)
    except (RuntimeError, IndexError):
        raise CheckpointError(f"unusable shape: {source.name} {shape}") from None


def _compare(shapes: dict[str, tuple[int, ...]], own: dict[str, Tensor], title: str) -> None:
    """Refuse a file whose names or shapes are not the model's."""
    hint = "Is it of another variant (maxim_s1 to maxim_m3) or number of supervision scales?"
    missing, unexpected = sorted(own.keys() - shapes.keys()), sorted(shapes.keys() - own.keys())
    if missing or unexpected:
        raise CheckpointError(
            f"the file, read as {title}, has no value for {len(missing)} parameters ({shorten(missing) or 'none'}) and "
            f"has {len(unexpected)} the model does not have ({shorten(unexpected) or 'none'}). {hint}"
        )
    wrong = [
        f"{name} is {shapes[name]} in the file and {tuple(value.shape)} in the model"
        for name, value in own.items()
        if shapes[name] != tuple(value.shape)
    ]
    if wrong:
        raise CheckpointError(f"{shorten(wrong, 3)}. {hint}")


def save_restorer(model: MAXIM, folder: str | Path, *, architecture: str, about: dict[str, Any] | None = None) -> None:
    """Write a network as `config.json` and `model.safetensors`; `create_restorer("local-dir:FOLDER")` rebuilds it.

    Each file is written under another name and then renamed, so a reader never sees half a file.

    Args:
        model: the network.
        folder: where to; created if missing.
        architecture: a name of `list_restorers()`; the config's every field is written besides.
        about: anything else worth keeping, as JSON.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    config = {
        "architecture": architecture,
        "model_args": dataclasses.asdict(model.config),
        **({"about": about} if about else {}),
    }
    descriptor, temporary = tempfile.mkstemp(dir=folder, suffix=".part")
    os.close(descriptor)
    try:
        save_file(tensors, temporary, metadata={"format": "pt"})
        os.chmod(temporary, 0o644)
        os.replace(temporary, weights_file(folder))
    finally:
        Path(temporary).unlink(missing_ok=True)
    part = folder / f"{CONFIG}.part"
    part.write_text(json.dumps(config, indent=2) + "\n")
    os.replace(part, folder / CONFIG)


__all__ = ["load_checkpoint", "read_config", "save_restorer", "weights_file"]

"""Restoration networks by name or by task."""

import dataclasses
import difflib
from pathlib import Path
from typing import Any

import torch

from mlpzoo.restoration._checkpoint import load_checkpoint
from mlpzoo.restoration.maxim import MAXIM, VARIANTS, MaximConfig
from mlpzoo.restoration.releases import Release, find_release
from mlpzoo.weights import CheckpointError, fetch, read_config, weights_file

LOCAL = "local-dir:"


def list_restorers() -> list[str]:
    """Names that `create_restorer` takes."""
    return list(VARIANTS)


def create_restorer(
    name: str | None = None,
    *,
    task: str | None = None,
    dataset: str | None = None,
    pretrained: bool = False,
    checkpoint_path: str | Path | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> MAXIM:
    """Create a restoration network.

    Args:
        name: a name of `list_restorers()`, or `"local-dir:FOLDER"` for a folder that `save_restorer` wrote, whose
            weights are loaded; the variant released for `task` if not given.
        task: what to undo: a task of `mlpzoo.restoration.RELEASES`.
        dataset: which of the task's released checkpoints is meant, by what it was trained on; the first by default.
        pretrained: whether to download and load the checkpoint released for the task.
        checkpoint_path: a file to load: the authors' `.npz`, or our own layout.
        device: where the parameters live.
        dtype: their type.
        options: any field of `MaximConfig`.

    Returns:
        The network, in training mode.

    Raises:
        ValueError: for an unknown name, task or data set, with those there are, or a combination that makes no sense.
        TypeError: for an unknown option, with the known ones.
        mlpzoo.CheckpointError: when a file does not fit.
    """
    release = None if task is None else find_release(task, dataset)
    if release is None and (dataset is not None or pretrained):
        raise ValueError(f"{'dataset' if dataset is not None else 'pretrained=True'} needs a task, such as 'denoising'")
    if pretrained and checkpoint_path is not None:
        raise ValueError("give either pretrained=True or a checkpoint_path")
    if name is not None and name.startswith(LOCAL):
        folder = Path(name.removeprefix(LOCAL))
        name, saved = _read_folder(folder)
        options = {**saved, **options}
        checkpoint_path = checkpoint_path or weights_file(folder)
        release = None
    name = _choose_name(name, release)
    _check_options(options)
    model = MAXIM(dataclasses.replace(VARIANTS[name], **options), device=device, dtype=dtype)
    if pretrained and release is not None:
        checkpoint_path = fetch(release.url)
    if checkpoint_path is not None:
        load_checkpoint(model, checkpoint_path)
    return model


def _choose_name(name: str | None, release: Release | None) -> str:
    if name is None:
        if release is None:
            raise ValueError(f"give a name ({', '.join(VARIANTS)}) or a task")
        return release.model
    if name not in VARIANTS:
        nearest = difflib.get_close_matches(name, VARIANTS, n=3, cutoff=0) or list(VARIANTS)
        raise ValueError(f"unknown restoration network '{name}'. The nearest: {', '.join(nearest)}")
    if release is not None and release.model != name:
        raise ValueError(
            f"the checkpoint released for {release.task} ({release.dataset}) is a {release.model}, not a {name}: leave "
            "the name or the task out"
        )
    return name


def _read_folder(folder: Path) -> tuple[str, dict[str, Any]]:
    config = read_config(folder)
    if config["architecture"] not in VARIANTS:
        raise CheckpointError(f"{folder} holds a {config['architecture']}, which is no restoration network")
    options = config.get("model_args", {})
    if not isinstance(options, dict):
        raise CheckpointError(f"model_args in the config of {folder} is no table of options")
    return config["architecture"], options


def _check_options(options: dict[str, Any]) -> None:
    known = [field.name for field in dataclasses.fields(MaximConfig)]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise TypeError(f"unknown options {', '.join(unknown)}. The known ones: {', '.join(known)}, device, dtype")

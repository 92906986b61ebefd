"""Restoration networks by name, by task, or from a folder; and into one."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlpzoo._names import config_with, family_of
from mlpzoo.models import RESTORATION, Network
from mlpzoo.registry import HUB, LOCAL, check_name, folder_of, list_models, read_folder
from mlpzoo.restoration.releases import find_release
from mlpzoo.weights import load_checkpoint, released_file, weights_file, write_folder


def list_restorers() -> list[str]:
    """Names that `create_restorer` takes."""
    return list_models(task=RESTORATION)


def create_restorer(
    name: str | None = None,
    *,
    task: str | None = None,
    dataset: str | None = None,
    pretrained: bool = False,
    checkpoint_path: str | Path | None = None,
    cache_dir: str | Path | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> Network:
    """Create a restoration network.

    Args:
        name: a name of `list_restorers()`, with a tag after a dot to choose among released weights; or
            `"local-dir:FOLDER"` for a folder that `save_restorer` wrote, or `"hf-hub:OWNER/NAME"` for one on the
            Hugging Face hub, whose weights are loaded. The variant released for `task` if not given.
        task: what to undo: one of `mlpzoo.restoration.list_tasks()`.
        dataset: which of the task's released files is meant, by what it was trained on; the first by default.
        pretrained: whether to download and load the released file that the task, or the name's tag, stands for.
        checkpoint_path: a file to load: as the authors released it, or in our own layout.
        cache_dir: folder to keep downloads in.
        device: where the parameters live.
        dtype: their type.
        options: any field of the family's config.

    Returns:
        The network, in training mode.

    Raises:
        ValueError: for an unknown name, task or data set, with those there are, or a combination that makes no sense.
        TypeError: for an unknown option, with the known ones.
        mlpzoo.CheckpointError: when a file does not fit or cannot be had.
    """
    if pretrained and checkpoint_path is not None:
        raise ValueError("give either pretrained=True or a checkpoint_path")
    if name is not None and name.startswith((LOCAL, HUB)):
        if task is not None or dataset is not None:
            raise ValueError(f"{name} has weights of its own: leave out the task and the data set")
        folder = folder_of(name, cache_dir)
        config = read_folder(folder, RESTORATION)
        name, pretrained = config["architecture"], False
        options = {**config["model_args"], **options}
        checkpoint_path = checkpoint_path or weights_file(folder)
    name = _with_release(name, task, dataset, pretrained)
    check_name(name, RESTORATION)
    family = family_of(name)
    weights = family.weights.get(name)
    variant = name.partition(".")[0]
    options = {**(weights.overrides if weights else {}), **options}
    network_config = config_with(family.variants[variant], variant, options, ("device", "dtype", "cache_dir"))
    if pretrained and weights is not None:
        # Before anything is built, for a file may be missing.
        checkpoint_path = released_file(name, weights, cache_dir=cache_dir)
    model = family.model(network_config, device=device, dtype=dtype)
    if checkpoint_path is not None:
        load_checkpoint(model, checkpoint_path)
    return model


def _with_release(name: str | None, task: str | None, dataset: str | None, pretrained: bool) -> str:
    """The name to build: with the tag of the file released for the task, where one is given.

    Raises:
        ValueError: when the name, the task and the data set do not go together.
    """
    if task is None:
        if dataset is not None:
            raise ValueError("dataset needs a task, such as 'denoising'")
        if name is None:
            raise ValueError(f"give a name ({', '.join(list_restorers())}) or a task")
        if pretrained and "." not in name:
            raise ValueError(f"pretrained=True needs a task, such as 'denoising', or a tag after the name {name}")
        return name
    release = find_release(task, dataset)
    variant = release.partition(".")[0]
    if name not in (None, variant, release):
        raise ValueError(
            f"the checkpoint released for {task} is {release}, a {variant} and not a {name}: leave the name or the "
            "task out"
        )
    return release


def save_restorer(
    model: Network,
    folder: str | Path,
    *,
    architecture: str,
    about: Mapping[str, Any] | None = None,
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a network as `config.json` and `model.safetensors`; `create_restorer("local-dir:FOLDER")` rebuilds it.

    Both files are whole before either takes the place of an older one, and `config.json` does so last.

    Args:
        model: the network.
        folder: where to; created if missing.
        architecture: a name of `list_restorers()`; the config's every field is written besides.
        about: anything else worth keeping, as JSON.
        weights: values to write instead of the model's own, such as a moving average.

    Raises:
        OSError: when it cannot be written; what was there is as it was.
    """
    config = {
        "architecture": architecture,
        "task": RESTORATION,
        "model_args": dataclasses.asdict(model.config),
        **({"about": dict(about)} if about else {}),
    }
    write_folder(folder, config, weights or model.state_dict())

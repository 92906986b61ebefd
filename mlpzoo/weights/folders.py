"""Our own folders: `config.json` and `model.safetensors`, in the layout timm and the Hugging Face hub read."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from mlpzoo.weights._files import CheckpointError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"


def save_folder(
    model: nn.Module,
    folder: str | Path,
    *,
    architecture: str,
    model_args: dict[str, Any],
    pretrained_cfg: dict[str, Any],
    label_names: list[str] | None = None,
    about: dict[str, Any] | None = None,
) -> None:
    """Write a model so that `create_model("local-dir:FOLDER")` rebuilds it, here and in timm.

    Each file is written under another name and then renamed, so a reader never sees half a file.

    Args:
        model: the model.
        folder: where to; created if missing.
        architecture: registered name.
        model_args: what `create_model` was told besides.
        pretrained_cfg: entries of timm's data config: mean, std, crop and the like.
        label_names: names of the classes, in order.
        about: anything else worth keeping, as JSON.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architecture": architecture,
        "num_classes": model.num_classes,
        "num_features": model.num_features,
        "model_args": model_args,
        "pretrained_cfg": pretrained_cfg,
        **({"label_names": label_names} if label_names else {}),
        **({"about": about} if about else {}),
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    descriptor, temporary = tempfile.mkstemp(dir=folder, suffix=".part")
    os.close(descriptor)
    try:
        save_file(tensors, temporary, metadata={"format": "pt"})
        os.chmod(temporary, 0o644)
        os.replace(temporary, folder / WEIGHTS)
    finally:
        Path(temporary).unlink(missing_ok=True)
    part = folder / f"{CONFIG}.part"
    part.write_text(json.dumps(config, indent=2) + "\n")
    os.replace(part, folder / CONFIG)


def read_config(folder: str | Path) -> dict[str, Any]:
    """Read a folder's `config.json`.

    Raises:
        CheckpointError: when it is missing or says nothing usable.
    """
    path = Path(folder) / CONFIG
    try:
        config = json.loads(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{folder} holds no {CONFIG}: give a folder that mlpzoo or timm wrote") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("architecture"), str):
        raise CheckpointError(f"{path} names no architecture")
    return config


def weights_file(folder: str | Path) -> Path:
    """The folder's file of weights."""
    return Path(folder) / WEIGHTS

"""Our own folders: `config.json` and `model.safetensors`, in the layout timm and the Hugging Face hub read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mlpzoo.models import Backbone
from mlpzoo.weights._files import CheckpointError
from mlpzoo.weights._formats import IMG_SIZE
from mlpzoo.weights._writing import write_safetensors, write_text

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
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a model so that `create_model("local-dir:FOLDER")` rebuilds it, here and in timm.

    A reader never sees half a file; `config.json` comes last, so where it is, the weights are.

    Args:
        model: the model.
        folder: where to; created if missing.
        architecture: registered name.
        model_args: what `create_model` was told besides.
        pretrained_cfg: entries of timm's data config: mean, std, crop and the like.
        label_names: names of the classes, in order.
        about: anything else worth keeping, as JSON.
        weights: values to write instead of the model's own: a moving average, or those gathered from shards.
    """
    folder = Path(folder)
    config = {
        "architecture": architecture,
        "num_classes": model.num_classes,
        "num_features": model.num_features,
        "model_args": model_args,
        "pretrained_cfg": pretrained_cfg,
        **({"label_names": label_names} if label_names else {}),
        **({"about": about} if about else {}),
    }
    write_safetensors(weights or model.state_dict(), folder / WEIGHTS, metadata(model))
    write_text(json.dumps(config, indent=2) + "\n", folder / CONFIG)


def metadata(model: nn.Module) -> dict[str, str]:
    """What a safetensors file says of the model besides its tensors: the image size they are bound to."""
    img_size = model.config.image_size if isinstance(model, Backbone) else None
    return {IMG_SIZE: json.dumps(img_size)} if img_size else {}


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

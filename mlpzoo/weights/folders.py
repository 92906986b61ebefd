"""Our own folders: `config.json` and `model.safetensors`, in the layout timm and the Hugging Face hub read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mlpzoo.models import Backbone
from mlpzoo.weights._files import CheckpointError
from mlpzoo.weights._formats import FAMILY, IMG_SIZE, SETTINGS
from mlpzoo.weights._writing import replacing_all, save_tensors

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_NAMES = (WEIGHTS, "pytorch_model.bin")
"""What a folder's weights may be called: as we write them, and as `timm.models.save_for_hf` does."""


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

    Both files are whole before either takes the place of an older one; `config.json` does so last, so where it is, the
    weights are.

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
    config = {
        "architecture": architecture,
        "num_classes": model.num_classes,
        "num_features": model.num_features,
        "model_args": model_args,
        "pretrained_cfg": pretrained_cfg,
        **({"label_names": label_names} if label_names else {}),
        **({"about": about} if about else {}),
    }
    write_folder(folder, config, weights or model.state_dict(), metadata(model))


def write_folder(
    folder: str | Path,
    config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write `config.json` and `model.safetensors`: both are whole before either takes the place of an older one.

    `config.json` takes its place last, so where it is, the weights are.

    Args:
        folder: where to; created if missing.
        config: with the entry `architecture`.
        weights: name to tensor.
        metadata: what the safetensors file says of itself.

    Raises:
        OSError: when they cannot be written; what was there is as it was.
    """
    content = json.dumps(config, indent=2) + "\n"
    with replacing_all(Path(folder) / WEIGHTS, Path(folder) / CONFIG) as (weights_part, config_part):
        save_tensors(weights, weights_part, metadata)
        config_part.write_text(content, encoding="utf-8")


def metadata(model: nn.Module) -> dict[str, str]:
    """What a safetensors file says besides its tensors: the image size they are bound to, the family, the settings."""
    if not isinstance(model, Backbone):
        return {}
    size = {IMG_SIZE: json.dumps(model.config.image_size)} if model.config.image_size else {}
    return {**size, FAMILY: model.family, SETTINGS: json.dumps(model.config.settings)}


def read_config(folder: str | Path) -> dict[str, Any]:
    """Read a folder's `config.json`.

    Raises:
        CheckpointError: when it is missing or says nothing usable.
    """
    path = Path(folder) / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder} holds no {CONFIG}: give a folder that mlpzoo or timm wrote") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("architecture"), str):
        raise CheckpointError(f"{path} names no architecture")
    return config


def weights_file(folder: str | Path) -> Path:
    """The folder's file of weights; where there is none, the one it should have."""
    paths = [Path(folder) / name for name in WEIGHTS_NAMES]
    return next((path for path in paths if path.exists()), paths[0])

"""Write networks in other layouts: timm's names, one safetensors file, or a folder of the hub's layout."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlpzoo.models import FAMILIES, Backbone, BackboneConfig, Family, Weights, families
from mlpzoo.ops.resize import Grid
from mlpzoo.weights._files import shorten
from mlpzoo.weights._writing import write_safetensors
from mlpzoo.weights.folders import metadata, save_folder
from mlpzoo.weights.identify import identify_checkpoint
from mlpzoo.weights.loading import LoadReport, load_checkpoint

LAYOUTS = ("mlpzoo", "timm")


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What `convert` did.

    Attributes:
        source: the file read.
        target: the file or folder written.
        name: registered name of the model.
        options: options of `create_model(name)` that build the network.
        tensors: how many were written.
        report: what loading found and adapted.
    """

    source: Path
    target: Path
    name: str
    options: dict[str, Any]
    tensors: int
    report: LoadReport


def timm_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """A network's parameters under the names, and in the shapes, that timm's model of the same architecture has.

    Mixers and ViTs of this zoo run GELU in its tanh form unless told otherwise, timm's in its exact form: logits are
    equal where both run the same. timm's PoolFormer normalizes after the mean over positions, its authors' and ours
    before it: logits differ.

    Args:
        model: a model of this zoo, of a family that timm has.

    Returns:
        Name to tensor. Tensors share memory with the model.

    Raises:
        TypeError: when the model is none of this zoo's.
        ValueError: when timm does not have the family, or not all of the network.
    """
    if not isinstance(model, Backbone):
        raise TypeError(f"timm_state_dict needs a model of mlpzoo, got {type(model).__name__}")
    key_map = FAMILIES[model.family].to_timm
    if key_map is None:
        having = ", ".join(family.title for family in FAMILIES.values() if family.to_timm)
        raise ValueError(f"timm has no {FAMILIES[model.family].title}; it has {having}")
    if not model.config.in_timm:
        raise ValueError(f"timm has {FAMILIES[model.family].title} in part, but not this network")
    own = model.state_dict()
    plan, unknown = key_map.plan(own)
    if unknown:
        raise ValueError(f"timm's {FAMILIES[model.family].title} has nothing like {shorten(unknown)}")
    return {theirs: source.layout(own[source.name]) for theirs, (source,) in plan.items()}


def save_safetensors(model: Backbone, path: str | Path, *, layout: str = "mlpzoo") -> int:
    """Write a network's parameters into one safetensors file, whole or not at all.

    The image size that they are bound to goes into the file's metadata, where `load_checkpoint` finds it.

    Args:
        model: a model of this zoo.
        path: the file; replaced if it is there.
        layout: `"mlpzoo"` or `"timm"`, whose names and shapes to use.

    Returns:
        How many tensors were written.

    Raises:
        ValueError: for an unknown layout, or one that the family does not have.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"unknown layout '{layout}': choose {' or '.join(LAYOUTS)}")
    tensors = timm_state_dict(model) if layout == "timm" else model.state_dict()
    write_safetensors(tensors, Path(path), metadata(model))
    return len(tensors)


def convert(
    source: str | Path,
    target: str | Path,
    *,
    model: str | None = None,
    layout: str = "mlpzoo",
    img_size: int | Grid | None = None,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
) -> Conversion:
    """Convert a file in any format that `load_checkpoint` reads.

    Args:
        source: the file.
        target: a name ending in `.safetensors` for one file; any other for a folder with `config.json` and
            `model.safetensors`, which `create_model("local-dir:FOLDER")` rebuilds here and in timm.
        model: the variant it is of, told from the file if None; with a tag after a dot, whose data config and options
            go into the folder.
        layout: `"mlpzoo"` or `"timm"`, whose names and shapes a single file gets. A folder has ours.
        img_size: image height and width in pixels that the file was trained at, where its token grid is not square.
        dtype: type of the tensors written, the file's own if None.
        overwrite: whether to replace a target that is there.

    Returns:
        What was done.

    Raises:
        CheckpointError: when the file cannot be read, or is of no known variant, or not of the one named.
        FileExistsError: when the target is there and must not be replaced.
        ValueError: for an unknown model or layout, or a layout the family does not have.
    """
    source, target = Path(source), Path(target)
    one_file = target.suffix == ".safetensors"
    if not one_file and layout != "mlpzoo":
        raise ValueError(f"a folder has the layout of mlpzoo; for {layout}'s give a file, such as {target}.safetensors")
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} is there already: choose another name, or overwrite it")
    name, _, tag = (model or "").partition(".")
    if name:
        _family(name)
    found = identify_checkpoint(source, img_size=img_size, name=name)
    family = _family(found.name)
    weights = family.weights.get(f"{name}.{tag}" if tag else found.release or "")
    if tag and not weights:
        known = ", ".join(tagged for tagged in family.weights if tagged.startswith(f"{name}.")) or "none"
        raise ValueError(f"unknown weights '{model}'; released are: {known}")
    options = {**found.overrides, **(weights.overrides if tag and weights else {})}
    backbone = family.model(dataclasses.replace(family.variants[found.name], **options))
    report = load_checkpoint(backbone, source, img_size=img_size)
    if dtype is not None:
        backbone = backbone.to(dtype)
    if one_file:
        tensors = save_safetensors(backbone, target, layout=layout)
    else:
        data = data_config(family, backbone.config, weights)
        save_folder(backbone, target, architecture=found.name, model_args=options, pretrained_cfg=data)
        tensors = len(backbone.state_dict())
    return Conversion(source, target, found.name, options, tensors, report)


def _family(name: str) -> Family:
    for family in families():
        if name in family.variants:
            return family
    raise ValueError(f"unknown model '{name}': `mlpzoo list` shows all")


def data_config(family: Family, config: BackboneConfig, weights: Weights | None = None) -> dict[str, Any]:
    """timm's data config of a network: what is known of the images it takes."""
    data = dict(family.data)
    if weights:
        data |= {key: getattr(weights, key) for key in ("mean", "std", "interpolation", "crop_pct")}
    if config.data_size:
        data["input_size"] = (config.in_chans, *config.data_size)
    return {**data, "num_classes": config.num_classes}

"""What a file does not say of itself: the activation and the image statistics it was trained with.

A file that was released is recognized by its name or its hash. Of any other, what files of its kind are trained with.
"""

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mlpzoo.models import FAMILIES, BackboneConfig, Family, Network, Weights
from mlpzoo.weights._files import NpzFile, TensorFile
from mlpzoo.weights._formats import FAMILY, IMG_SIZE, OWN, SETTINGS
from mlpzoo.weights.download import cached_path, hash_in_name, sha256_of

UNSEEN = ("act_layer", "norm_eps")
"""Fields of a config that no name and no shape in a file tells of."""
STATISTICS = ("mean", "std", "interpolation", "crop_pct")
SHAPELESS = (
    *("num_classes", "in_chans", "global_pool", "drop_rate", "proj_drop_rate", "drop_path_rate", "drop_path_decay"),
    *("img_size", "dynamic_img_size", "impl", *UNSEEN),
)
"""Fields by which networks of one architecture differ."""


@dataclasses.dataclass(frozen=True)
class Release:
    """A released file.

    Attributes:
        name: its name, `variant.tag`.
        weights: what is known of it.
        unseen: the fields of `UNSEEN` that it was trained with.
    """

    name: str
    weights: Weights
    unseen: dict[str, Any]


def recognize(path: Path, *families: Family) -> Release | None:
    """The released file that this one is, by its name or its hash; None if it is none, or several that differ.

    Args:
        path: the file, or a copy of it under another name.
        families: whose files to look among; all if none is given.
    """
    among = families or tuple(FAMILIES.values())
    found = [release for family in among for release in _releases(family) if _is_named(path, release.weights)]
    if not found and path.is_file() and path.suffix != ".npz":
        # By the hash at the end of a name, as PyTorch writes them, too; only where there is any to compare with.
        hashes = {known: release for family in among for release in _releases(family) if (known := _hash(release))}
        if hashes:
            digest = sha256_of(path)
            found = [release for known, release in hashes.items() if digest.startswith(known)]
    if not found or any(_means(release) != _means(found[0]) for release in found):
        return None
    return found[0]


def doubts(model: Network, path: Path, file: TensorFile, format: str) -> list[str]:
    """What speaks against running a file as this model, though its names and shapes fit; sentences for people."""
    config = model.config
    if not isinstance(config, BackboneConfig):
        return []
    family = FAMILIES[model.family]
    said = stated_settings(file)
    if said is not None:
        origin = file.metadata.get(FAMILY, family.name)
        other = [f"it was saved from a network of the family '{origin}'"] if origin != family.name else []
        own = config.settings
        differing = [key for key, value in said.items() if key in own and own[key] != value]
        return other + [
            _doubt("it was saved from a network that runs", key, (said[key],), own[key]) for key in differing
        ]
    release = recognize(path, family)
    if release is not None:
        return list(_differences(model, release))
    if format == OWN and IMG_SIZE in file.metadata:
        return []
    if format == OWN and _architecture(config) not in map(_architecture, family.variants.values()):
        # Somebody's own network. Of a variant, timm's file may have the same names.
        return []
    if format == OWN and config.act_layer not in {variant.act_layer for variant in family.variants.values()}:
        return []
    usual = _usual_activations(family, config, file, format)
    if not usual or config.act_layer in usual:
        return []
    return [_doubt("released files of its kind were trained with", "act_layer", usual, config.act_layer)]


def stated_settings(file: TensorFile) -> dict[str, Any] | None:
    """The settings that a file written here says its network had."""
    try:
        said = json.loads(file.metadata[SETTINGS])
    except (KeyError, ValueError):
        return None
    return said if isinstance(said, dict) else None


def _differences(model: Network, release: Release) -> Iterator[str]:
    variant = FAMILIES[model.family].variants[release.name.split(".")[0]]
    # Numbers are told by shapes, or were checked with them.
    words = {key: value for key, value in variant.settings.items() if _is_word(value)}
    trained_with = words | release.unseen
    own = model.config.settings
    for field, value in trained_with.items():
        if field in own and own[field] != value:
            yield (
                f"it is {release.name}, trained with {field}={value!r}, and the model runs {own[field]!r}: "
                f"create_model({release.name!r}) runs it as it was trained"
            )
    data = getattr(model, "pretrained_cfg", None) or {}
    known = {key: tuple(data[key]) for key in ("mean", "std") if data.get(key)}
    other = {key: value for key, value in known.items() if value != tuple(getattr(release.weights, key))}
    if other:
        yield (
            f"it is {release.name}, trained on images of mean {release.weights.mean} and deviation "
            f"{release.weights.std}, which the model's data config does not say: create_model({release.name!r}) has it"
        )


def _is_word(value: Any) -> bool:
    return isinstance(value, str | bool) or (isinstance(value, list) and value != [] and all(map(_is_word, value)))


def _doubt(what: str, field: str, values: tuple[Any, ...], own: Any) -> str:
    named = " or ".join(f"{field}={value!r}" for value in values)
    return f"{what} {named}, and the model runs {own!r}: names and shapes do not tell which is right, so say it"


def _usual_activations(family: Family, config: BackboneConfig, file: TensorFile, format: str) -> tuple[str, ...]:
    """The activations of the files released from the same framework, for this architecture or else for the family."""
    from_flax = isinstance(file, NpzFile)
    same_framework = [
        release for release in _releases(family) if str(release.weights.url or "").endswith(".npz") == from_flax
    ]
    own = [r for r in same_framework if _architecture(family.variants[r.name.split(".")[0]]) == _architecture(config)]
    chosen = own or same_framework
    return tuple(sorted({release.unseen["act_layer"] for release in chosen}))


def _architecture(config: Any) -> dict[str, Any]:
    fields = (field.name for field in dataclasses.fields(config))
    return {name: getattr(config, name) for name in fields if name not in SHAPELESS}


def _releases(family: Family) -> Iterator[Release]:
    for name, weights in family.weights.items():
        variant = family.variants[name.split(".")[0]]
        unseen = {key: getattr(variant, key) for key in UNSEEN if hasattr(variant, key)}
        yield Release(name, weights, {**unseen, **{k: v for k, v in weights.overrides.items() if k in UNSEEN}})


def _means(release: Release) -> tuple[Any, ...]:
    return release.unseen, *(getattr(release.weights, key) for key in STATISTICS)


def _is_named(path: Path, weights: Weights) -> bool:
    if weights.url:
        return path.name in (PurePosixPath(weights.url).name, cached_path(weights.url).name)
    if not weights.hub:
        return False
    owner, _, repository = weights.hub.partition("/")
    # As the hub's client keeps it, as `huggingface-cli download` and people do, and as timm named files before.
    folders = (repository, f"models--{owner}--{repository}")
    return any(part in folders for part in path.parts[:-1]) or _plain(path.stem).startswith(_plain(repository))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower())


def _hash(release: Release) -> str:
    return release.weights.sha256 or hash_in_name(PurePosixPath(release.weights.url or "").name)

"""Tell from a file alone which variant of which family it is of."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlpzoo.models import BackboneConfig, families
from mlpzoo.models._keymap import Source, as_is
from mlpzoo.ops.resize import Grid
from mlpzoo.weights._files import CheckpointError, TensorFile, open_tensors
from mlpzoo.weights._formats import (
    OWN,
    planned_shapes,
    shapes_of,
    source_config,
    stated_size,
)
from mlpzoo.weights._nesting import strip_prefixes
from mlpzoo.weights.recognize import UNSEEN, recognize, stated_activation

Shapes = Mapping[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Identified:
    """What a file is of.

    Attributes:
        name: registered name of the variant.
        config: the variant's config with what differs in the file: classes, channels, image size and the like.
        format: the format found, for people.
        release: `name.tag` of the released file that it is, where it is one.
        alike: other variants whose files hold the same names and shapes.
    """

    name: str
    config: BackboneConfig
    format: str
    release: str | None = None
    alike: tuple[str, ...] = ()

    @property
    def overrides(self) -> dict[str, Any]:
        """Options of `create_model(name)` that build the network the file was saved from."""
        variant = _variant(self.name)
        fields = (field.name for field in dataclasses.fields(variant))
        return {key: getattr(self.config, key) for key in fields if getattr(self.config, key) != getattr(variant, key)}


def identify_checkpoint(path: str | Path, *, img_size: int | Grid | None = None) -> Identified:
    """Find the variant whose parameters have the names and shapes that a file holds.

    Only names and shapes are read, which do not tell everything. The activation is what the file says itself, or that
    of the released file that it is by its name or hash; of any other file the variant's own, see `LoadReport.notes`.
    Where the files of several variants look alike, as those of IdentityFormer and PoolFormerV2 do, the released file
    decides.

    Args:
        path: the file, in any format that `load_checkpoint` reads.
        img_size: image height and width in pixels that the file was trained at, where its token grid is not square.

    Returns:
        The variant, and the config that the file fits.

    Raises:
        CheckpointError: when it is damaged, of no variant known here, or of several alike.
    """
    with open_tensors(Path(path)) as file:
        found = identify(file, img_size)
        said = stated_activation(file)
    if not found:
        raise CheckpointError(
            f"cannot tell what {path} is of: its names and shapes are those of no variant known here. Name the model, "
            "and its options where it is one of your own making"
        )
    family = next(family for family in families() if found.name in family.variants)
    release = recognize(Path(path), family)
    variant = release.name.split(".")[0] if release else ""
    if found.alike:
        same = (found.name, *found.alike)
        if variant not in same:
            raise CheckpointError(
                f"cannot tell what {path} is of: {', '.join(same[:-1])} and {same[-1]} hold tensors of the same names "
                f"and shapes. Name the model, as in create_model('{same[0]}', checkpoint_path=...)"
            )
        config = dataclasses.replace(_variant(variant), **found.overrides)
        found = dataclasses.replace(found, name=variant, config=config, alike=())
    if said is not None:
        return dataclasses.replace(found, config=dataclasses.replace(found.config, act_layer=said))
    if release is None or variant != found.name:
        return found
    unseen = {key: release.unseen[key] for key in UNSEEN if key in release.unseen}
    return dataclasses.replace(found, config=dataclasses.replace(found.config, **unseen), release=release.name)


def identify(file: TensorFile, img_size: int | Grid | None = None) -> Identified | None:
    """What an open file is of, the first of several alike; None if unknown."""
    candidates = list(_candidates(file, img_size))
    if not candidates:
        return None
    first, *others = candidates
    alike = dict.fromkeys(found.name for found in others if found.overrides == first.overrides)
    alike.pop(first.name, None)
    return dataclasses.replace(first, alike=tuple(alike))


def _variant(name: str) -> BackboneConfig:
    return next(family.variants[name] for family in families() if name in family.variants)


def _candidates(file: TensorFile, img_size: int | Grid | None) -> Iterator[Identified]:
    stated = stated_size(img_size, file.metadata)
    names, _ = strip_prefixes(file.shapes)
    found = {bare: file.shapes[name] for bare, name in names.items()}
    for family in families():
        own = {name: [Source(name, as_is)] for name in names}
        formats = [(OWN, own), *((key_map.title, key_map.complete_plan(found)) for key_map in family.formats)]
        for title, plan in formats:
            try:
                shapes = planned_shapes(plan, names, file) if plan else {}
            except CheckpointError:
                continue
            for name, variant in family.variants.items():
                config = _told_by(variant, shapes)
                if config is None:
                    continue
                backbone = family.model(config, device="meta")
                try:
                    config, _ = source_config(backbone, shapes, stated, trust_count=False)
                except CheckpointError:
                    continue
                wanted = shapes_of(backbone.whole_network(config))
                optional = config.optional_prefixes
                wanted = {key: shape for key, shape in wanted.items() if key in shapes or not key.startswith(optional)}
                if wanted == shapes:
                    yield Identified(name, config, title)


def _told_by(variant: BackboneConfig, shapes: Shapes) -> BackboneConfig | None:
    """The variant's config with the fields that the shapes tell of; None where they are plainly not its own."""
    told = variant.fields_from_shapes(shapes)
    try:
        return dataclasses.replace(variant, **told) if told else None
    except ValueError:
        return None

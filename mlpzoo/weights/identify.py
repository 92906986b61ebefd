"""Tell from a file alone which variant of which family it is of."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlpzoo.models import BackboneConfig, Family, families
from mlpzoo.models._keymap import Source, as_is
from mlpzoo.ops.resize import Grid
from mlpzoo.weights._files import CheckpointError, TensorFile, open_tensors
from mlpzoo.weights._formats import (
    FAMILY,
    OWN,
    planned_shapes,
    shapes_of,
    source_config,
    stated_size,
)
from mlpzoo.weights._nesting import strip_prefixes
from mlpzoo.weights.recognize import UNSEEN, recognize, stated_settings

Shapes = Mapping[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Identified:
    """What a file is of.

    Attributes:
        name: registered name of the variant.
        config: the variant's config with what differs in the file: classes, channels, image size and the like.
        format: the format found, for people.
        release: `name.tag` of the released file that it is, where it is one.
        alike: other networks whose files hold the same names and shapes.
    """

    name: str
    config: BackboneConfig
    format: str
    release: str | None = None
    alike: tuple["Identified", ...] = ()

    @property
    def overrides(self) -> dict[str, Any]:
        """Options of `create_model(name)` that build the network the file was saved from."""
        variant = _variant(self.name)
        fields = (field.name for field in dataclasses.fields(variant))
        return {key: getattr(self.config, key) for key in fields if getattr(self.config, key) != getattr(variant, key)}


def identify_checkpoint(path: str | Path, *, img_size: int | Grid | None = None, name: str = "") -> Identified:
    """Find the variant whose parameters have the names and shapes that a file holds.

    Only names and shapes are read, which do not tell everything. The rest is what the file says itself, where it was
    written here, or the activation of the released file that it is by its name or hash; of any other file it is the
    variant's own, see `LoadReport.notes`. Where the files of several networks look alike, as those of IdentityFormer
    and PoolFormerV2 do, the file itself, the released file or the caller decides.

    Args:
        path: the file, in any format that `load_checkpoint` reads.
        img_size: image height and width in pixels that the file was trained at, where its token grid is not square.
        name: the variant that it is of, of several alike.

    Returns:
        The variant, and the config that the file fits.

    Raises:
        CheckpointError: when it is damaged, of no variant known here, of several alike, or not of the one named.
    """
    with open_tensors(Path(path)) as file:
        found = identify(file, img_size)
        said = stated_settings(file)
    if not found:
        raise CheckpointError(
            f"cannot tell what {path} is of: its names and shapes are those of no variant known here. Name the model, "
            "and its options where it is one of your own making"
        )
    same = {each.name: each for each in (found, *found.alike)}
    if name and name not in same:
        raise CheckpointError(f"{path} is of {' or '.join(same)}, not of {name}")
    release = recognize(Path(path), *(family for family in families() if set(same) & set(family.variants)))
    variant = name or (release.name.split(".")[0] if release else "")
    if found.alike and variant not in same:
        *most, last = same
        raise CheckpointError(
            f"cannot tell what {path} is of: {', '.join(most)} and {last} hold tensors of the same names and shapes. "
            f"Name the model, as in create_model('{found.name}', checkpoint_path=...)"
        )
    found = dataclasses.replace(same.get(variant, found), alike=())
    if said is not None or release is None or release.name.split(".")[0] != found.name:
        return found
    unseen = {key: release.unseen[key] for key in UNSEEN if key in release.unseen}
    return dataclasses.replace(found, config=dataclasses.replace(found.config, **unseen), release=release.name)


def identify(file: TensorFile, img_size: int | Grid | None = None) -> Identified | None:
    """What an open file is of, the nearest of several alike; None if unknown."""
    said, origin = stated_settings(file), file.metadata.get(FAMILY)
    nearest: list[Identified] = []
    for family in families():
        if said is None or family.name == origin:
            found = [_as_stated(each, said or {}) for each in _candidates(family, file, img_size)]
            least = min((len(each.overrides) for each in found), default=0)
            nearest += {each.name: each for each in found if len(each.overrides) == least}.values()
    if not nearest:
        return None
    nearest.sort(key=lambda each: len(each.overrides))
    return dataclasses.replace(nearest[0], alike=() if said else tuple(nearest[1:]))


def _as_stated(found: Identified, settings: Mapping[str, Any]) -> Identified:
    """With the settings that a file says its network had."""
    own = found.config.settings
    told = {key: _hashable(value) for key, value in settings.items() if key in own and own[key] != value}
    try:
        return dataclasses.replace(found, config=dataclasses.replace(found.config, **told))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"its metadata give settings that no network has: {error}") from None


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


def _variant(name: str) -> BackboneConfig:
    return next(family.variants[name] for family in families() if name in family.variants)


def _candidates(family: Family, file: TensorFile, img_size: int | Grid | None) -> Iterator[Identified]:
    stated = stated_size(img_size, file.metadata)
    names, _ = strip_prefixes(file.shapes)
    bare = {name: file.shapes[there] for name, there in names.items()}
    own = {name: [Source(name, as_is)] for name in names}
    formats = [(OWN, own), *((key_map.title, key_map.complete_plan(bare)) for key_map in family.formats)]
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

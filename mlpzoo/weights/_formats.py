"""How a file is understood: which names it has for what, what they mean together, and the size it is bound to.

Names and shapes are all that is looked at here; no tensor is read.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import torch
from timm.layers import to_2tuple

from mlpzoo.models import FAMILIES, Network
from mlpzoo.models._keymap import Source, as_is
from mlpzoo.ops.resize import Grid
from mlpzoo.weights._files import CheckpointError, TensorFile

OWN = "our own layout"
IMG_SIZE = "img_size"
"""The entry of a safetensors file's metadata that says which image size its weights are bound to, as JSON."""

FAMILY, SETTINGS = "family", "settings"
"""The entries that say which family's network it was, and its config's `settings` as JSON."""

HEAD = ("head.weight", "head.bias")

Plan = dict[str, list[Source]]


def shapes_of(network: Network) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's tensors."""
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def choose_plan(
    family: str,
    names: Mapping[str, str],
    wanted: Mapping[str, tuple[int, ...]],
    file: TensorFile,
    known: tuple[str, ...] = (),
) -> tuple[Plan, list[str], str]:
    """The format that knows most of a file's names and, of those, gives most of the tensors the rank they have here.

    Args:
        family: whose formats.
        names: bare names to names in the file.
        wanted: our names to shapes.
        file: what they are in.
        known: what names of ours may begin with besides.

    Returns:
        The plan, the names it does not account for, and the format's title.
    """
    own = {name: [Source(name, as_is)] for name in names if name in wanted or name in HEAD or name.startswith(known)}
    candidates = [(own, [name for name in names if name not in own], OWN)]
    found = {bare: file.shapes[name] for bare, name in names.items()}
    candidates += [(*key_map.plan(found), key_map.title) for key_map in FAMILIES[family].formats]
    fewest = min(len(unknown) for _, unknown, _ in candidates)
    candidates = [candidate for candidate in candidates if len(candidate[1]) == fewest]
    if len(candidates) == 1:
        return candidates[0]

    def misfits(plan: Plan) -> int:
        shapes = planned_shapes(plan, names, file)
        return sum(len(shape) != len(wanted.get(name, shape)) for name, shape in shapes.items())

    return min(candidates, key=lambda candidate: misfits(candidate[0]))


def planned_shapes(plan: Plan, names: Mapping[str, str], file: TensorFile) -> dict[str, tuple[int, ...]]:
    """The shape each tensor of ours will have."""
    return {name: _planned_shape(sources, names, file) for name, sources in plan.items()}


def _planned_shape(sources: list[Source], names: Mapping[str, str], file: TensorFile) -> tuple[int, ...]:
    """The shape a tensor of ours will have, from the shapes in the file alone."""
    try:
        parts = [source.layout(torch.empty(file.shapes[names[source.name]], device="meta")) for source in sources]
        return tuple(torch.cat(parts).shape) if len(parts) > 1 else tuple(parts[0].shape)
    except (RuntimeError, IndexError):
        found = ", ".join(f"{source.name} {times(file.shapes[names[source.name]])}" for source in sources)
        raise CheckpointError(f"unusable shapes: {found}") from None


def stated_size(img_size: int | Grid | None, metadata: Mapping[str, str]) -> Grid | None:
    """The image size a file was trained at, as the caller or the file states it."""
    if img_size is None and IMG_SIZE in metadata:
        try:
            img_size = tuple(json.loads(metadata[IMG_SIZE]))
        except (ValueError, TypeError):
            raise CheckpointError(f"its metadata give {metadata[IMG_SIZE]!r} as the image size") from None
    if img_size is None:
        return None
    size = to_2tuple(img_size)
    if len(size) != 2 or not all(isinstance(side, int) and side >= 1 for side in size):
        raise CheckpointError(f"{img_size!r} is no image size: give (height, width) in pixels")
    return size


def source_config(
    whole: Any, shapes: Mapping[str, tuple[int, ...]], stated: Grid | None, *, trust_count: bool
) -> tuple[Any, list[str]]:
    """The config the file was trained with: the model's, at the file's own image size, see `Backbone.size_in`.

    Args:
        whole: a `Network`; what else is asked of it has those alone whose weights are bound to a size.
        shapes: names, in our layout, to shapes.
        stated: image height and width in pixels, where the file or the user says so.
        trust_count: see `Backbone.size_in`.

    Returns:
        The config, the model's own where no size needs to change, and notes on what changes, for people.
    """
    config = whole.config
    try:
        size = whole.size_in(shapes, stated, trust_count=trust_count)
        if size is None or size == config.image_size:
            return config, []
        whole.check_size(size)
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    grids = whole.grids_at(size)
    changes = {f"from {times(grids[name])} to {times(module.grid)}" for name, module in whole.bound_modules().items()}
    note = f"token grid resized {', '.join(sorted(changes))}; fine-tune before judging accuracy"
    return dataclasses.replace(config, img_size=size), [note]


def times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "a scalar"

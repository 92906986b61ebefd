"""Recipes from YAML files and from `key=value`, with errors that name the key and the nearest right one."""

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pydantic
import yaml

from mlpzoo.train.config import Recipe, RecipeError, Section
from mlpzoo.train.recipe_checks import check_recipe

MAX_BYTES = 1 << 20
"""No recipe is longer; YAML of a few lines can unfold into gigabytes, so aliases are refused as well."""


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-3 is a number, dates and times are text, a key may stand only once, and aliases are refused."""

    # PyYAML's own list stays as it is.
    yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {
        first: [(tag, pattern) for tag, pattern in found if tag.rpartition(":")[2] not in ("timestamp", "int", "float")]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not read here")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.YAMLError(f"the key '{twice.pop()}' stands twice{node.start_mark}")
        return super().construct_mapping(node, deep)


# Without numbers to the base of 60, such as 12:30.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"(?:[-+]?(?:\d[\d_]*\.[\d_]*|\.\d+|\d[\d_]*(?=[eE]))(?:[eE][-+]?\d+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+.0123456789"),
)


Kinds = Mapping[str, type[Recipe]]
"""The recipes that can be read, by task. A recipe that names no task is of the first."""

_FOLDERS: list[Path] = []


def register_recipes(folder: Path) -> None:
    """Let the recipes of a folder be read by their names."""
    _FOLDERS.append(folder)


def shipped_recipes() -> dict[str, Path]:
    """The recipes of all registered folders, by name."""
    found = {path.stem: path for folder in _FOLDERS for path in folder.glob("*.yaml")}
    return dict(sorted(found.items()))


def read_recipe(source: str | Path, changes: Sequence[str] = (), *, kinds: Kinds, checked: bool = True) -> Recipe:
    """Read a recipe and change some of it.

    Args:
        source: the name of a shipped recipe, or a YAML file.
        changes: `section.key=value` each, the value as in YAML; the later one wins.
        kinds: what it may be.
        checked: whether to check more than keys and types.

    Returns:
        The recipe, all keys filled in.

    Raises:
        ValueError: for an unknown recipe, a file that is no YAML, an unknown or ill-typed key, or a value out of range;
            naming the key, and the nearest right one.
    """
    path = _path_of(str(source))
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"{path} is no recipe: it is longer than {MAX_BYTES:,} bytes")
        data = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not readable as YAML: {error}") from None
    except OSError as error:
        raise ValueError(f"cannot read the recipe {path}: {error.strerror}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path} is no recipe: it should hold sections such as model: and schedule:")
    origin = f"recipe {source}" if str(source) in shipped_recipes() else str(path)
    return recipe_from(data, changes, kinds=kinds, origin=origin, checked=checked)


def recipe_from(
    data: Mapping[str, Any],
    changes: Sequence[str] = (),
    *,
    kinds: Kinds,
    origin: str = "the recipe",
    checked: bool = True,
) -> Recipe:
    """Check a recipe that is nested dictionaries, after some changes; see `read_recipe`.

    Args:
        data: the recipe.
        changes: `section.key=value` each.
        kinds: what it may be.
        origin: what it is called in errors.
        checked: whether to check more than keys and types.
    """
    try:
        merged = json.loads(json.dumps(data))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{origin}: {error}") from None
    task = merged.get("task", next(iter(kinds))) if isinstance(merged, dict) else None
    if not isinstance(task, str) or task not in kinds:
        raise ValueError(f"{origin}: unknown task {json.dumps(task)}: {', '.join(kinds)}")
    kind = kinds[task]
    for change in changes:
        _apply(merged, change, kind)
    try:
        # JSON mode: lists become tuples, and nothing else is converted.
        recipe = kind.model_validate_json(json.dumps(merged))
        if checked:
            check_recipe(recipe)
        return recipe
    except RecipeError as error:
        raise RecipeError(f"{origin}: {error}") from None
    except pydantic.ValidationError as error:
        # An unknown key first: it explains what else may be missing.
        problems = sorted(error.errors(include_url=False), key=lambda problem: problem["type"] != "extra_forbidden")
        raise ValueError(f"{origin}: {_explained(problems[0], kind)}") from None


def with_epochs(source: str | Path, changes: Sequence[str], epochs: int, *, kinds: Kinds) -> Recipe:
    """Read a recipe to be run for another number of epochs, with a warm-up that leaves at least one of them."""
    changes = [*changes, f"schedule.epochs={epochs}"]
    if read_recipe(source, changes, kinds=kinds, checked=False).schedule.warmup_epochs >= epochs:
        changes = [*changes, f"schedule.warmup_epochs={epochs - 1}"]
    return read_recipe(source, changes, kinds=kinds)


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML, every key in it."""
    return yaml.safe_dump(json.loads(recipe.model_dump_json()), sort_keys=False, allow_unicode=True, width=100)


def differences(old: Recipe, new: Recipe) -> list[str]:
    """Keys that differ, except those that do not change the weights."""
    harmless = {"about", "data.workers", "data.root", "data.validation_batch_size", "run.log_every", "run.trackers"}
    harmless |= {"run.keep_checkpoints", "run.checkpoint_every", "run.validate_every", "data.download"}
    a, b = flat(old), flat(new)
    return [key for key in b if a.get(key) != b[key] and not {key, key.split(".")[0]} & harmless]


def keys(kind: type[Recipe]) -> list[str]:
    """Every key of a kind of recipe, as `section.key`."""
    return [key for key in _keys(kind) if "." in key]


def _keys(section: type[Section], prefix: str = "") -> Iterable[str]:
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from _keys(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def flat(recipe: Recipe) -> dict[str, Any]:
    """Every setting, by `section.key`."""
    sections: dict[str, dict[str, Any]] = json.loads(recipe.model_dump_json(exclude={"task"}))
    return {f"{section}.{key}": value for section, content in sections.items() for key, value in content.items()}


def _path_of(source: str) -> Path:
    shipped = shipped_recipes()
    if source in shipped:
        return shipped[source]
    path = Path(source)
    if path.suffix in (".yaml", ".yml") or path.exists():
        return path
    near = difflib.get_close_matches(source, shipped, 1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    raise ValueError(f"unknown recipe '{source}'{hint}: there is {', '.join(shipped)}, or give a .yaml file")


def _apply(data: dict[str, Any], change: str, kind: type[Recipe]) -> None:
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise ValueError(f"'{change}' is no change: write section.key=value, such as optimizer.lr=1e-3")
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError:
        raise ValueError(f"the value of '{change}' is not readable as YAML") from None
    *sections, last = key.split(".")
    if key == "task":
        raise ValueError("the task of a recipe cannot be changed: the other keys depend on it")
    if key in kind.model_fields:
        first = next(name for name in keys(kind) if name.startswith(f"{key}."))
        raise ValueError(f"'{key}' is a section: change one of its keys, such as {first}=…")
    if not sections:
        raise ValueError(f"unknown key '{key}'{_nearest(key, kind)}")
    inner = data
    for section in sections:
        inner = inner.setdefault(section, {}) if isinstance(inner, dict) else {}
        if inner is None or not isinstance(inner, dict):
            raise ValueError(f"unknown key '{key}'{_nearest(key, kind)}")
    inner[last] = text.strip() if value is not None and not isinstance(value, str) and _is_text(key, kind) else value
    # One length excludes the other, so the one just given replaces the recipe's.
    other = {
        "schedule.epochs": "updates",
        "schedule.updates": "epochs",
        "schedule.warmup_epochs": "warmup_updates",
        "schedule.warmup_updates": "warmup_epochs",
    }.get(key)
    if other and value is not None:
        inner.pop(other, None)


def _is_text(key: str, kind: type[Recipe]) -> bool:
    """Whether a key holds text, so that 2012 and no are text as well."""
    section, _, name = key.partition(".")
    found: Any = kind.model_fields.get(section)
    field = getattr(found and found.annotation, "model_fields", {}).get(name)
    return field is not None and field.annotation in (str, str | None)


def _explained(problem: Any, kind: type[Recipe]) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{key}'{_nearest(key, kind)}"
    if problem["type"] == "missing":
        return f"the key '{key}' is missing"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return message if message.startswith(f"{key}.") else f"{key}: {message}"
    return f"{key} is {json.dumps(problem['input'])}: {message[0].lower()}{message[1:]}"


def _nearest(key: str, kind: type[Recipe]) -> str:
    sections = [name for name in kind.model_fields if name != "task"]
    if "." not in key and (section := difflib.get_close_matches(key, sections, 1, 0.7)):
        return f": did you mean '{section[0]}'?"
    known = keys(kind)
    last = key.split(".")[-1]
    # The right name in the wrong section is a more likely slip than any spelling.
    same = [name for name in known if name.split(".")[-1] == last]
    near = same or difflib.get_close_matches(key, known, 1, 0.5)
    if not near:
        near = [name for name in known if difflib.SequenceMatcher(None, name.split(".")[-1], last).ratio() > 0.7]
    return f": did you mean '{near[0]}'?" if near else f": the sections are {', '.join(sections)}"

"""Where the weights are in a file: what training code nests them under, and puts before their names."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

RAW = ("state_dict", "model", "model_state_dict", "module", "net", "network", "params", "weights", "checkpoint")
"""Keys under which training code nests weights."""
EMA = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema", "params_ema", "model_ema_state_dict")
"""Keys under which it nests their moving average."""
RAW_PREFIXES = ("opt/target/", "params/", "module.", "_orig_mod.", "_forward_module.", "model.", "backbone.")
"""What it puts before every name. Names without it, an optimizer's state, are then left aside."""
SHARED_PREFIXES = ("network.", "net.")
"""As these, where no name is without it: authors' own names begin so as well."""
CLASSIFIER = ("head.fc.weight", "head.fc.bias")
"""The head that stands beside `backbone.` in mmpretrain's classifiers; heads of detectors are called otherwise."""
EMA_PREFIXES = ("ema_model.", "model_ema.", "ema.")
"""What it puts before the names of a moving average."""
DEEPEST = 8
COUNTS = ("total_ops", "total_params")
"""What thop adds to every module it counts the operations of; no parameters."""


def weights_in(content: Any, *, prefer_ema: bool) -> tuple[Any, list[str]]:
    """The innermost table that holds the weights, in whatever order wrappers are nested.

    Args:
        content: of a file.
        prefer_ema: whether to take a moving average, where there are also the weights it is of.

    Returns:
        The table, or what else was found; and what was chosen, for people.
    """
    notes: list[str] = []
    for _ in range(DEEPEST):
        if not isinstance(content, Mapping):
            break
        inner = {key: value for key, value in content.items() if isinstance(value, Mapping) and _has_tensors(value)}
        taken = _chosen(inner, RAW, EMA, prefer_ema, notes)
        if taken is None and len(inner) == 1 and not any(isinstance(value, Tensor) for value in content.values()):
            (taken,) = inner
        if taken is None:
            break
        content = inner[taken]
    return content, notes


def strip_prefixes(names: Iterable[str], *, prefer_ema: bool = True) -> tuple[dict[str, str], list[str]]:
    """Bare names to names in the file, without prefixes in whatever order they are nested; and what was chosen."""
    notes: list[str] = []
    stripped = {name: name for name in names}
    for _ in range(DEEPEST):
        groups: dict[str, dict[str, str]] = {}
        for prefix in (*RAW_PREFIXES, *SHARED_PREFIXES, *EMA_PREFIXES):
            inside = {bare.removeprefix(prefix): name for bare, name in stripped.items() if bare.startswith(prefix)}
            if prefix == "backbone." and inside:
                inside |= {name: stripped[name] for name in CLASSIFIER if name in stripped}
            if inside and (prefix not in SHARED_PREFIXES or len(inside) == len(stripped)):
                groups[prefix] = inside
        taken = _chosen(groups, (*RAW_PREFIXES, *SHARED_PREFIXES), EMA_PREFIXES, prefer_ema, notes)
        if taken is None:
            break
        known = {name for group in groups.values() for name in group.values()}
        aside = [name for name in stripped.values() if name not in known]
        if aside and "/" not in taken:
            more = f" and {len(aside) - 3} more" if len(aside) > 3 else ""
            notes.append(f"read what begins with '{taken}', and left aside {', '.join(aside[:3])}{more}")
        stripped = groups[taken]
    return {bare: name for bare, name in stripped.items() if bare.rpartition(".")[2] not in COUNTS}, notes


def _chosen(
    there: Mapping[str, Any], raw: tuple[str, ...], ema: tuple[str, ...], prefer_ema: bool, notes: list[str]
) -> str | None:
    """Which of the wrappers that are there to go into; None where none is known."""
    weights, average = (next((key for key in keys if key in there), None) for keys in (raw, ema))
    if weights is None or average is None:
        return weights or average
    taken, left = (average, weights) if prefer_ema else (weights, average)
    notes.append(
        f"it holds weights ('{weights}') and their moving average ('{average}'); '{taken}' was taken, and "
        f"prefer_ema={not prefer_ema} takes '{left}'"
    )
    return taken


def _has_tensors(value: Any, depth: int = 0) -> bool:
    if isinstance(value, Mapping) and depth < DEEPEST:
        return any(_has_tensors(inner, depth + 1) for inner in value.values())
    return isinstance(value, Tensor)

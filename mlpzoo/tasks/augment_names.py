"""The names of timm's transforms, checked before timm meets them: it skips or asserts what it does not know."""

import re

from mlpzoo.train.config import did_you_mean

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
NUMBER = r"\d+(?:\.\d+)?"
POLICIES = {
    "rand": {
        "m": r"\d+",
        "n": r"[1-9]\d*",
        "p": NUMBER,
        "mstd": NUMBER,
        "mmax": r"\d+",
        "inc": "[01]",
        "t": "weights|3aw?",
    },
    "augmix": {"m": r"\d+", "w": r"[1-9]\d*", "d": r"\d+", "a": NUMBER, "b": "[01]", "mstd": NUMBER},
    **{name: {"mstd": NUMBER} for name in ("original", "originalr", "v0", "v0r", "3a")},
}
"""For each policy what may follow its name: a key and what its value looks like."""
HIGHEST = 10
"""timm cuts magnitudes above it, unless `mmax` says otherwise."""


def check_interpolation(name: str, *more: str) -> str:
    """A known name of an interpolation.

    Raises:
        ValueError: with the nearest ones.
    """
    known = (*INTERPOLATIONS, *more)
    if name not in known:
        raise ValueError(f"unknown interpolation '{name}'{did_you_mean(name, known)}: {', '.join(known)}")
    return name


def check_policy(text: str) -> str:
    """A policy of automatic augmentation as timm reads it, such as `rand-m9-mstd0.5-inc1`.

    Raises:
        ValueError: naming the part that is wrong.
    """
    name, *parts = text.split("-")
    if name not in POLICIES:
        near = did_you_mean(name, POLICIES)
        raise ValueError(
            f"unknown policy '{text}'{near}: {', '.join(POLICIES)}, followed by settings, such as rand-m9-mstd0.5-inc1"
        )
    found = {}
    for part in parts:
        # The longest key first: mstd before m.
        for key in sorted(POLICIES[name], key=len, reverse=True):
            if re.fullmatch(f"{key}(?:{POLICIES[name][key]})", part):
                found[key] = part.removeprefix(key)
                break
        else:
            keys = ", ".join(POLICIES[name])
            raise ValueError(f"'{part}' in '{text}' is no setting of {name}, which has {keys}, each with a number")
    highest = int(found.get("mmax", HIGHEST))
    if int(found.get("m", 0)) > highest:
        raise ValueError(f"the magnitude of '{text}' is above {highest}: add mmax{found['m']}, or lower it")
    if float(found.get("p", 0)) > 1:
        raise ValueError(f"the probability of '{text}' is above 1")
    return text

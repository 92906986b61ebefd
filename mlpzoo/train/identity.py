"""What a run's data are, as far as going on with it depends on them: told apart by a digest."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mlpzoo.train.data import Readable

SIZES, CONTENTS, BYTES = 10_000, 64, 1 << 20
"""Of how many samples, evenly spaced, the sizes and the contents count, and how much of each content."""

Identity = dict[str, Any]
"""`classes`, a list of names or None, and for `training` and `validation` the `count` and the `digest`, or None."""


def identity(items: Readable | None, root: str | None, details: Iterable[object] = ()) -> Identity | None:
    """Count and digest of samples, in order: their names below the folder of the data, sizes and some contents.

    Args:
        items: the samples; None where they are not known.
        root: folder of the data, which may move.
        details: what else tells them apart, such as labels.
    """
    if items is None:
        return None
    count = len(items)
    digest = hashlib.sha256()
    prefix = os.path.join(Path(root), "") if root else ""
    sized, read = (range(0, count, max(1, -(-count // most))) for most in (SIZES, CONTENTS))
    for i in range(count):
        name = items.name(i)
        digest.update(f"{name.removeprefix(prefix)}\n".encode("utf-8", "surrogateescape"))
        if i in sized and os.path.isfile(name):
            digest.update(b"%d" % os.path.getsize(name))
            if i in read:
                with open(name, "rb") as stream:
                    digest.update(stream.read(BYTES))
    for detail in details:
        digest.update(f"{detail}\n".encode())
    return {"count": count, "digest": digest.hexdigest()}


def difference(old: Identity, new: Identity) -> str | None:
    """What is different about the data, for people; None for nothing."""
    if old["classes"] != new["classes"]:
        return _classes(old["classes"] or [], new["classes"] or [])
    for part in ("training", "validation"):
        before, now = old[part], new[part]
        if before is None or now is None or before == now:
            continue
        if before["count"] != now["count"]:
            return f"there are {now['count']:,} samples for {part}, and were {before['count']:,}"
        return f"the {now['count']:,} samples for {part} are other files, in another order or in other classes"
    return None


def _classes(old: Sequence[str], new: Sequence[str]) -> str:
    gone, came = [name for name in old if name not in new], [name for name in new if name not in old]
    if not gone and not came:
        return f"the classes are in another order: {', '.join(new[:5])}, and were {', '.join(old[:5])}"
    parts = [f"{', '.join(names[:5])} {verb}" for names, verb in ((gone, "gone"), (came, "new")) if names]
    return f"the classes are others: {' and '.join(parts)}"

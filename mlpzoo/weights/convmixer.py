"""Released formats of ConvMixer."""

import re
from collections.abc import Sequence

from mlpzoo.weights._keymap import Pair, reader, same, writer

FIRST_BLOCK = 3
"""Place of the first block in the authors' list, after patches, activation and norm."""

TIMM = (
    Pair("stem.0.*", "stem.proj.*"),
    Pair("stem.2.*", "stem.norm.*"),
    Pair("blocks.*.0.fn.0.*", "blocks.*.depthwise.proj.*"),
    Pair("blocks.*.0.fn.2.*", "blocks.*.depthwise.norm.*"),
    Pair("blocks.*.1.*", "blocks.*.pointwise.proj.*"),
    Pair("blocks.*.3.*", "blocks.*.pointwise.norm.*"),
    *same("head.*"),
)


def name_places(names: Sequence[str]) -> list[str]:
    """From the authors' names, which are places in one list, to timm's.

    `0.` and `2.` are the stem; what has places of its own inside is a block; the linear layer after the blocks, pooling
    and flattening is the head.
    """
    blocks = {int(place) for name in names for place in re.findall(r"^(\d{1,4})\.\d", name)}
    head = max(blocks, default=0) + 3

    def renamed(match: re.Match[str]) -> str:
        place = int(match[1])
        if place in blocks and place >= FIRST_BLOCK:
            return f"blocks.{place - FIRST_BLOCK}."
        return "head." if place == head else f"stem.{place}."

    return [re.sub(r"^(\d{1,4})\.", renamed, name) for name in names]


KEY_MAPS = (
    reader("timm's layout", TIMM),
    reader("the authors' .pth.tar", TIMM, name_places),
)
TO_TIMM = writer("timm's layout", TIMM)

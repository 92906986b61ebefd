"""Released formats of ConvMixer."""

import re
from collections.abc import Sequence

from mlpzoo.weights._keymap import KeyMap, Rule

FIRST_BLOCK = 3
"""Place of the first block in the authors' list, after patches, activation and norm."""

STATE = "weight|bias|running_mean|running_var|num_batches_tracked"

RULES = (
    Rule(r"stem\.0\.(weight|bias)", r"stem.proj.\1"),
    Rule(rf"stem\.2\.({STATE})", r"stem.norm.\1"),
    Rule(r"blocks\.(\d+)\.0\.fn\.0\.(weight|bias)", r"blocks.\1.depthwise.proj.\2"),
    Rule(rf"blocks\.(\d+)\.0\.fn\.2\.({STATE})", r"blocks.\1.depthwise.norm.\2"),
    Rule(r"blocks\.(\d+)\.1\.(weight|bias)", r"blocks.\1.pointwise.proj.\2"),
    Rule(rf"blocks\.(\d+)\.3\.({STATE})", r"blocks.\1.pointwise.norm.\2"),
    Rule(r"head\.(weight|bias)", r"head.\1"),
)
"""From timm's names."""


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
    KeyMap("timm's layout", RULES),
    KeyMap("the authors' .pth.tar", RULES, rename=name_places),
)

"""What the files of several pyramids share.

Those of CycleMLP's kind hold the stages and the convolutions between them in one list named `network`; those of Swin's
kind hold stages in a list named `layers`, each of which ends with what leads into the next.
"""

import re
from collections.abc import Sequence

from mlpzoo.models._keymap import Rule


def number_stages(names: Sequence[str]) -> list[str]:
    """Replace a module's place in the list by its stage: `network.2.` by `network.1.`, say.

    Places with a `proj` of their own are convolutions, and lead into the stage that follows; how many there are, and
    where, differs by variant. Norms of feature maps are named after the place whose map they take: `norm2.` becomes
    `feature_norms.1.`
    """
    places = {int(place) for name in names for place in re.findall(r"^network\.(\d{1,4})\.", name)}
    convolutions = {int(place) for name in names for place in re.findall(r"^network\.(\d{1,4})\.proj\.", name)}
    stage_of = {str(place): sum(earlier < place for earlier in places - convolutions) for place in places}

    def renumbered(match: re.Match[str]) -> str:
        prefix = "network" if match[1] == "network." else "feature_norms"
        return f"{prefix}.{stage_of[match[2]]}." if match[2] in stage_of else match[0]

    return [re.sub(r"^(network\.|norm)(\d+)\.", renumbered, name) for name in names]


def downsample_first(names: Sequence[str]) -> list[str]:
    """Count what leads into a stage to that stage, where Swin's kind has it at the end of the one before.

    `layers.0.downsample.` becomes `layers.1.downsample.`
    """

    def counted(match: re.Match[str]) -> str:
        return f"layers.{int(match[1]) + 1}.downsample."

    return [re.sub(r"^layers\.(\d{1,4})\.downsample\.", counted, name) for name in names]


def stage_rules(branches: str) -> tuple[Rule, ...]:
    """Rules for names that `number_stages` has numbered; `branches` is a pattern for those of the mixing."""
    layer = rf"norm[12]|attn\.(?:{branches}|reweight\.fc[12]|proj)|mlp\.fc[12]"
    return (
        Rule(r"patch_embed\.proj\.(weight|bias)", r"stem.proj.\1"),
        Rule(r"network\.(\d+)\.proj\.(weight|bias)", r"stages.\1.downsample.proj.\2"),
        Rule(rf"network\.(\d+)\.(\d+)\.({layer})\.(weight|bias)", r"stages.\1.blocks.\2.\3.\4"),
        Rule(r"feature_norms\.(\d+)\.(weight|bias)", r"feature_norms.\1.\2"),
        Rule(r"norm\.(weight|bias)", r"norm.\1"),
        Rule(r"head\.(weight|bias)", r"head.\1"),
    )

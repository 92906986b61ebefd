"""How the files of Strip-MLP are laid out."""

import re
from collections.abc import Sequence

from torch import Tensor

from mlpzoo.models._keymap import KeyMap, Rule, flat, pointwise_kernel


def number_stages(names: Sequence[str]) -> list[str]:
    """The authors count stages from 1: `blocks1.0.` to `stages.0.blocks.0.`; `merging1.` leads to the second."""
    return [
        re.sub(r"^blocks([1-9])\.(\d{1,4})\.", lambda found: f"stages.{int(found[1]) - 1}.blocks.{found[2]}.", name)
        for name in names
    ]


def by_group(value: Tensor) -> Tensor:
    """A kernel `(groups × length, length, 1, 3)` to `(groups, length, length, 3)`."""
    return value.squeeze(2).unflatten(0, (-1, value.shape[1]))


WB = r"\.(weight|bias)"
BATCH_NORM = r"\.(weight|bias|running_mean|running_var|num_batches_tracked)"
BLOCK = r"(stages\.\d+\.blocks\.\d+)\."
TOKEN = rf"{BLOCK}token_mixing\."
STRIP = rf"{TOKEN}smlp_block\."
CHANNEL = rf"{BLOCK}channel_mixing\."
OURS = r"\1.token_mixing"

FORMATS = (
    KeyMap(
        "the authors' .pth",
        (
            Rule(r"patch_embed\.weight", "stem.proj.weight"),
            Rule(r"merging([1-3])\.weight", r"stages.\1.downsample.proj.weight"),
            Rule(r"conv_s1_28\.weight", "stages.2.shortcuts.0.weight"),
            Rule(r"conv_s1_14\.weight", "stages.3.shortcuts.0.weight"),
            Rule(r"conv_s2_14\.weight", "stages.3.shortcuts.1.weight"),
            Rule(rf"{TOKEN}dwsc\.conv_merge\.BN{BATCH_NORM}", rf"{OURS}.local.norm.\2"),
            Rule(rf"{TOKEN}dwsc\.conv_merge\.Conv\.weight", rf"{OURS}.local.conv.weight"),
            Rule(rf"{STRIP}mlp\.0{WB}", rf"{OURS}.proj.\2"),
            Rule(rf"{STRIP}mlp\.1{BATCH_NORM}", rf"{OURS}.norm.\2"),
            Rule(rf"{STRIP}BN{BATCH_NORM}", rf"{OURS}.strips.norm.\2"),
            Rule(rf"{STRIP}proj_h\.weight", rf"{OURS}.strips.mix_w.weight", by_group),
            Rule(rf"{STRIP}proj_h\.bias", rf"{OURS}.strips.mix_w.bias"),
            Rule(rf"{STRIP}proj_w\.weight", rf"{OURS}.strips.mix_h.weight", by_group),
            Rule(rf"{STRIP}proj_w\.bias", rf"{OURS}.strips.mix_h.bias"),
            Rule(rf"{STRIP}fuse_h\.weight", rf"{OURS}.strips.fuse_w.weight"),
            Rule(rf"{STRIP}fuse_w\.weight", rf"{OURS}.strips.fuse_h.weight"),
            Rule(rf"{STRIP}relate_pos_h\.embeddings_table", rf"{OURS}.strips.pos_w"),
            Rule(rf"{STRIP}relate_pos_w\.embeddings_table", rf"{OURS}.strips.pos_h"),
            Rule(rf"{STRIP}fc_h\.weight", rf"{OURS}.conv_w.weight"),
            Rule(rf"{STRIP}fc_w\.weight", rf"{OURS}.conv_h.weight"),
            Rule(rf"{STRIP}reweight\.(fc[12])\.weight", rf"{OURS}.reweight.\2.weight", pointwise_kernel),
            Rule(rf"{STRIP}reweight\.(fc[12])\.bias", rf"{OURS}.reweight.\2.bias"),
            Rule(rf"{STRIP}fuse\.weight", rf"{OURS}.fuse.weight"),
            Rule(rf"{CHANNEL}conv_77\.weight", r"\1.channel_mixing.conv.weight"),
            Rule(rf"{CHANNEL}layer_norm{WB}", r"\1.channel_mixing.norm.\2"),
            Rule(rf"{CHANNEL}(fc[12]){WB}", r"\1.channel_mixing.\2.\3"),
            Rule(rf"{CHANNEL}grn\.gamma", r"\1.channel_mixing.response_norm.weight", flat),
            Rule(rf"{CHANNEL}grn\.beta", r"\1.channel_mixing.response_norm.bias", flat),
            Rule(rf"norm{BATCH_NORM}", r"norm.bn.\1"),
            Rule(rf"head{WB}", r"head.\1"),
        ),
        rename=number_stages,
    ),
)

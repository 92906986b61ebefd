"""How the files of RaftMLP are laid out."""

import re
from collections.abc import Iterator, Sequence

from torch import Tensor

from mlpzoo.models._keymap import KeyMap, Layout, Rule


def number_blocks(names: Sequence[str]) -> list[str]:
    """A level's list holds its embedding, something without weights, then its blocks: `levels.0.fn.2.` is the first."""

    def renamed(match: re.Match[str]) -> str:
        return f"stages.{match[1]}.blocks.{int(match[2]) - 2}."

    return [re.sub(r"^levels\.(\d+)\.fn\.([2-9]|\d{2,4})\.", renamed, name) for name in names]


def kernel(index: int, kernels: int, patch: int) -> Layout:
    """One kernel of an embedding, from the authors' linear layer over unfolded patches of all widths."""

    def taken(weight: Tensor) -> Tensor:
        unit = weight.shape[1] // sum(4**i for i in range(kernels))
        side = patch * 2**index
        return weight.split([4**i * unit for i in range(kernels)], 1)[index].unflatten(1, (-1, side, side))

    return taken


def in_order(value: Tensor) -> Tensor:
    """A norm's weight or bias in the order of the channels: the authors' has the two parts of a raft side by side."""
    return value.unflatten(0, (-1, 2)).t().flatten()


WB = r"\.(weight|bias)"
BLOCK = r"(stages\.\d+\.blocks\.\d+)\."


def _embedding_rules() -> Iterator[Rule]:
    for levels, target, kernels, patch in (
        ("0", "stem", 2, 4),
        ("[12]", r"stages.\1.downsample", 2, 2),
        ("3", r"stages.\1.downsample", 1, 2),
    ):
        pattern = rf"levels\.({levels})\.fn\.0\.fc\.weight"
        for index in range(kernels):
            name = f"wider.{index - 1}" if index else "proj"
            partly = index + 1 < kernels
            yield Rule(pattern, f"{target}.{name}.weight", kernel(index, kernels, patch), partly=partly)
        yield Rule(rf"levels\.({levels})\.fn\.0\.fc\.bias", f"{target}.proj.bias")


def _mixing_rules() -> Iterator[Rule]:
    for place, axis in ((1, "h"), (3, "w")):
        mix = rf"\1.mix_{axis}"
        yield Rule(rf"{BLOCK}{place}\.norm\.1{WB}", rf"{mix}.norm.\2", in_order)
        yield Rule(rf"{BLOCK}{place}\.fn\.0{WB}", rf"{mix}.fc1.\2")
        yield Rule(rf"{BLOCK}{place}\.fn\.3{WB}", rf"{mix}.fc2.\2")


FORMATS = (
    KeyMap(
        "the authors' .pth",
        (
            *_embedding_rules(),
            *_mixing_rules(),
            Rule(rf"{BLOCK}5\.norm{WB}", r"\1.norm.\2"),
            Rule(rf"{BLOCK}5\.fn\.0{WB}", r"\1.mlp.fc1.\2"),
            Rule(rf"{BLOCK}5\.fn\.3{WB}", r"\1.mlp.fc2.\2"),
            Rule(rf"heads\.0\.1{WB}", r"norm.\1"),
            Rule(rf"classifier{WB}", r"head.\1"),
        ),
        rename=number_blocks,
    ),
)

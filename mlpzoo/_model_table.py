"""Parameters and cost of the registered models, from a generated file, so that describing a model does not build it.

`make table` writes `_model_table.csv` from the registry. A row holds a digest of the config that was measured, of its
image size and number of classes. Where a model's own digest is not in the file, because the model is new or its config
changed, the figures are computed. Changes of code alone are left to the tests, which measure some models again, and all
of them where slow tests run.
"""

import csv
import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

PATH = Path(__file__).with_suffix(".csv")
COLUMNS = ("name", "digest", "parameters", "macs")


class ModelSize(NamedTuple):
    """How large a model is.

    Attributes:
        parameters: how many, with the head.
        macs: multiply-accumulates of one forward pass of one image.
    """

    parameters: int
    macs: int


def digest(*causes: Any) -> str:
    """A digest of values by their `repr`, which for a config names its class and every field."""
    return hashlib.sha256(repr(causes).encode()).hexdigest()[:16]


@functools.cache
def read_table() -> Mapping[tuple[str, str], ModelSize]:
    """The file's sizes by name and digest."""
    if not PATH.exists():
        return {}
    with PATH.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        return {(row["name"], row["digest"]): ModelSize(int(row["parameters"]), int(row["macs"])) for row in rows}


def table_text(sizes: Mapping[tuple[str, str], ModelSize]) -> str:
    """The file's text: a line a model, sorted, so that branches that add families merge."""
    lines = [",".join(map(str, (name, key, *size))) for (name, key), size in sorted(sizes.items())]
    return "\n".join((",".join(COLUMNS), *lines)) + "\n"


def measure(model: nn.Module, input_size: tuple[int, int, int]) -> ModelSize:
    """Count a model's parameters, and its multiply-accumulates for one image.

    Args:
        model: a model on the meta device, where nothing is computed.
        input_size: channels, height and width in pixels.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.empty(1, *input_size, device="meta"))
    return ModelSize(sum(parameter.numel() for parameter in model.parameters()), counter.get_total_flops() // 2)

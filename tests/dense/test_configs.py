"""What can be said of `configs/` without mmengine, which `make test-clients` has: backbones build and channels fit."""

import re
import runpy
from pathlib import Path

import pytest

from mlpzoo.dense import DenseBackbone

CONFIGS = Path(__file__).parents[2] / "configs"
FILES = sorted(CONFIGS.glob("mm*/*.py"))


def model_of(path):
    """The `model` of a config over that of the config beside it which it inherits."""
    found = runpy.run_path(str(path))
    base = found["_base_"]
    model = dict(model_of(path.parent / base)) if isinstance(base, str) else {}
    for key, value in found.get("model", {}).items():
        model[key] = {**model.get(key, {}), **value} if isinstance(value, dict) else value
    return model


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_backbones_and_channels_fit(path):
    model = model_of(path)
    backbone = model["backbone"]
    assert backbone.pop("type") == "MLPZooBackbone"
    assert backbone.pop("_delete_")
    # Weights are downloaded, or have to be fetched by hand.
    assert backbone.pop("pretrained", False) != (backbone.pop("checkpoint_path", None) == f"{backbone['name']}.pth")
    assert f"_{backbone['name']}_" in path.stem
    net = DenseBackbone(**backbone, device="meta")
    consumer = model.get("neck", model.get("decode_head"))
    assert consumer["in_channels"] == list(net.channels)
    if "auxiliary_head" in model:
        assert model["auxiliary_head"]["in_channels"] == net.channels[2]


def test_the_tables_repeat_the_numbers_of_the_files():
    """Each file's first line and its cell have the same numbers, and say alike whether those are verified."""
    cells = cells_of((CONFIGS / "README.md").read_text())
    assert len(FILES) == len(cells) == 40
    for path in FILES:
        cell, first = cells[path.stem], path.read_text().splitlines()[0]
        numbers = re.findall(r"\d+\.\d", first)
        assert re.findall(r"\d+\.\d", cell) == numbers
        assert bool(numbers) == (not cell.startswith(("none", "not known")))
        assert ("unverified" in first) == ("*" in cell)


def cells_of(readme):
    """A config's name to what the tables say of it: a row a network, a column a kind of config."""
    cells, kinds = {}, []
    for line in readme.splitlines():
        parts = [part.strip() for part in line.strip("|").split("|")]
        if parts[0] == "network":
            kinds = [re.search(r"`(.*)`", part)[1] for part in parts[1:]]
        elif kinds and line.startswith("| `"):
            name = parts[0].strip("`")
            cells |= {kind.replace("…", name): cell for kind, cell in zip(kinds, parts[1:], strict=True) if cell != "–"}
        elif not line.startswith("|"):
            kinds = []
    return cells

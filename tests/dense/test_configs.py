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
    for key, value in found["model"].items():
        model[key] = {**model.get(key, {}), **value} if isinstance(value, dict) else value
    return model


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_backbones_and_channels_fit(path):
    model = model_of(path)
    backbone = model["backbone"]
    assert backbone.pop("type") == "MLPZooBackbone"
    assert backbone.pop("_delete_")
    assert backbone.pop("pretrained")
    assert f"_{backbone['name']}_" in path.stem
    net = DenseBackbone(**backbone, device="meta")
    consumer = model.get("neck", model.get("decode_head"))
    assert consumer["in_channels"] == list(net.channels)
    if "auxiliary_head" in model:
        assert model["auxiliary_head"]["in_channels"] == net.channels[2]


def test_the_table_repeats_the_numbers_of_the_files():
    lines = (CONFIGS / "README.md").read_text().splitlines()
    columns = ("retinanet", "mask_rcnn", "fpn", "upernet")
    assert len(FILES) == 20
    for path in FILES:
        kind, number = path.stem.split("_cyclemlp_b")
        (row,) = (line for line in lines if line.startswith(f"| `cyclemlp_b{number[0]}`"))
        cell = row.split("|")[2 + columns.index(kind)]
        first = path.read_text().splitlines()[0]
        numbers = re.findall(r"\d+\.\d", first)
        assert re.findall(r"\d+\.\d", cell) == numbers
        assert bool(numbers) == (kind != "upernet" and "not known" not in cell)
        assert ("unverified" in first) == ("*" in cell)

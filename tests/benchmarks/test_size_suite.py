import csv
import sys

import pytest

import mlpzoo
from benchmarks import __main__ as cli
from benchmarks import memory
from benchmarks.arguments import build_parser, resolve

RUN = ["--suite", "size", "--batch", "1", "--pairs", "2", "--threads", "1"]


def run(tmp_path, *words):
    out = tmp_path / "results.csv"
    assert cli.main([*RUN, *words, "--out", str(out)]) == 0
    return list(csv.DictReader(out.read_text().splitlines()))


def test_every_size_and_mode_has_its_rows(monkeypatch, tmp_path, capsys, tiny):
    asked = []
    monkeypatch.setattr(memory, "peak_mb", lambda options, row: asked.append(row["img_size"]) or 12.5)
    rows = run(tmp_path, "--models", "mixer_s16", "--sizes", "64", "32x48", "--modes", "forward", "training")
    found = [(row["img_size"], row["mode"], row["contender"]) for row in rows]
    assert found == [
        (size, mode, contender)
        for size in ("64", "32x48")
        for mode in ("forward", "training")
        for contender in ("ours", "timm-nchw", "reference")
    ]
    assert [row["img_size"] for row in rows] == asked
    for row in rows:
        assert row["peak_mem_mb"] == "12.5"
        assert float(row["images_per_s"]) > 0
    table = capsys.readouterr().out
    assert "32x48" in table
    assert "12.5" in table


def test_a_size_that_a_model_cannot_take_is_a_note(monkeypatch, tmp_path, tiny):
    monkeypatch.setattr(memory, "peak_mb", lambda options, row: None)
    rows = run(tmp_path, "--models", "mixer_s16", "--sizes", "40", "32", "--peers", "reference")
    assert [row["img_size"] for row in rows] == ["40", "32", "32"]
    assert "skipped: an image of 40×40 pixels does not divide into patches" in rows[0]["note"]
    assert rows[1]["note"] == rows[2]["note"] == ""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of resident memory is read from Linux's /proc")
def test_memory_of_a_step_counts_weights_images_and_maps():
    words = [*RUN, "--models", "vit_ti16", "--sizes", "32"]
    options = resolve(build_parser().parse_args(words))
    row = {"model": "vit_ti16", "contender": "ours", "img_size": "32", "batch": 8, "dtype": "fp32", "mode": "training"}
    weights = 4 * mlpzoo.model_info("vit_ti16").parameters / 1e6
    # A training step holds the weights' gradients beside the weights; the maps of so small images are smaller.
    assert 1.8 * weights < memory.peak_mb(options, row) < 3 * weights
    assert memory.peak_mb(options, {**row, "contender": "base 1234567"}) is None

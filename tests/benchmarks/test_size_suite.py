"""The suites `size` and `memory`, and the one probe of memory."""

import csv
import sys

import pytest
import torch

import mlpzoo
from benchmarks import __main__ as cli
from benchmarks import memory
from benchmarks.options import Options, Size
from benchmarks.suites import models

RUN = ["--suite", "size", "--batch", "1", "--pairs", "2", "--threads", "1"]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the peak of resident memory is read from Linux's /proc")


def run(tmp_path, *words):
    out = tmp_path / "results.csv"
    assert cli.main([*words, "--out", str(out)]) == 0
    return list(csv.DictReader(out.read_text().splitlines()))


@LINUX
def test_every_size_and_mode_has_its_rows(monkeypatch, tmp_path, capsys, tiny):
    asked = []

    def step_memory(options, name, contender, size, *how):
        asked.append(str(size))
        return {"held_mb": 2.5, "added_mb": 10.0}

    monkeypatch.setattr(models, "step_memory", step_memory)
    words = ["--models", "mixer_s16", "--sizes", "64", "32x48", "--modes", "forward", "training"]
    rows = run(tmp_path, *RUN, *words)
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
    monkeypatch.setattr(models, "step_memory", lambda *_: {"held_mb": 1.0, "added_mb": 1.0})
    rows = run(tmp_path, *RUN, "--models", "mixer_s16", "--sizes", "40", "32", "--peers", "reference")
    assert [row["img_size"] for row in rows] == ["40", "32", "32"]
    assert "skipped: an image of 40×40 pixels does not divide into patches" in rows[0]["note"]
    assert rows[1]["note"] == rows[2]["note"] == ""


@LINUX
def test_memory_of_a_step_counts_weights_images_and_maps():
    found = models.step_memory(Options(threads=1), "vit_ti16", "ours", Size(32, 32), 8, "fp32", "training")
    weights = 4 * mlpzoo.model_info("vit_ti16").parameters / 1e6
    assert found["held_mb"] == pytest.approx(weights, rel=0.1)
    # A training step adds the weights' gradients; the maps of so small images are smaller.
    assert 0.8 * weights < found["added_mb"] < 2 * weights
    assert found["seconds"] > 0


@LINUX
def test_memory_of_ours_and_of_the_reference(monkeypatch, tmp_path, capsys):
    values = {"ours": iter([4.0, 9.0, 5.0]), "reference": iter([9.0, 10.0, 30.0])}
    monkeypatch.setattr(models, "step_memory", lambda *about: {"added_mb": next(values[about[2]])})
    ours, reference = run(tmp_path, "--suite", "memory", "--models", "mixer_s16", "--threads", "1")
    assert (ours["added_mb"], ours["added_ratio"], ours["mode"]) == ("5", "", "training")
    assert (reference["added_mb"], reference["added_ratio"], reference["repeats"]) == ("10", "2", "3")
    assert "added_ratio" in capsys.readouterr().out


def step_that_holds(before: int, during: int):
    """A step that takes `during` MiB, in a process that already holds `before` MiB."""
    held = torch.ones(before << 18)

    def step():
        assert len(held)
        if during:
            torch.ones(during << 18).sum()

    return step


@LINUX
@pytest.mark.parametrize(("during", "low", "high"), [(0, 0, 8), (32, 30, 60)])
def test_the_probe_sees_what_a_step_adds_and_not_what_was_there(during, low, high):
    # In a process of its own: here the allocator may keep memory of earlier tests, which hides what a step takes.
    found = memory.in_process(step_that_holds, 64, during, threads=1)
    assert low <= found["added_mb"] < high


@LINUX
def test_a_case_that_fails_is_told():
    with pytest.raises(RuntimeError, match="memory ended with 1"):
        memory.in_process(memory.in_process, "no case", threads=1)


def test_another_system_is_one_line_and_exit_code_2(monkeypatch, capsys):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--suite", "memory", "--models", "mixer_s16"])
    assert stopped.value.code == 2
    assert "Linux only" in capsys.readouterr().err

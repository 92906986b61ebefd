"""The training loop beside a bare one: both do the same updates."""

import csv

import pytest
import torch

from benchmarks import __main__ as cli
from benchmarks.measure import time_in_turn
from benchmarks.suites import training

TINY = ["model.options={img_size: 8, patch_size: 4, in_chans: 1, embed_dim: 8, depth: 1, tokens_mlp_dim: 4}"]


def test_both_do_the_same_updates():
    with training.loops(TINY, pairs=2, updates=2) as loops:
        times = time_in_turn(loops, "cpu", 1, 2)
        assert list(times) == ["ours", "bare loop"]
        assert all(len(seconds) == 2 and min(seconds) > 0 for seconds in times.values())
        ours, bare = (loop.task.model.state_dict() for loop in loops.values())
        for name, value in ours.items():
            torch.testing.assert_close(value, bare[name], rtol=1e-5, atol=1e-6)


def test_rows(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(training.CASES, "digits", TINY)
    words = ["--suite", "training", "--models", "digits", "--pairs", "2", "--updates", "1", "--threads", "1"]
    assert cli.main([*words, "--out", str(tmp_path / "x.csv")]) == 0
    assert "time / ours" in capsys.readouterr().out
    with (tmp_path / "x.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["model"], row["contender"]) for row in rows] == [("digits", "ours"), ("digits", "bare loop")]
    assert float(rows[1]["ratio_median"]) > 0


@pytest.mark.parametrize("arguments", [["--pairs", "1"], ["--pairs", "0"], ["--updates", "x"], ["--models", "digit"]])
def test_mistakes(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["--suite", "training", *arguments])
    assert left.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1

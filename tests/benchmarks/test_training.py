"""The training loop beside a bare one: both do the same updates."""

import csv

import pytest
import torch

from benchmarks import training

TINY = ["model.options={img_size: 8, patch_size: 4, in_chans: 1, embed_dim: 8, depth: 1, tokens_mlp_dim: 4}"]


def test_both_do_the_same_updates(monkeypatch):
    tasks = []
    original = training._task

    def remember(*args):
        tasks.append(original(*args))
        return tasks[-1]

    monkeypatch.setattr(training, "_task", remember)
    times = list(training.blocks(TINY, pairs=2, updates=2))
    assert len(times) == 2
    assert min(min(pair) for pair in times) > 0
    ours, bare = (task.model.state_dict() for task in tasks)
    for name, value in ours.items():
        torch.testing.assert_close(value, bare[name], rtol=1e-5, atol=1e-6)


def test_rows(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(training, "CASES", {"tiny": TINY})
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    assert training.main(["--pairs", "2", "--updates", "1", "--out", str(tmp_path / "x.csv")]) == 0
    assert "times as long" in capsys.readouterr().out
    with (tmp_path / "x.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["contender"] for row in rows] == ["ours", "bare loop"]
    assert float(rows[1]["ratio_median"]) > 0


@pytest.mark.parametrize("arguments", [["--pairs", "1"], ["--pairs", "0"], ["--updates", "x"]])
def test_mistakes(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        training.main(arguments)
    assert left.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1

import csv
import functools

import pytest
import torch

from benchmarks import detection

SMALL = {"embed_dims": (8, 12, 16, 24), "depths": (1, 1, 1, 1), "out_channels": 8}
RUN = ["--size", "160", "224", "--pairs", "2", "--threads", "1"]


@pytest.fixture(autouse=True)
def _same_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(detection, "create", functools.partial(detection.create, **SMALL))
    monkeypatch.setattr(detection, "_in_process", lambda flags: 100.0 + len(flags[-1]))


def test_a_run(tiny, tmp_path, capsys):
    out = tmp_path / "results.csv"
    for _ in range(2):
        assert detection.main([*RUN, "--out", str(out)]) == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    contenders = ("ours", "reference")
    runs = [(part, mode, who) for part in ("detector", "body") for mode in ("infer", "train") for who in contenders]
    assert [(row["part"], row["mode"], row["contender"]) for row in rows] == 2 * runs
    for row in rows:
        ours = row["contender"] == "ours"
        assert 0 < float(row["s_q1"]) <= float(row["s_median"]) <= float(row["s_q3"])
        assert (row["ratio_median"] == "") == ours
        assert row["added_mb"] == ("104" if ours else "109")
        assert (row["height"], row["width"], row["pairs"]) == ("160", "224", "2")
        assert str(tmp_path) not in str(row)
    assert "cyclemlp_b1 body train at 160×224: reference / ours" in capsys.readouterr().out


def test_a_detector_that_differs_is_not_timed(tiny, monkeypatch, tmp_path, capsys):
    create = detection.create

    def off(model, impl, height, width, **options):
        detector = create(model, impl, height, width, **options)
        if impl == "reference":
            detector.backbone.body.network.stem.register_forward_hook(lambda module, given, y: y * (1 + 1e-6))
        return detector

    monkeypatch.setattr(detection, "create", off)
    out = tmp_path / "results.csv"
    assert detection.main([*RUN, "--out", str(out)]) == 1
    assert not out.exists()
    assert "RED: cyclemlp_b1: ours is not the reference" in capsys.readouterr().err


def test_each_memory_case_is_a_process_of_its_own():
    flags = ["--model", "cyclemlp_b1", "--size", "320", "448", "--threads", "1", "--parts", "body", "--modes", "train"]
    added = detection._in_process([*flags, "--in-process", "auto"])
    # The maps of the first stage alone are 80 × 112 × 64 floats, kept many times for the backward pass.
    assert 20 < added < 2000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "cyclemlp_b9"], "invalid choice: 'cyclemlp_b9'"),
        (["--size", "100", "100"], "--size 160 224 or more"),
        (["--pairs", "1"], "--pairs must be 2 or more"),
    ],
)
def test_mistakes(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        detection.main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err

import csv
import functools

import pytest

from benchmarks import __main__ as cli
from benchmarks import memory
from benchmarks.options import Size
from benchmarks.suites import detection

SMALL = {"embed_dims": (8, 12, 16, 24), "depths": (1, 1, 1, 1), "out_channels": 8}
RUN = ["--suite", "detection", "--models", "cyclemlp_b1", "--sizes", "160x224", "--pairs", "2", "--threads", "1"]


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(detection, "create", functools.partial(detection.create, **SMALL))
    monkeypatch.setattr(memory, "in_process", lambda case, *about, threads: {"added_mb": 100.0 + len(about[1])})


def test_a_run(tiny, tmp_path, capsys):
    out = tmp_path / "results.csv"
    assert cli.main([*RUN, "--out", str(out)]) == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    contenders = ("ours", "reference")
    runs = [(part, mode, c) for part in ("detector", "body") for mode in ("forward", "training") for c in contenders]
    assert [(row["part"], row["mode"], row["contender"]) for row in rows] == runs
    for row in rows:
        ours = row["contender"] == "ours"
        assert 0 < float(row["ms_q1"]) <= float(row["ms_median"]) <= float(row["ms_q3"])
        assert (row["ratio_median"] == "") == ours
        assert row["added_mb"] == ("104" if ours else "109")
        assert (row["img_size"], row["pairs"]) == ("160x224", "2")
        assert str(tmp_path) not in str(row)
    assert "time / ours" in capsys.readouterr().out


def test_a_detector_that_differs_is_not_timed(tiny, monkeypatch, tmp_path, capsys):
    create = detection.create

    def off(model, impl, size, **options):
        detector = create(model, impl, size, **options)
        if impl == "reference":
            detector.backbone.body.network.stem.register_forward_hook(lambda module, given, y: y * (1 + 1e-6))
        return detector

    monkeypatch.setattr(detection, "create", off)
    out = tmp_path / "results.csv"
    assert cli.main([*RUN, "--out", str(out)]) == 1
    assert not out.exists()
    assert "RED: cyclemlp_b1: reference does not compute what ours does" in capsys.readouterr().err


def test_each_memory_case_is_a_process_of_its_own():
    case = (detection.memory_case, "cyclemlp_b1", "auto", "body", "training", Size(320, 448))
    # The maps of the first stage alone are 80 × 112 × 64 floats, kept many times for the backward pass.
    assert 20 < memory.in_process(*case, threads=1)["added_mb"] < 2000


def test_images_that_are_too_small(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([*RUN, "--sizes", "100"])
    assert stopped.value.code == 2
    assert "--sizes: 100 is below 160x224" in capsys.readouterr().err

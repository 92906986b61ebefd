"""The suites `loading` and `restoration`, whose cases run in processes of their own."""

import csv
import sys

import pytest

from benchmarks import __main__ as cli
from benchmarks import memory
from benchmarks.suites import loading, restoration

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the memory of processes is read from Linux's /proc")


@pytest.fixture
def here(monkeypatch):
    """Cases run in this process; their memory is not measured."""

    def in_process(case, *arguments, threads):
        found = case(*arguments)()
        return {"added_mb": 12.0, "seconds": 0.5, **(found if isinstance(found, dict) else {})}

    monkeypatch.setattr(memory, "in_process", in_process)


def run(tmp_path, *words):
    out = tmp_path / "results.csv"
    assert cli.main([*words, "--threads", "1", "--out", str(out)]) == 0
    return list(csv.DictReader(out.read_text().splitlines()))


def test_every_form_and_size_is_loaded(here, tmp_path, capsys):
    rows = run(tmp_path, "--suite", "loading", "--models", "vit_ti16", "--img-sizes", "0", "64")
    assert [(row["form"], row["img_size"]) for row in rows] == [(f, s) for f in loading.FORMS for s in ("", "64")]
    for row in rows:
        assert float(row["added_over_file"]) == pytest.approx(12.0 / float(row["file_mb"]), rel=1e-4)
    assert "added_over_file" in capsys.readouterr().out


def test_loading_in_a_process_adds_the_model(tmp_path):
    megabytes = loading.write("vit_ti16", "safetensors", tmp_path / "weights") / 1e6
    found = memory.in_process(loading.case, "vit_ti16", str(tmp_path / "weights"), 0, threads=1)
    assert 0.9 * megabytes < found["added_mb"] < 6 * megabytes


def test_restoring_by_tiles_counts_its_passes(here, monkeypatch, tmp_path):
    monkeypatch.setattr(restoration.torch, "rand", restoration.torch.zeros)
    words = ["--models", "maxim_s1", "--sizes", "64", "--tiles", "0", "64"]
    rows = run(tmp_path, "--suite", "restoration", *words)
    assert [(row["img_size"], row["tile"], row["passes"]) for row in rows] == [("64", "0", "1"), ("64", "64", "1")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["loading", "--models", "vit_ti16", "--img-sizes", "30"], "does not divide into patches"),
        (["loading", "--models", "vit_ti16", "--forms", "onnx"], "unknown form 'onnx'"),
        (["restoration", "--models", "maxim_s9"], "unknown restoration network 'maxim_s9'; the nearest: maxim_s3"),
    ],
)
def test_mistakes(words, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--suite", *words])
    assert stopped.value.code == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1

"""A disk that is full, at every place that writes: one line, and what was there stays.

A limit on the size of a file stands in for the disk: the system refuses the same writes, with another number.
"""

import os
import resource
import signal
import subprocess
import sys

import pytest
import torch
import yaml
from train.tiny import RECIPE

import mlpzoo
from mlpzoo.cli import run
from mlpzoo.compare import Cost, draw
from mlpzoo.train._run import staging
from mlpzoo.train.data import BadImages
from mlpzoo.weights import save_safetensors

TINY = {**RECIPE["model"]["options"], "num_classes": 10}


@pytest.fixture
def limit():
    """Let no file grow beyond so many bytes, until the test is over."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield limit
    limit(before[0])
    signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    """They take longer than these runs."""
    monkeypatch.setattr("mlpzoo.train.Task.illustrate", lambda *_: None)


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# How large files may grow, and the first that cannot be written then.
PLACES = [(100, "cannot write to"), (2300, "metrics.jsonl"), (6000, "best"), (22_000, "the checkpoint")]


@pytest.mark.parametrize(("size", "place"), PLACES, ids=[place for _, place in PLACES])
def test_a_run(tmp_path, capsys, limit, size, place):
    recipe = {**RECIPE, "schedule": {"updates": 60 if place == "metrics.jsonl" else 2}}
    recipe["run"] = {"log_every": 1, "validate_every": 0, "checkpoint_every": 100}
    path, out = tmp_path / "r.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(recipe))
    limit(size)
    status = run(["train", str(path), "--out", str(out), "--device", "cpu"])
    limit(resource.RLIM_INFINITY)
    said = capsys.readouterr()
    assert (status, said.out) == (1, "")
    assert place in said.err.splitlines()[-1]
    assert said.err.splitlines()[-1].startswith("mlpzoo: error: ")
    assert "Traceback" not in said.err
    assert not [name for name in files(out) if "part" in name]
    assert run(["train", str(path), "--out", str(out), "--device", "cpu"]) == 0
    mlpzoo.create_model(f"local-dir:{out}")


def test_the_end_of_a_run(tmp_path, capsys, monkeypatch):
    from mlpzoo.train import engine

    def full(self, folder):
        raise OSError(28, "No space left on device", str(folder / "model.safetensors"))

    path, out = tmp_path / "r.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump({**RECIPE, "schedule": {"updates": 2}, "run": {"validate_every": 0}}))
    monkeypatch.setattr("mlpzoo.train.loop.BEST", "best")
    monkeypatch.setattr(engine.Trainer, "save", full)
    monkeypatch.setattr("mlpzoo.tasks.classification.Classification.best_by", None)
    assert run(["train", str(path), "--out", str(out), "--device", "cpu"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"No space left on device: '{out}'")
    assert not (out / "config.json").exists()
    monkeypatch.undo()
    assert run(["train", str(path), "--out", str(out), "--device", "cpu"]) == 0


@pytest.mark.parametrize("target", ["there.safetensors", "new.safetensors", "folder/new.safetensors", "new"])
def test_converted_files(tmp_path, capsys, limit, target):
    save_safetensors(mlpzoo.create_model("convmixer_d768_32", depth=1, embed_dim=8), tmp_path / "x.safetensors")
    (tmp_path / "there.safetensors").write_bytes(b"old")
    torch.save(mlpzoo.create_model("mixer_s32").state_dict(), tmp_path / "s32.pth")
    before = files(tmp_path)
    limit(10_000)
    assert run(["convert", str(tmp_path / "s32.pth"), str(tmp_path / target), "--overwrite"]) == 1
    limit(resource.RLIM_INFINITY)
    assert target in capsys.readouterr().err
    assert files(tmp_path) == before
    assert not (tmp_path / "folder").exists()
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["old.png", "deep/er/new.svg"])
def test_plots(tmp_path, limit, name):
    (tmp_path / "old.png").write_bytes(b"old")
    figures = {"parameters": 1, "gmacs": 1.0, "activation_mb": 1.0, "ms": 1.0}
    costs = [Cost(model="mixer_s32", img_size=(side, side), **figures) for side in (32, 64)]
    limit(100)
    with pytest.raises(OSError, match=name):
        draw(costs, tmp_path / name)
    limit(resource.RLIM_INFINITY)
    assert files(tmp_path) == {"old.png": b"old"}
    assert not (tmp_path / "deep").exists()
    draw(costs, tmp_path / name)
    assert (tmp_path / name).stat().st_size > 1000


def test_a_list_of_bad_images(tmp_path, limit):
    class Bad:
        def __len__(self):
            return 1

        def name(self, index):
            return "x" * 100

        def read(self, index):
            raise mlpzoo.images.ImageError("cannot read x")

    limit(10)
    with pytest.raises(OSError, match=r"bad_images.jsonl"):
        BadImages("skip", tmp_path).note(Bad(), torch.tensor([0]))


def test_folders_in_the_making(tmp_path, limit):
    limit(10)

    def write():
        with staging(tmp_path / "out") as partial:
            (partial / "x").write_bytes(b"x" * 100)

    with pytest.raises(OSError, match=r"File too large: '.*out'"):
        write()
    assert files(tmp_path / "out") == {}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("arguments", [["list", "--json"], ["--help"]], ids=" ".join)
def test_stdout(arguments):
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "mlpzoo", *arguments], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == ["mlpzoo: error: [Errno 28] No space left on device"]

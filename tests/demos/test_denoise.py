"""The recipe `denoise`: what it writes, that it goes on where it was, and (slowly) what it reaches."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tasks.resuming import assert_goes_on

from mlpzoo import demos  # noqa: F401  the recipe and its data
from mlpzoo.demos import photographs
from mlpzoo.restoration import load_restorer, psnr, read_picture, restore
from mlpzoo.tasks import read_recipe, train, validate

SMALL = ["data.length=4", "data.batch_size=1", "schedule.updates=4", "schedule.warmup_epochs=0", "run.log_every=1"]


@pytest.fixture(scope="module", autouse=True)
def _small_photographs():
    read = photographs.read_photograph
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(photographs, "read_photograph", lambda name: read(name).crop((100, 50, 230, 150)))
        yield


def recipe(*changes, seed=3):
    return read_recipe("denoise", [*SMALL, f"run.seed={seed}", *changes])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(recipe(), tmp_path_factory.mktemp("denoise"), device="cpu", progress=False)


def test_every_file_is_written_and_tells_the_same(run):
    names = {str(path.relative_to(run.folder)) for path in run.folder.rglob("*") if path.is_file()}
    own = {"config.json", "model.safetensors", "metrics.jsonl", "recipe.yaml", "curves.png"}
    assert own | {"before_after.png", "samples/noisy.png", "samples/clean.png", "best/config.json"} <= names
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line.get("epoch") for line in lines] == [1, 1, 1, 1, None]
    assert lines[-1] == {"step": 4, **run.figures}
    about = json.loads((run.folder / "config.json").read_text())["about"]
    assert (about["psnr"], about["seed"]) == (run.figures["psnr"], 3)
    assert np.asarray(Image.open(run.folder / "before_after.png")).std() > 10


def test_the_folder_gives_back_what_was_measured(run):
    clean = read_picture(run.folder / "samples" / "clean.png").pixels
    noisy = read_picture(run.folder / "samples" / "noisy.png").pixels
    assert psnr(noisy, clean) == pytest.approx(run.figures["noisy_psnr"])
    assert run.figures["noisy_psnr"] == pytest.approx(20.2, abs=0.2)
    restored = restore(load_restorer(run.folder), noisy, tile=64, overlap=32)
    found = psnr(restored.clamp(0, 1).mul(255).round().div(255), clean)
    assert found == pytest.approx(run.figures["psnr"], abs=1e-4)
    assert validate(run.folder, device="cpu", workers=0).figures == pytest.approx(run.figures, abs=1e-6)
    assert ("PSNR", f"{found:.2f} dB") in run.rows()


@pytest.mark.parametrize("after", [0, 2])
def test_stopped_it_goes_on_to_the_same_network(run, tmp_path, monkeypatch, after):
    assert_goes_on(recipe(), run.folder, tmp_path, monkeypatch, after=after)


def test_another_seed_gives_another_network(run, tmp_path):
    other = train(recipe(seed=4), tmp_path, device="cpu", progress=False)
    assert (other.folder / "model.safetensors").read_bytes() != (run.folder / "model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_it_gains_3_db_on_a_photograph_it_never_saw(tmp_path, monkeypatch):
    monkeypatch.undo()
    figures = train(read_recipe("denoise"), tmp_path, device="cpu", progress=False).figures
    assert figures["psnr"] >= figures["noisy_psnr"] + 3


def test_it_starts_as_the_identity(run):
    from mlpzoo.tasks.restoration import Restoration
    from mlpzoo.train import Place

    task = Restoration(recipe(), Place(torch.device("cpu")))
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(task.model(x)[-1][-1], x)

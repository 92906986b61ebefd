"""The denoising recipe: what it writes, that it repeats itself, and (slowly) what it reaches."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from mlpzoo.restoration import load_restorer, psnr, read_picture, restore
from mlpzoo.train import denoise, train_denoise

read_photograph = denoise.read_photograph


@pytest.fixture(scope="module", autouse=True)
def _small():
    patch = pytest.MonkeyPatch()
    patch.setattr(denoise, "read_photograph", lambda name: read_photograph(name)[:, 50:150, 100:230])
    patch.setattr(denoise, "STEPS_PER_EPOCH", 2)
    patch.setattr(denoise, "BATCH_SIZE", 1)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train_denoise(tmp_path_factory.mktemp("denoise"), epochs=2, seed=3, progress=False)


def test_every_file_is_written_and_tells_the_same(run):
    names = {str(path.relative_to(run.folder)) for path in run.folder.rglob("*") if path.is_file()}
    assert names == {
        "config.json",
        "model.safetensors",
        "metrics.jsonl",
        "before_after.png",
        "samples/noisy.png",
        "samples/clean.png",
    }
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line.get("epoch") for line in lines] == [1, 2, None]
    assert lines[2]["held_out_psnr"] == run.psnr
    assert json.loads((run.folder / "config.json").read_text())["about"]["psnr"] == run.psnr
    assert np.asarray(Image.open(run.folder / "before_after.png")).std() > 10


def test_the_folder_gives_back_what_was_measured(run):
    clean = read_picture(run.folder / "samples" / "clean.png").pixels
    noisy = read_picture(run.folder / "samples" / "noisy.png").pixels
    assert psnr(noisy, clean) == pytest.approx(run.noisy_psnr)
    assert run.noisy_psnr == pytest.approx(20.2, abs=0.2)
    restored = restore(load_restorer(run.folder), noisy, tile=denoise.TILE, overlap=denoise.OVERLAP)
    assert psnr(restored.clamp(0, 1).mul(255).round().div(255), clean) == pytest.approx(run.psnr, abs=1e-4)


def test_it_starts_as_the_identity_and_then_moves(run, tmp_path, monkeypatch):
    assert run.psnr != run.noisy_psnr
    monkeypatch.setattr(denoise, "_train", lambda *_: iter(()))
    untrained = train_denoise(tmp_path, progress=False)
    assert (untrained.psnr, untrained.ssim) == (untrained.noisy_psnr, untrained.noisy_ssim)


def test_the_same_seed_gives_the_same_model_and_another_does_not(run, tmp_path):
    again = train_denoise(tmp_path / "a", epochs=2, seed=3, progress=False)
    other = train_denoise(tmp_path / "b", epochs=2, seed=4, progress=False)
    content = [(result.folder / "model.safetensors").read_bytes() for result in (run, again, other)]
    assert content[0] == content[1] != content[2]


def test_crops_are_of_the_photographs_and_differ():
    photographs = [torch.full((3, 80, 100), 0.25), torch.full((3, 64, 64), 0.5)]
    generator = torch.Generator().manual_seed(0)
    values = {float(denoise.random_crops(photographs, generator).mean()) for _ in range(20)}
    assert values == {0.25, 0.5}
    ramp = torch.arange(80.0 * 100).reshape(1, 80, 100).repeat(3, 1, 1)
    crops = [denoise.random_crops([ramp], generator)[0, 0] for _ in range(40)]
    assert len({float(crop[0, 0]) for crop in crops}) > 10
    steps = {float(crop[0, 1] - crop[0, 0]) for crop in crops}
    assert steps == {1, -1, 100, -100}


def test_the_loss():
    clean = torch.rand(1, 3, 8, 8)
    half = torch.nn.functional.avg_pool2d(clean, 2)
    assert float(denoise.charbonnier([[half, clean]], clean)) == pytest.approx(2 * denoise.CHARBONNIER)
    assert float(denoise.charbonnier([[clean + 0.5], [clean - 0.25]], clean)) == pytest.approx(0.75, abs=1e-4)


def test_mistakes_come_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot write to"):
        train_denoise(tmp_path / "file", epochs=10_000, progress=False)
    with pytest.raises(ValueError, match="epochs must be 1 or more"):
        train_denoise(tmp_path, epochs=0)


@pytest.mark.slow
def test_it_gains_3_db_on_a_photograph_it_never_saw(tmp_path, monkeypatch):
    monkeypatch.setattr(denoise, "read_photograph", read_photograph)
    monkeypatch.setattr(denoise, "STEPS_PER_EPOCH", 100)
    monkeypatch.setattr(denoise, "BATCH_SIZE", 4)
    result = train_denoise(tmp_path, progress=False)
    assert result.psnr >= result.noisy_psnr + 3

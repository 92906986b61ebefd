"""Training a restoration network: crops, the loss, and folders of one's own."""

import numpy as np
import pytest
import torch
from PIL import Image

import mlpzoo.demos  # noqa: F401 - it registers the photographs
from mlpzoo.images import ImageError
from mlpzoo.tasks import recipe_from
from mlpzoo.tasks.restoration import Restoration, charbonnier, random_crop
from mlpzoo.train import Place

OPTIONS = {"embed_dim": 4, "depth": 1, "num_groups": 1, "num_bottleneck_blocks": 1, "num_supervision_scales": 1}


@pytest.fixture
def folder(tmp_path):
    for split in ("train", "validation"):
        (tmp_path / split).mkdir()
        for i in range(3):
            pixels = np.random.default_rng(i).integers(0, 256, (20, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / split / f"{i}.png")
    return tmp_path


def task(folder, *changes):
    content = {
        "task": "restoration",
        "model": {"name": "maxim_s1", "options": {**OPTIONS, "block_size_hr": 4, "grid_size_hr": 4}},
        "data": {"root": str(folder), "batch_size": 3, "workers": 0, "crop": 64},
        "schedule": {"updates": 1},
    }
    return Restoration(recipe_from(content, changes), Place(torch.device("cpu"), folder=folder))


def test_crops_are_of_the_image_and_differ():
    ramp = torch.arange(80.0 * 100).reshape(1, 80, 100).repeat(3, 1, 1)
    crops = [random_crop(ramp, 64)[0] for _ in range(40)]
    assert {crop.shape for crop in crops} == {(64, 64)}
    assert len({float(crop[0, 0]) for crop in crops}) > 10
    assert {float(crop[0, 1] - crop[0, 0]) for crop in crops} == {1, -1, 100, -100}


def test_small_images_are_padded_by_reflection():
    crop = random_crop(torch.rand(3, 3, 200), 64)
    assert crop.shape == (3, 64, 64)
    with pytest.raises(ImageError, match="1×200 pixels gives no crop"):
        random_crop(torch.rand(3, 1, 200), 64)


def test_the_loss():
    clean = torch.rand(1, 3, 8, 8)
    half = torch.nn.functional.avg_pool2d(clean, 2)
    assert float(charbonnier([[half, clean]], clean, 1e-3)) == pytest.approx(2e-3)
    assert float(charbonnier([[clean + 0.5], [clean - 0.25]], clean, 1e-3)) == pytest.approx(0.75, abs=1e-4)


def test_unreadable_images_stop_or_are_listed(folder):
    for split in ("train", "validation"):
        (folder / split / "1.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"1\.png: .*on_bad_image=skip"):
        list(task(folder).batches(0, 0))
    skipping = task(folder, "data.on_bad_image=skip", "data.length=6", "data.batch_size=6")
    ((noisy, clean),) = skipping.batches(0, 0)
    assert noisy.shape == clean.shape == (6, 3, 64, 64)
    assert set(skipping.validate(skipping.model.eval())) == {"psnr", "noisy_psnr", "ssim", "noisy_ssim"}
    assert len((folder / "bad_images.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["data.crop=65"], "data.crop is 65, but this network takes multiples of"),
        (["data.train_split=other"], "no folder of that name; there are train, validation"),
        (["data.root=null"], "say where the images are"),
        (["data.dataset=digits"], "unknown data set 'digits' .*: folder, photographs"),
        (["model.options={embed_dimz: 3}"], "model.options: .*embed_dim"),
        (["model.name=maxim_x"], "unknown model 'maxim_x'"),
    ],
)
def test_what_does_not_go_together(folder, changes, message):
    with pytest.raises(ValueError, match=message):
        task(folder, *changes)

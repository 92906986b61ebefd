"""A run that goes on with other data than it was trained on."""

import json
import os
import shutil

import pytest
from PIL import Image
from tasks.resuming import stop_after
from train.tiny import tiny_recipe

from mlpzoo.tasks import recipe_from, train
from mlpzoo.tasks.coco import CocoFolder
from mlpzoo.train import Stopped
from mlpzoo.train.identity import difference, identity


def pictures(root, classes=("cat", "dog", "elk")):
    for split in ("train", "validation"):
        for k, name in enumerate(classes):
            for i in range(3):
                path = root / split / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (8, 8), 40 * k + i).save(path)


def recipe(root, *changes):
    given = (f"data.root={root}", "data.dataset=folder", "data.batch_size=2", "schedule.updates=4")
    return tiny_recipe(*given, *changes)


@pytest.fixture
def stopped(tmp_path):
    """Data, and a run on them that was stopped."""
    pictures(tmp_path / "data")
    with pytest.MonkeyPatch.context() as patch:
        stop_after(1, patch)
        with pytest.raises(Stopped):
            train(recipe(tmp_path / "data"), tmp_path / "run", device="cpu", progress=False)
    return tmp_path / "data", tmp_path / "run"


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    """They are tested elsewhere, and take longer than these runs."""
    monkeypatch.setattr("mlpzoo.train.Task.illustrate", lambda *_: None)


def rename(root, old, new):
    for split in ("train", "validation"):
        (root / split / old).rename(root / split / new)


def swap(root):
    rename(root, "cat", "x")
    rename(root, "dog", "cat")
    rename(root, "x", "dog")


def another_image(root):
    Image.new("L", (8, 8), 255).save(root / "train/cat/1.png")


CHANGES = {
    "a class renamed": (lambda root: rename(root, "cat", "zebra"), "the classes are others: cat gone and zebra new"),
    "a class removed": (lambda root: [shutil.rmtree(root / s / "dog") for s in ("train", "validation")], "dog gone"),
    "a class added": (lambda root: pictures(root, ("cat", "dog", "elk", "fox")), "the classes are others: fox new"),
    "labels swapped": (swap, "the 9 samples for training are other files"),
    "a file renamed": (lambda root: (root / "train/cat/1.png").rename(root / "train/cat/7.png"), "other files"),
    "a file moved": (lambda root: (root / "train/cat/1.png").rename(root / "train/dog/7.png"), "other files"),
    "a file removed": (lambda root: (root / "train/cat/1.png").unlink(), "8 samples for training, and were 9"),
    "another image": (another_image, "the 9 samples for training are other files"),
    "validation": (lambda root: (root / "validation/cat/1.png").unlink(), "8 samples for validation, and were 9"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_data_are_refused(stopped, change):
    root, run = stopped
    act, message = CHANGES[change]
    act(root)
    before = {path: path.stat().st_mtime_ns for path in (run / "checkpoints").rglob("*")}
    with pytest.raises(ValueError, match=rf"not those that the run in .*{message}.*--overwrite"):
        train(recipe(root), run, device="cpu", progress=False)
    assert {path: path.stat().st_mtime_ns for path in (run / "checkpoints").rglob("*")} == before


def test_another_folder(stopped, tmp_path):
    root, run = stopped
    pictures(tmp_path / "other", ("cat", "dog", "elk"))
    Image.new("L", (8, 8), 7).save(tmp_path / "other/train/elk/2.png")
    with pytest.raises(ValueError, match="other files"):
        train(recipe(tmp_path / "other"), run, device="cpu", progress=False)
    train(recipe(tmp_path / "other"), tmp_path / "new", device="cpu", progress=False)
    # The same data elsewhere, under another way to write their folder, are the same.
    root.rename(tmp_path / "moved")
    way = os.path.relpath(tmp_path / "moved")
    assert train(recipe(f"./{way}/"), run, device="cpu", progress=False).figures


def test_the_order_of_classes_counts():
    parts = {"training": None, "validation": None}
    one, other = ({"classes": classes, **parts} for classes in (["a", "b"], ["b", "a"]))
    assert difference(one, one) is None
    assert difference(one, other) == "the classes are in another order: b, a, and were a, b"


def test_boxes_count(tmp_path):
    image = {"id": 1, "file_name": "a.png", "height": 8, "width": 8}
    found = []
    for box in ([0, 0, 4, 4], [0, 0, 5, 4]):
        box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": box, "iscrowd": 0}
        content = {"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "x"}]}
        (tmp_path / "annotations.json").write_text(json.dumps(content))
        data = CocoFolder(tmp_path)
        found.append(identity(data, str(tmp_path), data.objects))
    assert found[0] != found[1]
    assert found[0]["count"] == 1


def test_restoration_on_other_pictures(tmp_path):
    for split in ("train", "validation"):
        (tmp_path / split).mkdir()
        for i in range(2):
            Image.new("RGB", (64, 64), (90 * i, 0, 0)).save(tmp_path / split / f"{i}.png")
    options = {"embed_dim": 4, "depth": 1, "num_stages": 1, "num_supervision_scales": 1, "num_groups": 1}
    content = {
        "task": "restoration",
        "model": {"name": "maxim_s1", "options": options},
        "data": {"root": str(tmp_path), "batch_size": 1, "workers": 0, "validation_split": None},
        "schedule": {"updates": 2},
        "run": {"validate_every": 0},
    }
    with pytest.MonkeyPatch.context() as patch:
        stop_after(0, patch)
        with pytest.raises(Stopped):
            train(recipe_from(content), tmp_path / "run", device="cpu", progress=False)
    Image.new("RGB", (64, 64), "blue").save(tmp_path / "train/1.png")
    with pytest.raises(ValueError, match="the 2 samples for training are other files"):
        train(recipe_from(content), tmp_path / "run", device="cpu", progress=False)

"""Training a detector on COCO folders."""

import json

import pytest
import torch

from mlpzoo.demos.scenes import scenes_of
from mlpzoo.images import ImageError
from mlpzoo.tasks import load_detector, recipe_from, train, validate
from mlpzoo.tasks.coco import CocoFolder, write_coco
from mlpzoo.tasks.detection import Detection, _sample
from mlpzoo.train import Place

SMALL = {"embed_dims": [16, 16, 16, 16], "depths": [1, 1, 1, 1], "mlp_ratios": [1, 1, 1, 1]}


@pytest.fixture
def folder(tmp_path):
    for split, length in (("train", 5), ("validation", 3)):
        write_coco(tmp_path / "data" / split, scenes_of("validation", length))
    return tmp_path / "data"


def recipe(folder, *changes):
    content = {
        "task": "detection",
        "model": {"name": "cyclemlp_b1", "options": SMALL, "detector": {"out_channels": 32, "head_convs": 1}},
        "data": {"root": str(folder), "batch_size": 2, "workers": 0, "hflip": 1.0},
        "schedule": {"updates": 2},
    }
    return recipe_from(content, changes)


def test_a_folder_of_ones_own_trains(folder, tmp_path):
    run = train(recipe(folder), tmp_path / "run", device="cpu", progress=False)
    assert set(run.figures) == {"ap", "ap50", "ap75"}
    assert load_detector(run.folder).config.classes == [str(digit) for digit in range(10)]
    assert validate(run.folder, split="train", workers=0, device="cpu").figures.keys() == run.figures.keys()


def test_flipped_boxes_lie_on_the_flipped_image(folder):
    data = CocoFolder(folder / "train")
    (image, target), (flipped, other) = _sample(data, 0.0, 1, 0), _sample(data, 1.0, 1, 0)
    assert torch.equal(flipped, image.flip(2))
    for (left, top, right, bottom), box in zip(target["boxes"].int(), other["boxes"].int(), strict=True):
        assert torch.equal(image[:, top:bottom, left:right].flip(2), flipped[:, box[1] : box[3], box[0] : box[2]])


def test_crowds_and_empty_boxes_are_not_trained_on(folder):
    path = folder / "train" / "annotations.json"
    content = json.loads(path.read_text())
    before = len(CocoFolder(folder / "train").read(0)[1]["labels"])
    content["annotations"][0]["iscrowd"] = 1
    content["annotations"][1]["bbox"][2] = 0
    path.write_text(json.dumps(content))
    assert len(CocoFolder(folder / "train").read(0)[1]["labels"]) == before - 2


def test_unreadable_images_stop_or_are_listed(folder, tmp_path):
    for split in ("train", "validation"):
        (folder / split / "images" / "000001.png").write_bytes(b"")
    place = Place(torch.device("cpu"), folder=tmp_path)
    with pytest.raises(ImageError, match=r"000001\.png: .*on_bad_image=skip"):
        list(Detection(recipe(folder, "data.batch_size=5"), place).batches(0, 0))
    task = Detection(recipe(folder, "data.batch_size=5", "data.on_bad_image=skip"), place)
    ((images, targets),) = task.batches(0, 0)
    assert len(images) == len(targets) == 5
    with torch.inference_mode():
        task.validate(task.model.eval())
        assert [i for i, _ in task.find(task.model, task.held)] == [0, 2]
    assert len((tmp_path / "bad_images.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["data.dataset=voc"], "unknown data set 'voc' .*: coco, digit_scenes"),
        (["data.root=null"], "say where the images are"),
        (["data.train_split=other"], "no folder of that name; there are train, validation"),
        (["model.detector={min_sise: 3}"], "model.detector has no option 'min_sise': .*min_size"),
        (["model.options={embed_dimz: 3}"], "model.options: "),
        (["data.batch_size=6"], "there are only 5 images"),
    ],
)
def test_what_does_not_go_together(folder, changes, message):
    with pytest.raises(ValueError, match=message):
        Detection(recipe(folder, *changes), Place(torch.device("cpu")))


def test_other_classes_in_validation(folder):
    path = folder / "validation" / "annotations.json"
    content = json.loads(path.read_text())
    content["categories"][0]["name"] = "oh"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"the validation data have the classes .*oh"):
        Detection(recipe(folder), Place(torch.device("cpu")))

"""Scenes of digits: exact boxes, disjoint splits, COCO files and the average precision on them."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mlpzoo.train.coco import CocoScenes, average_precision, write_coco
from mlpzoo.train.digit_images import HELD_OUT, DigitImages
from mlpzoo.train.scenes import DIGITS, OVERLAP, PHOTOGRAPHS, SIZE, Scenes, scenes_of

from mlpzoo.train import scenes
from mlpzoo.train.data import hold_out

SEEDS = st.integers(0, 2**63 - 1)


@pytest.fixture(scope="module")
def flat():
    """Scenes whose photographs are gray, so that what differs from gray is ink."""
    made = Scenes("train")
    made._background = lambda rng: np.full((SIZE, SIZE, 3), 120, dtype=np.uint8)
    return made


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_boxes_end_where_the_ink_does(flat, seed):
    scene = flat.compose(seed)
    ink = (scene.image != 120).any(-1)
    inside = np.zeros_like(ink)
    for left, top, right, bottom in scene.boxes.astype(int):
        inside[top:bottom, left:right] = True
        box = ink[top:bottom, left:right]
        assert box[0].any()
        assert box[-1].any()
        assert box[:, 0].any()
        assert box[:, -1].any()
    assert not (ink & ~inside).any()


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_scenes_are_as_described(seed):
    scene = scenes_of("train").compose(seed)
    assert scene.image.shape == (SIZE, SIZE, 3)
    assert scene.image.dtype == np.uint8
    assert 1 <= len(scene.labels) <= DIGITS[1]
    assert scene.boxes.shape == (len(scene.labels), 4)
    assert scene.boxes.min() >= 0
    assert scene.boxes.max() <= SIZE
    assert (scene.boxes[:, 2:] > scene.boxes[:, :2]).all()
    for i, first in enumerate(scene.boxes):
        for second in scene.boxes[:i]:
            sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
            areas = [np.prod(box[2:] - box[:2]) for box in (first, second)]
            assert np.prod(sides.clip(0)) <= OVERLAP * min(areas)


def test_a_seed_gives_one_scene():
    made = scenes_of("train")
    first, again, other = made.compose(5), Scenes("train").compose(5), made.compose(6)
    assert (first.image == again.image).all()
    assert (first.boxes == again.boxes).all()
    assert first.labels == again.labels
    assert (first.image != other.image).any()


def test_held_out_scenes_share_nothing_with_those_trained_on():
    assert not set(PHOTOGRAPHS["train"]) & set(PHOTOGRAPHS["held_out"])
    scans = {split: {scan.tobytes() for scan, _ in scenes_of(split).scans} for split in ("train", "held_out")}
    assert not scans["train"] & scans["held_out"]
    kept, held = hold_out(DigitImages(), HELD_OUT)
    assert [len(scenes_of(split).scans) for split in ("train", "held_out")] == [len(kept), len(held)]


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "skimage.data", None)
    with pytest.raises(ImportError, match=r"pip install 'mlpzoo\[demo\]'"):
        scenes.read_photograph("coffee")


@pytest.fixture(scope="module")
def made():
    return [scenes_of("held_out").compose(seed) for seed in range(8)]


@pytest.fixture(scope="module")
def data(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("coco")
    write_coco(folder, made)
    return CocoScenes(folder)


def test_a_coco_data_set_reads_as_it_was_written(made, data):
    assert len(data) == len(made)
    assert data.classes == scenes.CLASSES
    for (image, target), scene in zip(data, made, strict=True):
        assert torch.equal(image.mul(255).round().byte().permute(1, 2, 0), torch.from_numpy(scene.image))
        assert torch.equal(target["boxes"], torch.from_numpy(scene.boxes))
        assert target["labels"].tolist() == [label + 1 for label in scene.labels]
    content = json.loads(data.annotations.read_text())
    assert {image["file_name"] for image in content["images"]} == {path.name for path in data.files}
    assert len(content["annotations"]) == sum(len(scene.labels) for scene in made)
    assert not list(data.folder.glob(".partial*"))


def answers(data, change=lambda boxes: boxes):
    return [
        {"boxes": change(target["boxes"]), "labels": target["labels"], "scores": torch.ones(len(target["labels"]))}
        for _, target in data
    ]


def test_average_precision_of_right_shifted_and_no_answers(data, capsys):
    assert average_precision(data, answers(data)) == {"ap": 1, "ap50": 1, "ap75": 1}
    wide = average_precision(data, answers(data, lambda boxes: boxes * torch.tensor([1, 1, 1.05, 1])))
    assert 0 < wide["ap"] < 1
    far = average_precision(data, answers(data, lambda boxes: boxes + 200))
    assert far == {"ap": 0, "ap50": 0, "ap75": 0}
    none = [{name: value[:0] for name, value in answer.items()} for answer in answers(data)]
    assert average_precision(data, none) == {"ap": 0, "ap50": 0, "ap75": 0}
    with pytest.raises(ValueError, match="answers for 7 images, but there are 8"):
        average_precision(data, none[1:])
    assert capsys.readouterr().out == ""


def test_what_is_no_coco_data_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no COCO data set: cannot read annotations\.json"):
        CocoScenes(tmp_path)
    for text in ("no json", "[]", '{"images": [{"id": 1}]}', '{"images": [], "categories": [], "annotations": [{}]}'):
        (tmp_path / "annotations.json").write_text(text)
        with pytest.raises(ValueError, match="is no COCO annotation file"):
            CocoScenes(tmp_path)

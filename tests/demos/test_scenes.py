"""Scenes of digits: exact boxes, disjoint splits, COCO files and the average precision on them."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpzoo.demos import DigitImages, Scenes, photographs, scenes
from mlpzoo.demos.digits import HELD_OUT
from mlpzoo.demos.scenes import DIGITS, OVERLAP, PHOTOGRAPHS, SIZE, scenes_of
from mlpzoo.tasks.classification_images import hold_out
from mlpzoo.tasks.coco import CocoFolder, average_precision, to_image, write_coco

SEEDS = st.integers(0, 2**63 - 1)


@pytest.fixture(scope="module")
def flat():
    """Scenes whose photographs are gray, so that what differs from gray is ink."""
    made = Scenes("train", 1)
    made._background = lambda rng: np.full((SIZE, SIZE, 3), 120, dtype=np.uint8)
    return made


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_boxes_end_where_the_ink_does(flat, seed):
    image, target = flat.compose(seed)
    ink = (np.asarray(image) != 120).any(-1)
    inside = np.zeros_like(ink)
    for left, top, right, bottom in target["boxes"].int().tolist():
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
    image, target = scenes_of("train").compose(seed)
    boxes = target["boxes"].numpy()
    assert (image.size, image.mode) == ((SIZE, SIZE), "RGB")
    assert 1 <= len(target["labels"]) <= DIGITS[1]
    assert boxes.shape == (len(target["labels"]), 4)
    assert boxes.min() >= 0
    assert boxes.max() <= SIZE
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    for i, first in enumerate(boxes):
        for second in boxes[:i]:
            sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
            areas = [np.prod(box[2:] - box[:2]) for box in (first, second)]
            assert np.prod(sides.clip(0)) <= OVERLAP * min(areas)


def test_a_seed_gives_one_scene():
    made = scenes_of("train")
    (first, target), (again, same), (other, _) = made.read(0, 5), Scenes("train", 1).read(1, 5), made.read(0, 6)
    assert first.tobytes() == again.tobytes() != other.tobytes()
    assert all(torch.equal(target[name], same[name]) for name in target)


def test_scenes_to_validate_on_are_always_the_same():
    made = scenes_of("validation", 4)
    assert made.read(2, 5)[0].tobytes() == made.read(2, 6)[0].tobytes() != made.read(3, 5)[0].tobytes()


def test_held_out_scenes_share_nothing_with_those_trained_on():
    assert not set(PHOTOGRAPHS["train"]) & set(PHOTOGRAPHS["validation"])
    scans = {split: {scan.tobytes() for scan, _ in scenes_of(split).scans} for split in ("train", "validation")}
    assert not scans["train"] & scans["validation"]
    kept, held = hold_out(DigitImages(), HELD_OUT)
    assert [len(scenes_of(split).scans) for split in ("train", "validation")] == [len(kept), len(held)]


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"this demo needs scikit-image: pip install 'mlpzoo\[demo\]'"):
        photographs.read_photograph("coffee")


@pytest.fixture(scope="module")
def made():
    return scenes_of("validation", 8)


@pytest.fixture(scope="module")
def data(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("coco")
    write_coco(folder, made)
    return CocoFolder(folder)


def test_a_coco_data_set_reads_as_it_was_written(made, data):
    assert len(data) == len(made)
    assert tuple(data.classes) == scenes.CLASSES
    for i in range(len(made)):
        (image, target), (scene, truth) = data.read(i), made.read(i)
        assert torch.equal(to_image(image), to_image(scene))
        assert all(torch.equal(target[name], truth[name]) for name in truth)
    content = data.annotations()
    assert content == made.annotations()
    assert {image["file_name"] for image in content["images"]} == {path.name for path in data.files}
    assert len(content["annotations"]) == sum(len(made.read(i)[1]["labels"]) for i in range(len(made)))
    assert not list(data.path.parent.glob(".partial*"))


def answers(data, change=lambda boxes: boxes):
    return [
        {"boxes": change(target["boxes"]), "labels": target["labels"], "scores": torch.ones(len(target["labels"]))}
        for _, target in (data.read(i) for i in range(len(data)))
    ]


def test_average_precision_of_right_shifted_and_no_answers(data, capsys):
    truth = data.annotations()
    assert average_precision(truth, answers(data)) == {"ap": 1, "ap50": 1, "ap75": 1}
    wide = average_precision(truth, answers(data, lambda boxes: boxes * torch.tensor([1, 1, 1.05, 1])))
    assert 0 < wide["ap"] < 1
    far = average_precision(truth, answers(data, lambda boxes: boxes + 200))
    assert far == {"ap": 0, "ap50": 0, "ap75": 0}
    none = [{name: value[:0] for name, value in answer.items()} for answer in answers(data)]
    assert average_precision(truth, none) == {"ap": 0, "ap50": 0, "ap75": 0}
    with pytest.raises(ValueError, match="detections of 7 images, but there are 8"):
        average_precision(truth, none[1:])
    assert capsys.readouterr().out == ""
    assert truth == json.loads(data.path.read_text())


def test_what_is_no_coco_data_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no COCO data set: cannot read annotations\.json"):
        CocoFolder(tmp_path)
    for text in ("no json", "[]", '{"images": [{"id": 1}]}', '{"images": [], "categories": [], "annotations": [{}]}'):
        (tmp_path / "annotations.json").write_text(text)
        with pytest.raises(ValueError, match="is no COCO annotation file"):
            CocoFolder(tmp_path)

"""Detectors as folders, and from image files to boxes and pictures."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from mlpzoo import CheckpointError
from mlpzoo.images import ImageError
from mlpzoo.tasks import Box, Detector, DetectorConfig, detect, detect_files, draw_boxes, load_detector, save_detector

CONFIG = DetectorConfig(
    backbone="cyclemlp_b1",
    backbone_args={"embed_dims": (16, 16, 16, 16), "depths": (1, 1, 1, 1), "mlp_ratios": (1, 1, 1, 1)},
    classes=("cat", "dog"),
    out_indices=(1, 2),
    out_channels=32,
    head_convs=1,
    min_size=64,
    detections_per_img=5,
)


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    detector = Detector(CONFIG)
    # Sure of everything, so that there is something to find.
    torch.nn.init.constant_(detector.model.head.classification_head.cls_logits.bias, 3.0)
    torch.nn.init.constant_(detector.model.head.regression_head.bbox_ctrness.bias, 3.0)
    return detector.eval()


@pytest.fixture
def folder(detector, tmp_path):
    save_detector(detector, tmp_path / "run", about={"ap": 0.5})
    return tmp_path / "run"


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)).save(path)
    return path


def test_a_folder_gives_back_the_detector(detector, folder):
    image = torch.rand(3, 70, 90)
    again = load_detector(folder)
    assert not again.training
    with torch.inference_mode():
        (before,), (after,) = detector([image]), again([image])
    assert len(before["boxes"]) == 5
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def change(folder, **settings):
    path = folder / "config.json"
    content = json.loads(path.read_text())
    content["detector"].update(settings)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "yolo"}, "detector of kind 'yolo'"),
        ({"classes": ["cat", "dog", "owl"]}, "not those of the detector"),
        ({"classes": [1, 2]}, "no text"),
        ({"classes": []}, "one class or more"),
        ({"head_convs": 2}, "misses, or has of another shape"),
        ({"out_channels": 33}, "no detector can be built"),
        ({"out_channels": 10**9}, "hold 1000000000"),
        ({"backbone_args": {"depths": [10**9]}}, "hold 1000000000"),
        ({"backbone_args": {"depth": 3}}, "no detector can be built"),
        ({"backbone": "resnet50"}, "no detector can be built"),
        ({"out_indices": [7]}, "no detector can be built"),
        ({"secret": 1}, "should not have: secret"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(folder, settings, message):
    change(folder, **settings)
    with pytest.raises(CheckpointError, match=message):
        load_detector(folder)


def test_weights_must_be_exactly_the_detectors(folder):
    path = folder / "model.safetensors"
    weights = load_file(path)
    save_file({**weights, "more": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="has besides: more"):
        load_detector(folder)
    path.write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="cannot load"):
        load_detector(folder)
    path.unlink()
    with pytest.raises(CheckpointError, match="there is no such file"):
        load_detector(folder)
    shutil.rmtree(folder)
    with pytest.raises(CheckpointError, match=r"holds no config\.json"):
        load_detector(folder)


def test_a_classifiers_folder_is_no_detector(folder):
    (folder / "config.json").write_text('{"architecture": "mixer_s16"}')
    with pytest.raises(CheckpointError, match="holds a mixer_s16, which is no detector"):
        load_detector(folder)


def test_boxes_are_in_pixels_of_the_file_and_sorted(detector, picture, tmp_path):
    strip = tmp_path / "strip.png"
    Image.new("RGB", (404, 4)).save(strip)
    found, missing, thin = detect(detector, [picture, tmp_path / "no.png", strip], score_threshold=0)
    assert found.error is None
    assert len(found.boxes) == 5
    scores = [box.score for box in found.boxes]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= box.box[0] <= box.box[2] <= 90 and 0 <= box.box[1] <= box.box[3] <= 70 for box in found.boxes)
    assert {box.label for box in found.boxes} <= {"cat", "dog"}
    few = next(detect(detector, picture, score_threshold=scores[1]))
    assert few.boxes == tuple(box for box in found.boxes if box.score >= scores[1])
    for file in (missing, thin):
        assert isinstance(file.error, ImageError)
        assert file.boxes == ()
    with pytest.raises(ValueError, match="score_threshold must be from 0 to 1"):
        detect(detector, picture, score_threshold=1.5)


def test_boxes_are_drawn_on_a_copy():
    image = Image.new("RGB", (600, 300))
    drawn = draw_boxes(image, [Box("dog", 0.9, (100, 100, 200, 220))], ("cat", "dog"))
    changed = np.asarray(drawn).any(-1)
    rows, columns = changed.any(1).nonzero()[0], changed.any(0).nonzero()[0]
    assert (rows[-1], columns[0], columns[-1]) == (219, 100, 199)
    assert rows[0] < 100
    assert not changed[110:210, 110:190].any()
    assert not np.asarray(image).any()
    assert draw_boxes(Image.new("RGB", (100, 50)), [], ()).size == (500, 250)


def test_nothing_is_replaced_unasked(detector, picture, tmp_path):
    def outcome(*paths, **options):
        return list(detect_files(detector, paths, **options))

    (first,) = outcome(picture)
    assert first.output == tmp_path / "picture-detected.png"
    before = first.output.read_bytes()
    first.output.write_bytes(b"mine")
    (second,) = outcome(picture)
    assert "will not replace" in str(second.error)
    assert first.output.read_bytes() == b"mine"
    (third,) = outcome(picture, overwrite=True)
    assert third.output.read_bytes() == before
    # The picture written would be one of the files given.
    fourth, _ = outcome(picture, first.output, overwrite=True)
    assert "one of the files given" in str(fourth.error)
    assert first.output.read_bytes() == before
    twin = tmp_path / "other" / "picture.png"
    twin.parent.mkdir()
    shutil.copy(picture, twin)
    fifth, sixth = outcome(picture, twin, out=tmp_path / "out")
    assert fifth.error is None
    assert "written for another" in str(sixth.error)
    (seventh,) = outcome(picture, out=picture / "folder")
    assert "cannot write" in str(seventh.error)
    assert sorted(path.name for path in tmp_path.glob("*.part")) == []

"""The detector of digits: what its training writes, that it goes on where it was, and (slowly) what it reaches."""

import json

import numpy as np
import pytest
import torch
from mlpzoo.train.coco import CocoScenes, average_precision
from mlpzoo.train.detection_plots import are_right
from PIL import Image
from safetensors.torch import load_file

from mlpzoo.dense import Box, detect, load_detector
from mlpzoo.train import Stopped, detection_digits, train_detection_digits
from mlpzoo.train.loop import Trainer


@pytest.fixture(scope="module", autouse=True)
def _small():
    patch = pytest.MonkeyPatch()
    for name, value in {"UPDATES_PER_EPOCH": 2, "BATCH_SIZE": 1, "HELD_OUT_SCENES": 4, "SHOWN": 3}.items():
        patch.setattr(detection_digits, name, value)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train_detection_digits(tmp_path_factory.mktemp("run"), epochs=1, seed=3, progress=False)


def test_every_file_is_written_and_tells_the_same(run):
    names = {path.name for path in run.folder.iterdir()}
    own = {"settings.json", "metrics.jsonl", "config.json", "model.safetensors", "detections.png"}
    assert names == own | {"checkpoints", "held_out"}
    config = json.loads((run.folder / "config.json").read_text())
    assert config["about"]["ap"] == run.ap
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1] == {"step": 2, "ap": run.ap, "ap50": run.ap50, "ap75": run.ap75}
    assert np.asarray(Image.open(run.folder / "detections.png")).std() > 10


def test_the_folder_gives_back_what_was_measured(run):
    detector = load_detector(run.folder)
    data = CocoScenes(run.folder / "held_out")
    assert len(data) == run.scenes == 4
    with torch.inference_mode():
        found = detection_digits.find(detector, data, torch.device("cpu"))
    assert average_precision(data, found) == {"ap": run.ap, "ap50": run.ap50, "ap75": run.ap75}
    (detections,) = detect(detector, data.files[0], score_threshold=0)
    assert [box.score for box in detections.boxes] == found[0]["scores"].tolist()
    assert len(detections.boxes) > 0


def test_stopped_after_an_update_it_goes_on_to_the_same_detector(run, tmp_path, monkeypatch):
    update = Trainer._update

    def stop(trainer, batches):
        trainer._signal = 15
        return update(trainer, batches)

    monkeypatch.setattr(Trainer, "_update", stop)
    with pytest.raises(Stopped):
        train_detection_digits(tmp_path, epochs=1, seed=3, progress=False)
    assert not (tmp_path / "config.json").exists()
    monkeypatch.undo()
    with pytest.raises(ValueError, match="holds a run with other settings"):
        train_detection_digits(tmp_path, epochs=1, seed=4, progress=False)
    again = train_detection_digits(tmp_path, epochs=1, seed=3, progress=False)
    assert again.ap == run.ap
    one, other = (load_file(folder / "model.safetensors") for folder in (run.folder, tmp_path))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_mistakes_come_before_the_work(run, tmp_path):
    with pytest.raises(ValueError, match="holds a finished run"):
        train_detection_digits(run.folder, epochs=1, seed=3, progress=False)
    with pytest.raises(ValueError, match="epochs must be 1 or more"):
        train_detection_digits(tmp_path, epochs=0)
    with pytest.raises(ValueError, match="'cpu' or 'cuda'"):
        train_detection_digits(tmp_path, device="meta")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot write to"):
        train_detection_digits(tmp_path / "file", progress=False)


def test_a_true_box_counts_once_and_for_the_surest():
    truth = [Box("1", 1, (0, 0, 10, 10)), Box("2", 1, (20, 0, 30, 10))]
    found = [
        Box("1", 0.6, (0, 0, 10, 9)),
        Box("1", 0.9, (0, 0, 10, 8)),
        Box("3", 0.8, (20, 0, 30, 10)),
        Box("2", 0.7, (20, 0, 30, 4)),
    ]
    assert are_right(found, truth) == [False, True, False, False]
    assert are_right(found, []) == [False] * 4
    assert are_right([], truth) == []


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_it_finds_digits_it_never_saw(tmp_path, monkeypatch):
    for name, value in {"UPDATES_PER_EPOCH": 100, "BATCH_SIZE": 8, "HELD_OUT_SCENES": 200, "SHOWN": 12}.items():
        monkeypatch.setattr(detection_digits, name, value)
    assert train_detection_digits(tmp_path, progress=False).ap >= 0.5

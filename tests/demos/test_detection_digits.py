"""The recipe `detection-digits`: what it writes, that it goes on where it was, and (slowly) what it reaches."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tasks.resuming import assert_goes_on

from mlpzoo import demos  # noqa: F401  the recipe and its data
from mlpzoo.demos.pictures import are_right
from mlpzoo.tasks import Box, detect, load_detector, read_recipe, train, validate
from mlpzoo.tasks.coco import CocoFolder, average_precision
from mlpzoo.tasks.detection import Detection
from mlpzoo.train import Place

SMALL = ["data.length=2", "data.validation_length=4", "data.batch_size=1", "schedule.epochs=1", "run.log_every=1"]


def recipe(*changes, seed=3):
    return read_recipe("detection-digits", [*SMALL, "schedule.warmup_epochs=0", f"run.seed={seed}", *changes])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(recipe(), tmp_path_factory.mktemp("run"), device="cpu", progress=False)


def test_every_file_is_written_and_tells_the_same(run):
    names = {path.name for path in run.folder.iterdir()}
    own = {"recipe.yaml", "metrics.jsonl", "config.json", "model.safetensors", "curves.png", "detections.png"}
    assert names == own | {"checkpoints", "best", "held_out"}
    config = json.loads((run.folder / "config.json").read_text())
    assert config["about"]["ap"] == run.figures["ap"]
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1] == {"step": 2, **run.figures}
    assert np.asarray(Image.open(run.folder / "detections.png")).std() > 10


def test_the_folder_gives_back_what_was_measured(run):
    data = CocoFolder(run.folder / "held_out")
    assert len(data) == 4
    task = Detection(recipe(), Place(torch.device("cpu"), folder=run.folder), training=False)
    with torch.inference_mode():
        found = [answer for _, answer in task.find(task.model.eval(), data)]
    assert average_precision(data.annotations(), found) == run.figures
    (detections,) = detect(load_detector(run.folder), data.files[0], score_threshold=0)
    assert [box.score for box in detections.boxes] == found[0]["scores"].tolist()
    assert len(detections.boxes) > 0
    assert validate(run.folder, device="cpu", workers=0).figures == run.figures


def test_stopped_after_an_update_it_goes_on_to_the_same_detector(run, tmp_path, monkeypatch):
    assert_goes_on(recipe(), run.folder, tmp_path, monkeypatch)


def test_mistakes_come_before_the_work(run, tmp_path):
    with pytest.raises(ValueError, match="is finished"):
        train(recipe(), run.folder, device="cpu", progress=False)
    with pytest.raises(ValueError, match=r"another recipe: run\.seed differ"):
        train(recipe(seed=4), run.folder, device="cpu", progress=False)
    with pytest.raises(ValueError, match="say by data.length and data.validation_length how many"):
        train(recipe("data.length=null"), tmp_path, device="cpu", progress=False)
    with pytest.raises(ValueError, match="fsdp2 does not shard the networks of detection"):
        Refused.check(recipe())


class Refused:
    """accelerate as it is where FSDP shards."""

    is_fsdp2 = True

    @classmethod
    def check(cls, settings):
        from types import SimpleNamespace

        from mlpzoo.train.engine import set_wrapping

        accelerator = cls()
        accelerator.state = SimpleNamespace(fsdp_plugin=SimpleNamespace(transformer_cls_names_to_wrap=None))
        set_wrapping(accelerator, Detection(settings, Place(torch.device("cpu"))))


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
def test_it_finds_digits_it_never_saw(tmp_path):
    assert train(read_recipe("detection-digits"), tmp_path, device="cpu", progress=False).figures["ap"] >= 0.5

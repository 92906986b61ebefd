"""The digits recipe: what it writes, that it repeats itself, and (slowly) what it reaches."""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import mlpzoo
from mlpzoo.demos import DigitImages, write_digits
from mlpzoo.demos.digits import HELD_OUT
from mlpzoo.inference import load_classifier, predict
from mlpzoo.tasks import read_recipe, train
from mlpzoo.tasks.classification_images import hold_out


def train_digits(folder, *, epochs=None, seed=0, progress=False):
    return train(read_recipe("digits", [f"run.seed={seed}"], epochs=epochs), folder, device="cpu", progress=progress)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train_digits(tmp_path_factory.mktemp("digits"), epochs=2, seed=3)


@pytest.fixture(scope="module")
def held_out():
    return hold_out(DigitImages(), HELD_OUT)[1]


def test_the_split_is_stratified_and_always_the_same(held_out):
    train, again = hold_out(DigitImages(), HELD_OUT)
    assert (len(train), len(held_out)) == (1437, 360)
    assert all(34 <= number <= 38 for number in Counter(held_out.labels).values())
    assert again.indices == held_out.indices
    pixels = held_out.images.pixels
    rows = {pixels[i].tobytes() for i in train.indices}
    assert not rows & {pixels[i].tobytes() for i in held_out.indices}


def test_every_file_is_written(run):
    names = {str(path.relative_to(run.folder)) for path in run.folder.rglob("*") if path.is_file()}
    own = {"config.json", "model.safetensors", "metrics.jsonl", "recipe.yaml", "curves.png"}
    assert own | {"predictions.png", "token_mixing.png"} <= names
    assert len([name for name in names if name.startswith("samples/")]) == 10
    assert not [name for name in names if "partial" in name]
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line.get("epoch") for line in lines] == [1, 2, None]
    assert lines[1]["loss"] < lines[0]["loss"]
    assert lines[2]["validation_top1"] == run.figures["validation_top1"]
    for name in ("predictions.png", "token_mixing.png", "curves.png"):
        assert np.asarray(Image.open(run.folder / name)).std() > 10


def inputs(held_out, folder):
    config = json.loads((folder / "config.json").read_text())["pretrained_cfg"]
    pixels = torch.from_numpy(held_out.images.pixels[held_out.indices]).float() / 255
    return ((pixels - config["mean"][0]) / config["std"][0])[:, None]


def test_the_folder_rebuilds_the_model_that_was_measured(run, held_out):
    model, labels = load_classifier(run.folder)
    assert labels == [str(i) for i in range(10)]
    with torch.inference_mode():
        answers = model(inputs(held_out, run.folder)).argmax(1)
    assert (answers == torch.tensor(held_out.labels)).double().mean() == run.figures["validation_top1"]
    assert torch.equal(mlpzoo.create_model(f"local-dir:{run.folder}").head.weight, model.head.weight)


def test_image_files_are_seen_as_the_data_were(run, held_out):
    model, labels = load_classifier(run.folder)
    originals = inputs(held_out, run.folder)
    for path in sorted((run.folder / "samples").iterdir()):
        index = held_out.labels.index(int(path.stem[-1]))
        with torch.inference_mode():
            expected = model(originals[index, None]).softmax(-1)[0]
        found = dict(next(predict(model, path, labels=labels, top_k=10)).classes)
        assert found == pytest.approx({str(i): float(p) for i, p in enumerate(expected)}, abs=1e-4)


def test_the_same_seed_gives_the_same_model_and_another_does_not(run, tmp_path, monkeypatch):
    # Pictures take longer than the training.
    monkeypatch.setattr("mlpzoo.train.Task.illustrate", lambda *_: None)
    again = train_digits(tmp_path / "a", epochs=2, seed=3)
    other = train_digits(tmp_path / "b", epochs=2, seed=4)
    first, second, third = (load_file(result.folder / "model.safetensors") for result in (run, again, other))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert not torch.equal(first["head.weight"], third["head.weight"])


def test_progress_without_a_terminal_is_plain_lines(tmp_path, capsys):
    train_digits(tmp_path, epochs=1, progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert "epoch 1/1  loss" in lines[0]
    assert "images/s" in lines[0]
    assert lines[0].endswith("0:00 left")
    assert lines[-1].startswith("update 22:  validation_top1")
    assert "\x1b" not in captured.err


def test_write_digits(tmp_path):
    assert write_digits(tmp_path, [3, 7], size=16) == 362
    names = {path.relative_to(tmp_path).parts[:2] for path in tmp_path.rglob("*.png")}
    assert names == {(split, name) for split in ("train", "validation") for name in ("three", "seven")}
    with Image.open(next(tmp_path.rglob("*.png"))) as image:
        assert (image.size, image.mode) == ((16, 16), "L")
    with pytest.raises(ValueError, match="the digits are 0 to 9"):
        write_digits(tmp_path, [10])


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_reaches_98_percent(tmp_path, seed):
    assert train_digits(tmp_path, seed=seed).figures["validation_top1"] >= 0.98

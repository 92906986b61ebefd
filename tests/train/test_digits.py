"""The digits recipe: what it writes, that it repeats itself, and (slowly) what it reaches."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import mlpzoo
from mlpzoo.inference import load_classifier, predict
from mlpzoo.train import digits, train_digits


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    return train_digits(folder, epochs=2, seed=3, progress=False)


def test_the_split_is_stratified_and_always_the_same():
    data = digits.read_digits()
    assert (len(data.train_images), len(data.held_out_images)) == (1437, 360)
    counts = torch.bincount(data.held_out_labels)
    assert counts.min() >= 34
    assert counts.max() <= 38
    again = digits.read_digits()
    assert torch.equal(data.held_out_images, again.held_out_images)
    rows = {bytes(image.numpy().tobytes()) for image in data.train_images}
    assert not rows & {bytes(image.numpy().tobytes()) for image in data.held_out_images}


def test_every_file_is_written(run):
    names = {str(path.relative_to(run.folder)) for path in run.folder.rglob("*") if path.is_file()}
    assert {"config.json", "model.safetensors", "metrics.jsonl", "predictions.png", "token_mixing.png"} <= names
    assert len([name for name in names if name.startswith("samples/")]) == 10
    assert len(names) == 15
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line.get("epoch") for line in lines] == [1, 2, None]
    assert lines[1]["loss"] < lines[0]["loss"]
    assert lines[2]["held_out_accuracy"] == run.accuracy == run.correct / 360
    for name in ("predictions.png", "token_mixing.png"):
        assert np.asarray(Image.open(run.folder / name)).std() > 10


def test_the_folder_rebuilds_the_model_that_was_measured(run):
    model, labels = load_classifier(run.folder)
    assert labels == [str(i) for i in range(10)]
    config = json.loads((run.folder / "config.json").read_text())
    data = digits.read_digits()
    mean, std = config["pretrained_cfg"]["mean"][0], config["pretrained_cfg"]["std"][0]
    with torch.inference_mode():
        logits = model((data.held_out_images.float() / 255 - mean) / std)
    assert int((logits.argmax(1) == data.held_out_labels).sum()) == run.correct
    assert torch.equal(mlpzoo.create_model(f"local-dir:{run.folder}").head.weight, model.head.weight)


def test_image_files_are_seen_as_the_data_were(run):
    model, labels = load_classifier(run.folder)
    data = digits.read_digits()
    config = json.loads((run.folder / "config.json").read_text())["pretrained_cfg"]
    for path in sorted((run.folder / "samples").iterdir()):
        label = int(path.stem[-1])
        original = data.held_out_images[data.held_out_labels.tolist().index(label)]
        with torch.inference_mode():
            expected = model(((original.float() / 255 - config["mean"][0]) / config["std"][0])[None]).softmax(-1)[0]
        found = dict(next(predict(model, path, labels=labels, top_k=10)).classes)
        assert found == pytest.approx({str(i): float(p) for i, p in enumerate(expected)}, abs=1e-4)


def test_the_same_seed_gives_the_same_model_and_another_does_not(run, tmp_path):
    again = train_digits(tmp_path / "a", epochs=2, seed=3, progress=False)
    other = train_digits(tmp_path / "b", epochs=2, seed=4, progress=False)
    content = [(folder / "model.safetensors").read_bytes() for folder in (run.folder, again.folder, other.folder)]
    assert content[0] == content[1] != content[2]


def test_the_random_state_of_the_caller_is_left_alone(tmp_path):
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    train_digits(tmp_path, epochs=1, progress=False)
    assert torch.equal(torch.rand(3), expected)


def test_augmentation_keeps_shape_and_range():
    x = digits.read_digits().train_images[:50].float() / 255
    y = digits.augment(x, torch.Generator().manual_seed(0))
    assert y.shape == x.shape
    assert 0 <= y.min() <= y.max() <= 1
    assert not torch.equal(x, y)
    assert float((x - y).abs().mean()) < 0.2


def test_progress_without_a_terminal_is_plain_lines(tmp_path, capsys):
    train_digits(tmp_path, epochs=1)
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert all("epoch 1/1  loss" in line and "images/s" in line and "left" in line for line in lines)
    assert lines[-1].endswith("0:00 left")
    assert captured.err.isprintable() or "\x1b" not in captured.err


def test_failing_leaves_the_earlier_run_as_it_was(run, tmp_path, monkeypatch):
    train_digits(tmp_path, epochs=1, progress=False)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(digits, "_write_samples", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        train_digits(tmp_path, epochs=1, seed=8, progress=False)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_folder_that_cannot_be_written_is_an_error_before_training(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot write to"):
        train_digits(tmp_path / "file", epochs=10_000, progress=False)
    with pytest.raises(ValueError, match="epochs must be 1 or more"):
        train_digits(tmp_path, epochs=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_reads_98_of_100_held_out_digits(tmp_path, seed):
    assert train_digits(tmp_path, seed=seed, progress=False).accuracy >= 0.98

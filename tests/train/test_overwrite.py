"""What a run removes: what a run wrote, and only when all is well with the one that takes its place."""

import pytest
import yaml
from train.tiny import RECIPE, tiny_recipe

from mlpzoo.cli import run as command
from mlpzoo.tasks import train
from mlpzoo.train import newest_checkpoint


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    """They are tested elsewhere, and take longer than these runs."""
    monkeypatch.setattr("mlpzoo.train.Task.illustrate", lambda *_: None)


def run(folder, *changes, **options):
    given = ("schedule.updates=2", "run.validate_every=1", "run.checkpoint_every=1")
    return train(tiny_recipe(*given, *changes), folder, device="cpu", progress=False, **options)


MINE = (
    "notes.txt",
    "best/mine.txt",
    "best/deeper/mine.txt",
    "checkpoints/mine.txt",
    "checkpoints/step-00000001/mine.txt",
    "checkpoints/step-00000009/mine.txt",
    "checkpoints/steps/mine.txt",
    "samples/mine.png",
    "model.safetensors.bak",
    "configs/config.json",
)


def test_what_the_run_did_not_write_stays(tmp_path):
    run(tmp_path)
    for name in MINE:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    run(tmp_path, "run.seed=3", overwrite=True)
    assert {name: (tmp_path / name).read_text() for name in MINE} == {name: name for name in MINE}
    assert yaml.safe_load((tmp_path / "recipe.yaml").read_text())["run"]["seed"] == 3
    # The new run is whole, though things lie in the way of its checkpoints.
    assert newest_checkpoint(tmp_path).name == "step-00000002"
    assert (tmp_path / "checkpoints/step-00000001/manifest.json").exists()


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "metrics.jsonl", "curves.png", "best/config.json"]
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_without_a_run_is_not_taken(tmp_path, name, overwrite):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match="holds a network already|which a run would write, but no run"):
        run(tmp_path, overwrite=overwrite)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [name.split("/")[-1]]
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("name", ["notes.txt", "best/mine.txt", "checkpoints/mine.txt"])
def test_a_folder_of_other_things_is_shared(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    run(tmp_path)
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("change", ["model.frozen_stages=9", "data.batch_size=9999", "model.options={depth: 0}"])
def test_nothing_is_given_up_for_a_run_that_cannot_be(tmp_path, change):
    run(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"."):
        run(tmp_path, change, overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_recipe_that_somebody_wrote_is_not_written_over(tmp_path, capsys):
    path = tmp_path / "recipe.yaml"
    text = "# my comments\n" + yaml.safe_dump({**RECIPE, "schedule": {"updates": 2}})
    path.write_text(text)
    for more in ([], ["--overwrite"]):
        assert command(["train", str(path), "--out", str(tmp_path), "--device", "cpu", *more]) == 2
        assert "would write its settings over" in capsys.readouterr().err
    assert path.read_text() == text
    out = tmp_path / "run"
    assert command(["train", str(path), "--out", str(out), "--device", "cpu"]) == 0
    # A run's own recipe.yaml may be given.
    assert command(["train", str(out / "recipe.yaml"), "run.seed=4", "--out", str(out), "--overwrite"]) == 0
    assert path.read_text() == text

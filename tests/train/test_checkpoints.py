"""Checkpoints: whole or not there, the damaged ones passed over, nothing lost by a failed write."""

import errno
import json
import os

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlpzoo.train import checkpoints
from mlpzoo.train.checkpoints import CheckpointFolder
from mlpzoo.train.randomness import mixed, random_state, seed_all, seeded, set_random_state

WEIGHTS = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4)}


def write(folder, *steps, keep=3):
    store = CheckpointFolder(folder, keep=keep)
    for step in steps:
        store.save(step, {name: value + step for name, value in WEIGHTS.items()}, {"step": step}, None)
    return store


def test_round_trip(tmp_path):
    store = CheckpointFolder(tmp_path / "c")
    state = {"step": 7, "best": -float("inf"), "x": [1, (2, None)], "t": torch.tensor([1.5])}
    path = store.save(7, WEIGHTS, state, {"a": torch.zeros(1)})
    assert path.name == "step-00000007"
    weights, found, ema = store.read(7)
    assert all(torch.equal(weights[name], value) for name, value in WEIGHTS.items())
    assert found["best"] == -float("inf")
    assert found["x"] == [1, (2, None)]
    assert torch.equal(ema["a"], torch.zeros(1))
    assert path.stat().st_mode & 0o777 == 0o755
    assert all(file.stat().st_mode & 0o777 == 0o644 for file in path.iterdir())


def test_the_newest_are_kept(tmp_path):
    assert write(tmp_path, 2, 10, 4, 30, keep=2).steps() == [30, 10]


def test_nothing_yet(tmp_path):
    assert CheckpointFolder(tmp_path / "none").newest(pytest.fail) is None


DAMAGE = {
    "cut": lambda path: os.truncate(path / "model.safetensors", 20),
    "flip": lambda path: (path / "state.pt").write_bytes(b"x" * (path / "state.pt").stat().st_size),
    "gone": lambda path: (path / "model.safetensors").unlink(),
    "no manifest": lambda path: (path / "manifest.json").unlink(),
    "no JSON": lambda path: (path / "manifest.json").write_text("{"),
    "other JSON": lambda path: (path / "manifest.json").write_text("[1]"),
    "empty": lambda path: (path / "manifest.json").write_text("{}"),
    "upwards": lambda path: (path / "manifest.json").write_text(json.dumps({"../../x": {"bytes": 0, "sha256": ""}})),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_one_is_passed_over_and_told_of(tmp_path, damage):
    store = write(tmp_path, 1, 2)
    DAMAGE[damage](store.path(2))
    said = []
    assert store.newest(said.append) == 1
    assert len(said) == 1
    assert "step-00000002 is damaged" in said[0]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    place=st.floats(0, 1, exclude_max=True),
    value=st.integers(1, 255),
    name=st.sampled_from(["model.safetensors", "state.pt"]),
)
def test_any_changed_byte_is_found(tmp_path_factory, place, value, name):
    store = write(tmp_path_factory.mktemp("c"), 1, 2)
    path = store.path(2) / name
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= value
    path.write_bytes(content)
    assert store.newest(lambda _: None) == 1


@pytest.mark.parametrize("failing", ["save_file", "flush", "rename", "torch.save"])
def test_a_failed_write_leaves_the_earlier_ones(tmp_path, monkeypatch, failing):
    store = write(tmp_path, 1)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    def torch_full(*_, **__):
        raise RuntimeError("[enforce fail at inline_container.cc:668] . unexpected pos 64 vs 0\nmore")

    target = {"save_file": (checkpoints, "save_file"), "flush": (checkpoints, "_flush")}
    owner, name = target.get(failing, (checkpoints.Path, "rename"))
    monkeypatch.setattr(owner, name, full) if failing != "torch.save" else monkeypatch.setattr(
        torch, "save", torch_full
    )
    with pytest.raises(
        OSError, match=r"cannot write the checkpoint .*step-00000002.*; the last one is .*step-00000001"
    ) as caught:
        store.save(2, WEIGHTS, {}, None)
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert store.newest(pytest.fail) == 1


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "c").touch()
    with pytest.raises(OSError, match="cannot write the checkpoint"):
        CheckpointFolder(tmp_path / "c").save(1, WEIGHTS, {}, None)


def test_what_an_interrupted_write_left_is_removed(tmp_path):
    store = write(tmp_path, 1)
    (tmp_path / ".partial-abc").mkdir()
    store.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_states_are_read_without_unpickling(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, ("true",)

    store = write(tmp_path, 1)
    torch.save({"x": Evil()}, store.path(1) / "state.pt")
    with pytest.raises(Exception, match="Weights only load failed"):
        store.read(1)


def test_random_state_round_trip(tmp_path):
    import random

    import numpy as np

    def draw():
        return random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(1).item()

    seed_all(3)
    random.gauss(0, 1)
    np.random.randn()
    torch.save(random_state(), tmp_path / "s.pt")
    expected = [draw() for _ in range(3)]
    set_random_state(torch.load(tmp_path / "s.pt", weights_only=True))
    assert [draw() for _ in range(3)] == expected
    before = draw
    state = random_state()
    with seeded(5):
        inside = before()
    with seeded(5):
        assert before() == inside
    assert torch.equal(random_state()["torch"], state["torch"])
    assert random_state()["python"] == state["python"]


@given(st.lists(st.integers(0, 2**31), min_size=1, max_size=4), st.lists(st.integers(0, 2**31), min_size=1, max_size=4))
def test_seeds_differ_where_their_numbers_do(a, b):
    assert 0 <= mixed(*a) < 2**63
    # Trailing zeros alone are not told apart, and the loop's numbers are of fixed count.
    if len(a) == len(b):
        assert (mixed(*a) == mixed(*b)) == (a == b)

"""Runs that are stopped after some update, and compared with those left alone."""

import pytest
import torch
from safetensors.torch import load_file

from mlpzoo.tasks import train
from mlpzoo.train import Stopped, newest_checkpoint
from mlpzoo.train.journal import read_metrics
from mlpzoo.train.loop import Trainer


def stop_after(step, monkeypatch):
    """Let a signal come in the update after that many are done."""
    update = Trainer._update

    def stopping(trainer, batches):
        if trainer.step == step:
            trainer._heard = 15
        return update(trainer, batches)

    monkeypatch.setattr(Trainer, "_update", stopping)


def assert_goes_on(recipe, whole, folder, monkeypatch, *, after=0):
    """A run that stopped and went on is the run left alone, to the bit."""
    stop_after(after, monkeypatch)
    with pytest.raises(Stopped):
        train(recipe, folder, device="cpu", progress=False)
    assert not (folder / "config.json").exists()
    monkeypatch.undo()
    train(recipe, folder, device="cpu", progress=False)
    for one, other in ((whole, folder), (newest_checkpoint(whole), newest_checkpoint(folder))):
        one, other = (load_file(path / "model.safetensors") for path in (one, other))
        assert one.keys() == other.keys()
        assert all(torch.equal(value, other[name]) for name, value in one.items())
    records = [
        [{key: value for key, value in record.items() if key != "images_per_s"} for record in read_metrics(path)]
        for path in (whole, folder)
    ]
    assert records[0] == records[1]

import types

import pytest
import torch
from timm.models.mlp_mixer import MlpMixer

from benchmarks import measure, models
from benchmarks.suites import ops

TINY = {"embed_dim": 32, "depth": 2, "tokens_mlp_dim": 16, "channels_mlp_dim": 128}


@pytest.fixture(autouse=True)
def _same_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _small_probes(monkeypatch):
    monkeypatch.setattr(measure.GemmProbe, "SIDES", {"cpu": 128})
    monkeypatch.setattr(measure.CopyProbe, "MEGABYTES", {"cpu": 1})
    monkeypatch.setattr(ops, "LEAST_SECONDS", {"cpu": 0.0})


@pytest.fixture
def tiny(monkeypatch):
    """A Mixer of 32 channels and 2 blocks goes by every name, and timm builds the same."""

    def model_options(name, img_size):
        options, image = full_size(name, img_size)
        return {**options, **TINY}, image

    def create_model(name, *, depth, tokens_mlp_dim, channels_mlp_dim, **options):
        return MlpMixer(num_blocks=depth, **options)

    full_size = models.model_options
    monkeypatch.setattr(models, "model_options", model_options)
    monkeypatch.setattr(models, "timm", types.SimpleNamespace(create_model=create_model))

import importlib.util
from pathlib import Path

import torch

import mlpzoo

REPOSITORY = str(Path(__file__).parents[1])


def test_every_model_through_torch_hub():
    model = torch.hub.load(REPOSITORY, "mixer_s32", source="local", depth=1, num_classes=3)
    assert isinstance(model, mlpzoo.models.mixer.MlpMixer)
    assert model(torch.randn(1, 3, 224, 224)).shape == (1, 3)


def test_the_entry_points_are_the_models():
    """What `torch.hub.list` would show: everything callable that is not private."""
    spec = importlib.util.spec_from_file_location("hubconf", Path(REPOSITORY) / "hubconf.py")
    hubconf = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hubconf)
    public = [name for name, value in vars(hubconf).items() if callable(value) and not name.startswith("_")]
    assert public == mlpzoo.list_models()
    assert "checkpoint_path" in hubconf.mixer_b16.__doc__

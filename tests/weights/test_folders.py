import json

import pytest
import timm
import torch
from torch import nn

import mlpzoo
from mlpzoo import CheckpointError
from mlpzoo.weights import read_config, save_folder

ARGS = {"img_size": (32, 48), "patch_size": 16, "embed_dim": 8, "depth": 1, "tokens_mlp_dim": 4, "channels_mlp_dim": 8}
DATA = {"input_size": (3, 32, 48), "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.5, 0.5), "crop_pct": 1.0}


@pytest.fixture
def model():
    model = mlpzoo.create_model("mixer_s16", num_classes=3, **ARGS)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model.eval()


@pytest.fixture
def folder(model, tmp_path):
    save_folder(
        model,
        tmp_path / "run",
        architecture="mixer_s16",
        model_args={"num_classes": 3, **ARGS},
        pretrained_cfg={**DATA, "num_classes": 3},
        label_names=["cat", "dog", "owl"],
        about={"accuracy": 0.5},
    )
    return tmp_path / "run"


def test_a_folder_rebuilds_the_model(model, folder):
    x = torch.randn(2, 3, 32, 48)
    rebuilt = mlpzoo.create_model(f"local-dir:{folder}").eval()
    assert torch.equal(rebuilt(x), model(x))
    data = timm.data.resolve_data_config(model=rebuilt)
    assert (data["input_size"], data["mean"], data["crop_pct"]) == (DATA["input_size"], DATA["mean"], 1.0)
    config = read_config(folder)
    assert (config["label_names"], config["about"]) == (["cat", "dog", "owl"], {"accuracy": 0.5})


def test_timm_reads_it_as_well(model, folder):
    x = torch.randn(2, 3, 32, 48)
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    assert torch.equal(theirs(x), model(x))


def test_options_override_what_is_stored(folder):
    rebuilt = mlpzoo.create_model(f"local-dir:{folder}", num_classes=0, drop_path_rate=0.1)
    assert rebuilt(torch.randn(1, 3, 32, 48)).shape == (1, 8)
    assert rebuilt.config.drop_path_rate == 0.1


def test_nothing_else_is_left_in_the_folder(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_folders_that_hold_no_model(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no config.json"):
        mlpzoo.create_model(f"local-dir:{tmp_path}")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot read"):
        mlpzoo.create_model(f"local-dir:{tmp_path}")
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="names no architecture"):
        mlpzoo.create_model(f"local-dir:{tmp_path}")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "mixer_s16", "model_args": ARGS}))
    with pytest.raises(CheckpointError, match="no such file"):
        mlpzoo.create_model(f"local-dir:{tmp_path}")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet50"}))
    with pytest.raises(ValueError, match="unknown model 'resnet50'"):
        mlpzoo.create_model(f"local-dir:{tmp_path}")

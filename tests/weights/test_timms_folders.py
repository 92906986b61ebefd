"""Folders that `timm.models.save_for_hf` writes open here and in timm, and are the network that was saved."""

import dataclasses
import json

import pytest
import timm
import torch
from timm.models import save_for_hf
from torch import nn

import mlpzoo

SMALL = {
    "mixer_s32": {"img_size": 64, "depth": 1, "embed_dim": 8, "tokens_mlp_dim": 6, "channels_mlp_dim": 12},
    "vit_ti16": {"img_size": 32, "depth": 1, "embed_dim": 8, "num_heads": 1, "mlp_dim": 12},
    "resmlp_s12": {"img_size": 32, "depth": 1, "embed_dim": 8},
    "convmixer_d768_32": {"depth": 1, "embed_dim": 8, "act_layer": "relu"},
}
CHANGES = {
    "none": lambda model: None,
    "size": lambda model: model.set_input_size((64, 96)),
    "patch": lambda model: model.set_input_size(patch_size=8),
    "classes": lambda model: model.reset_classifier(9),
    "pool": lambda model: model.reset_classifier(4, "avg"),
}


@pytest.mark.parametrize("form", [False, True, "both"], ids=["defaults", "safetensors", "both"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", SMALL)
def test_saved_by_timm(name, change, form, tmp_path, caplog):
    if name == "convmixer_d768_32" and change in ("size", "patch"):
        pytest.skip("it is bound to no size")
    if change != "size" and form == "both":
        pytest.skip("the file read is that of the other forms")
    torch.manual_seed(0)
    model = mlpzoo.create_model(name, num_classes=4, in_chans=1, **SMALL[name]).eval()
    CHANGES[change](model)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    save_for_hf(model, tmp_path, **({} if form is False else {"safe_serialization": form}))
    assert (tmp_path / "pytorch_model.bin").exists() == (form is not True)
    x = torch.randn(1, *model.pretrained_cfg["input_size"])
    for rebuilt in (
        mlpzoo.create_model(f"local-dir:{tmp_path}"),
        timm.create_model(f"local-dir:{tmp_path}", pretrained=True),
    ):
        sizes = {"img_size": model.config.image_size} if model.config.image_size else {}
        assert dataclasses.replace(rebuilt.config, **sizes) == dataclasses.replace(model.config, **sizes)
        assert rebuilt.config.image_size == model.config.image_size
        assert tuple(rebuilt.pretrained_cfg["input_size"]) == tuple(model.pretrained_cfg["input_size"])
        assert torch.equal(rebuilt.eval()(x), model(x))
    assert not [record for record in caplog.records if record.name == "mlpzoo"]


def test_the_data_config_says_the_size(tmp_path):
    """As older versions of timm write it, which kept no options."""
    model = mlpzoo.create_model("mixer_s32", num_classes=4, **SMALL["mixer_s32"])
    model.set_input_size((64, 96))
    save_for_hf(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["model_args"].pop("img_size")
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert mlpzoo.create_model(f"local-dir:{tmp_path}").config.img_size == (64, 96)


@pytest.mark.parametrize(
    "tag", ["mixer_b16.miil_in21k_ft_in1k", "vit_ti16.fb_deit_in1k", "convmixer_d768_32.relu_in1k"]
)
def test_what_a_tag_stands_for_is_kept(tag, tmp_path):
    small = {"mixer_b16": "mixer_s32", "vit_ti16": "vit_ti16", "convmixer_d768_32": "convmixer_d768_32"}[
        tag.split(".")[0]
    ]
    options = {key: value for key, value in SMALL[small].items() if key != "act_layer"}
    model = mlpzoo.create_model(tag, num_classes=3, **options)
    save_for_hf(model, tmp_path)
    for rebuilt in (
        mlpzoo.create_model(f"local-dir:{tmp_path}"),
        timm.create_model(f"local-dir:{tmp_path}", pretrained=True),
    ):
        assert rebuilt.config.act_layer == model.config.act_layer
        assert tuple(rebuilt.pretrained_cfg["mean"]) == tuple(model.pretrained_cfg["mean"])


def test_a_folder_without_weights(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "mixer_s32"}))
    with pytest.raises(mlpzoo.CheckpointError, match=r"model.safetensors: there is no such file"):
        mlpzoo.create_model(f"local-dir:{tmp_path}")

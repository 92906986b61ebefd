"""Files whose names and shapes fit, but which were trained with another activation or other images."""

import dataclasses
import hashlib

import pytest
import timm
import torch
from safetensors.torch import save_file

import mlpzoo
from mlpzoo.inference import load_classifier
from mlpzoo.models import FAMILIES
from mlpzoo.weights import convert, identify_checkpoint, recognize, save_safetensors

TINY = {
    "mixer_b16": {"img_size": 32, "embed_dim": 8, "depth": 1, "tokens_mlp_dim": 4, "channels_mlp_dim": 8},
    "convmixer_d768_32": {"embed_dim": 8, "depth": 1},
    "vit_ti16": {"img_size": 32, "embed_dim": 8, "depth": 1, "mlp_dim": 16, "num_heads": 1},
}
IMAGENET = (0.485, 0.456, 0.406)


def authors_convmixer():
    """The authors' file of a tiny one: names of their `nn.Sequential`."""
    ours = mlpzoo.create_model("convmixer_d768_32", **TINY["convmixer_d768_32"])
    theirs = timm.models.ConvMixer(dim=8, depth=1, kernel_size=7, patch_size=7)
    assert {k.split(".")[0] for k in theirs.state_dict()} == {"stem", "blocks", "head"}
    assert ours.num_classes == 1000
    return theirs.state_dict()


def timms_mixer():
    return timm.models.MlpMixer(img_size=32, embed_dim=8, num_blocks=1, mlp_ratio=(0.5, 1)).state_dict()


def timms_vit():
    options = {"img_size": 32, "embed_dim": 8, "depth": 1, "mlp_ratio": 2, "num_heads": 1}
    return timm.models.VisionTransformer(**options).state_dict()


# A name that a file is known by; what is in it; the model it is of; the activation it was trained with, and the mean.
KNOWN = [
    ("convmixer_768_32_ks7_p7_relu.pth.tar", authors_convmixer, "convmixer_d768_32", "relu", IMAGENET),
    ("deit_tiny_patch16_224-a1311bcf.pth", timms_vit, "vit_ti16", "gelu", IMAGENET),
    ("mixer_b16_224.miil_in21k_ft_in1k.pth", timms_mixer, "mixer_b16", "gelu", (0, 0, 0)),
    ("mixer_b16_224_miil_in21k-2a558a71.pth", timms_mixer, "mixer_b16", "gelu", (0, 0, 0)),
    ("mixer_b16_224.miil_in21k_ft_in1k/model.safetensors", timms_mixer, "mixer_b16", "gelu", (0, 0, 0)),
    ("models--timm--mixer_b16_224.miil_in21k_ft_in1k/x/model.safetensors", timms_mixer, "mixer_b16", "gelu", (0, 0, 0)),
]


def write(path, state):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


@pytest.mark.parametrize(("file", "content", "name", "act", "mean"), KNOWN, ids=[row[0] for row in KNOWN])
def test_known_names(tmp_path, file, content, name, act, mean, caplog):
    path = write(tmp_path / file, content())
    model = mlpzoo.create_model(name, checkpoint_path=path, **TINY[name])
    assert (model.config.act_layer, tuple(model.pretrained_cfg["mean"])) == (act, mean)
    assert caplog.text == ""
    # Whoever says something else means it, but hears of it.
    other = mlpzoo.create_model(name, act_layer="silu", checkpoint_path=path, **TINY[name])
    assert other.config.act_layer == "silu"
    assert f"trained with act_layer='{act}', and the model runs 'silu'" in caplog.text
    # A model built without the file hears of the activation and of the images.
    notes = mlpzoo.load_checkpoint(mlpzoo.create_model(name, **TINY[name]), path).notes
    assert any(f"trained with act_layer='{act}'" in note for note in notes)
    assert any("trained on images of mean" in note for note in notes) == (name != "convmixer_d768_32")
    tagged = recognize(path).name
    assert mlpzoo.load_checkpoint(mlpzoo.create_model(tagged, **TINY[name]), path).notes == ()


@pytest.mark.parametrize("row", [KNOWN[0], KNOWN[1], KNOWN[2]], ids=["convmixer", "vit", "mixer"])
def test_unknown_names_are_doubted(tmp_path, row, monkeypatch, caplog):
    _, content, name, act, _ = row
    family = FAMILIES[mlpzoo.registry.family_of(name).name]
    # The tiny network is the variant here, for of a Mixer timm's names are our own.
    variant = dataclasses.replace(family.variants[name], **TINY[name])
    monkeypatch.setitem(family.variants, name, variant)
    path = write(tmp_path / "weights.pth", content())
    assert recognize(path) is None
    model = mlpzoo.create_model(name, checkpoint_path=path, **TINY[name])
    assert model.config.act_layer != act
    assert f"released files of its kind were trained with act_layer='{act}', and the model runs" in caplog.text
    caplog.clear()
    mlpzoo.create_model(name, act_layer=act, checkpoint_path=path, **TINY[name])
    assert caplog.text == ""


def test_known_hashes(tmp_path, monkeypatch):
    path = write(tmp_path / "weights.pth", timms_vit())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    weights = FAMILIES["vit"].weights
    url = f"https://example.org/deit_tiny-{digest[:8]}.pth"
    deit = dataclasses.replace(weights["vit_ti16.fb_deit_in1k"], url=url)
    monkeypatch.setitem(weights, "vit_ti16.fb_deit_in1k", deit)
    assert mlpzoo.create_model("vit_ti16", checkpoint_path=path, **TINY["vit_ti16"]).config.act_layer == "gelu"
    miil = dataclasses.replace(FAMILIES["mixer"].weights["mixer_b16.miil_in21k"], sha256=digest)
    monkeypatch.setitem(FAMILIES["mixer"].weights, "mixer_b16.miil_in21k", miil)
    assert recognize(path, FAMILIES["mixer"]).name == "mixer_b16.miil_in21k"


def test_files_told_from_names_and_shapes_alone(tmp_path, monkeypatch):
    """What `predict` and `convert` do with a file and no model's name."""
    variants = FAMILIES["convmixer"].variants
    name = "convmixer_d768_32"
    monkeypatch.setitem(variants, name, dataclasses.replace(variants[name], **TINY[name]))
    path = write(tmp_path / "convmixer_768_32_ks7_p7_relu.pth.tar", authors_convmixer())
    found = identify_checkpoint(path)
    assert (found.name, found.release, found.overrides) == (name, f"{name}.relu_in1k", {"act_layer": "relu"})
    network, _ = load_classifier(path)
    assert network.config.act_layer == "relu"
    assert convert(path, tmp_path / "folder").options == {"act_layer": "relu"}
    rebuilt = mlpzoo.create_model(f"local-dir:{tmp_path / 'folder'}")
    assert (rebuilt.config.act_layer, tuple(rebuilt.pretrained_cfg["mean"])) == ("relu", IMAGENET)


def test_our_own_files_say_their_activation(tmp_path, caplog):
    for act in ("relu", "gelu_tanh", "gelu"):
        model = mlpzoo.create_model("mixer_b16", act_layer=act, **TINY["mixer_b16"])
        save_safetensors(model, tmp_path / "x.safetensors")
        assert mlpzoo.load_checkpoint(model, tmp_path / "x.safetensors").notes == ()
    assert caplog.text == ""
    notes = mlpzoo.load_checkpoint(
        mlpzoo.create_model("mixer_b16", **TINY["mixer_b16"]), tmp_path / "x.safetensors"
    ).notes
    assert notes[0].startswith("it was saved from a network that runs act_layer='gelu', and the model runs 'gelu_tanh'")


def test_networks_of_ones_own_are_not_doubted(tmp_path):
    model = mlpzoo.create_model("mixer_b16", **TINY["mixer_b16"])
    torch.save(model.state_dict(), tmp_path / "mine.pth")
    assert mlpzoo.load_checkpoint(model, tmp_path / "mine.pth").notes == ()

"""Files from one layout to another, by the library and on the command line."""

import json

import numpy as np
import pytest
import timm
import torch
from families.resmlp import resmlp
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import mlpzoo
from mlpzoo import CheckpointError
from mlpzoo.cli import run
from mlpzoo.models import FAMILIES


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """The smallest ResMLP as its authors release it, with values of no particular kind."""
    torch.manual_seed(4)
    shapes = resmlp(FAMILIES["resmlp"].variants["resmlp_s12"])
    path = tmp_path_factory.mktemp("released") / "resmlp_12.pth"
    torch.save({"model": {name: torch.randn(shape) * 0.05 for name, shape in shapes.items()}}, path)
    return path


@pytest.fixture(scope="module")
def expected(released):
    return mlpzoo.create_model("resmlp_s12", checkpoint_path=released).state_dict()


def test_to_one_file(released, expected, tmp_path):
    done = mlpzoo.convert(released, tmp_path / "new" / "resmlp.safetensors")
    assert (done.name, done.options, done.tensors) == ("resmlp_s12", {}, 150)
    assert done.report.format == "the authors' .pth"
    written = load_file(done.target)
    assert set(written) == set(expected)
    assert all(torch.equal(value, expected[name]) for name, value in written.items())
    with safe_open(done.target, framework="pt") as handle:
        assert json.loads(handle.metadata()["img_size"]) == [224, 224]
    assert [path.name for path in done.target.parent.iterdir()] == ["resmlp.safetensors"]


def test_to_timm(released, tmp_path):
    mlpzoo.convert(released, tmp_path / "timm.safetensors", layout="timm")
    theirs = timm.create_model("resmlp_12_224")
    theirs.load_state_dict(load_file(tmp_path / "timm.safetensors"), strict=True)


def test_to_a_folder_for_the_hub(released, expected, tmp_path):
    mlpzoo.convert(released, tmp_path / "resmlp", model="resmlp_s12.fb_in1k")
    config = json.loads((tmp_path / "resmlp" / "config.json").read_text())
    assert (config["architecture"], config["pretrained_cfg"]["crop_pct"]) == ("resmlp_s12", 0.9)
    for create in (mlpzoo.create_model, timm.create_model):
        model = create(f"local-dir:{tmp_path / 'resmlp'}", pretrained=True)
        assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_options_of_released_weights_go_into_the_folder(tmp_path):
    """MIIL's Mixers want the exact GELU, which no shape tells."""
    model = mlpzoo.create_model("mixer_b16.miil_in21k_ft_in1k")
    save_file(model.state_dict(), tmp_path / "miil.safetensors")
    mlpzoo.convert(tmp_path / "miil.safetensors", tmp_path / "miil", model="mixer_b16.miil_in21k_ft_in1k")
    rebuilt = mlpzoo.create_model(f"local-dir:{tmp_path / 'miil'}")
    assert rebuilt.config.act_layer == "gelu"
    assert timm.data.resolve_data_config(model=rebuilt)["interpolation"] == "bilinear"


def test_types(released, tmp_path):
    done = mlpzoo.convert(released, tmp_path / "half.safetensors", dtype=torch.bfloat16)
    assert {value.dtype for value in load_file(done.target).values()} == {torch.bfloat16}


def test_nothing_is_replaced_unasked(released, tmp_path):
    target = tmp_path / "there.safetensors"
    target.write_text("precious")
    with pytest.raises(FileExistsError, match="is there already"):
        mlpzoo.convert(released, target)
    assert target.read_text() == "precious"
    mlpzoo.convert(released, target, overwrite=True)
    assert len(load_file(target)) == 150


def test_a_failure_leaves_nothing(released, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    target = tmp_path / "there.safetensors"
    target.write_text("precious")
    monkeypatch.setattr("mlpzoo.weights._writing.save_file", full)
    with pytest.raises(OSError, match="No space"):
        mlpzoo.convert(released, target, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["there.safetensors"]
    assert target.read_text() == "precious"


def test_what_cannot_be_converted(released, tmp_path):
    with pytest.raises(CheckpointError, match="is of resmlp_s12, not of mixer_b16"):
        mlpzoo.convert(released, tmp_path / "a", model="mixer_b16")
    with pytest.raises(ValueError, match=r"unknown weights 'resmlp_s12.nobody'; released are: resmlp_s12.fb_in1k"):
        mlpzoo.convert(released, tmp_path / "a", model="resmlp_s12.nobody")
    with pytest.raises(ValueError, match="unknown layout 'keras': choose mlpzoo or timm"):
        mlpzoo.convert(released, tmp_path / "a.safetensors", layout="keras")
    with pytest.raises(ValueError, match="a folder has the layout of mlpzoo"):
        mlpzoo.convert(released, tmp_path / "a", layout="timm")
    save_file({"weight": torch.zeros(3)}, tmp_path / "odd.safetensors")
    with pytest.raises(CheckpointError, match="cannot tell what .* is of"):
        mlpzoo.convert(tmp_path / "odd.safetensors", tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["odd.safetensors"]


def test_on_the_command_line(released, tmp_path, capsys):
    target = tmp_path / "out.safetensors"
    assert run(["convert", str(released), str(target), "--json", "--dtype", "float16"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "resmlp_s12"
    assert run(["convert", str(released), str(target)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert run(["convert", str(released), str(target), "--overwrite"]) == 0
    assert "the authors' .pth" in capsys.readouterr().out
    for wrong, message in (
        (["--model", "resmlp_s13"], "unknown model 'resmlp_s13'"),
        (["--dtype", "int4"], "unknown type 'int4'"),
        (["--img-size", "big"], "'big' is no image size"),
    ):
        assert run(["convert", str(released), str(tmp_path / "x"), *wrong]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_images_are_classified_with_a_bare_file(tmp_path, capsys):
    """No need to say which model: the file tells."""
    from PIL import Image

    model = mlpzoo.create_model("mixer_s32", num_classes=4)
    np_names = {name: value.numpy() for name, value in model.state_dict().items()}
    np.savez(tmp_path / "weights.npz", **np_names)
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    assert run(["predict", "--checkpoint", str(tmp_path / "weights.npz"), str(tmp_path / "red.png"), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)[0]["classes"]) == 4

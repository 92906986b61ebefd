"""The command line as people and programs meet it: stdout, stderr, exit status."""

import json
import subprocess
import sys

import pytest
import torch
from PIL import Image
from torch import nn

import mlpzoo
from mlpzoo.cli import run
from mlpzoo.weights import save_folder

OPTIONS = {"img_size": 32, "embed_dim": 16, "depth": 1, "tokens_mlp_dim": 8, "channels_mlp_dim": 16, "num_classes": 2}


@pytest.fixture
def call(capsys):
    def call(*arguments):
        status = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return status, captured.out, captured.err

    return call


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    torch.manual_seed(5)
    model = mlpzoo.create_model("mixer_s16", **OPTIONS)
    nn.init.normal_(model.head.weight)
    save_folder(
        model,
        folder / "run",
        architecture="mixer_s16",
        model_args=OPTIONS,
        pretrained_cfg={},
        label_names=["[bold]cat", "dog"],
    )
    Image.new("RGB", (40, 40), "red").save(folder / "red.png")
    (folder / "broken.png").write_text("no image")
    return folder


def assert_one_line_error(outcome, status, message):
    assert outcome[0] == status
    assert outcome[1] == ""
    assert outcome[2].startswith("mlpzoo: error: ")
    assert outcome[2].count("\n") == 1
    assert message in outcome[2]


def test_help_and_version(call):
    for arguments in ((), ("--help",), ("list", "--help"), ("predict", "-h"), ("train", "--help"), ("compare", "-h")):
        status, out, _ = call(*arguments)
        assert status == 0
        assert "Usage: mlpzoo" in out
    assert call("--version")[1] == f"mlpzoo {mlpzoo.__version__}\n"


def test_list(call):
    status, out, _ = call("list", "mixer_s*")
    assert status == 0
    assert "mixer_s32" in out
    assert "18.5 M" in out
    assert "mixer_b16" not in out
    status, out, err = call("list", "mixer_s*", "mixer_b16", "--pretrained", "--json")
    (entry,) = json.loads(out)
    assert (status, err, entry["name"], entry["top1"], entry["parameters"]) == (0, "", "mixer_b16", 76.44, 59880472)
    assert_one_line_error(call("list", "nothing*"), 1, "no model matches")


def test_info(call):
    status, out, _ = call("info", "mixer_b16")
    assert status == 0
    assert "59.9 M" in out
    assert "https://arxiv.org/abs/2105.01601" in out
    assert json.loads(call("info", "mixer_b16", "--json")[1])["license"] == "Apache-2.0"
    assert_one_line_error(call("info", "mixer_b61"), 2, "The nearest: mixer_b16")
    assert_one_line_error(call("info"), 2, "Missing argument")


def test_predict_goes_on_past_broken_files(call, folder):
    status, out, err = call(
        "predict", "--checkpoint", folder / "run", folder / "missing.png", folder / "red.png", folder / "broken.png"
    )
    assert status == 1
    assert "red.png" in out
    assert "[bold]cat" in out
    assert [name in err for name in ("missing.png", "broken.png", "red.png")] == [True, True, False]
    assert err.count("mlpzoo: error: cannot read") == 2


def test_predict_for_programs(call, folder):
    status, out, err = call("predict", "--checkpoint", folder / "run", "--top-k", 1, "--json", folder / "red.png")
    (entry,) = json.loads(out)
    assert (status, err, entry["path"], entry["error"]) == (0, "", str(folder / "red.png"), None)
    assert len(entry["classes"]) == 1
    assert entry["classes"][0]["probability"] > 0.5


def test_predict_mistakes(call, folder):
    image = folder / "red.png"
    assert_one_line_error(call("predict", image), 2, "give --checkpoint DIR_OR_FILE, or --model NAME")
    assert_one_line_error(call("predict", "--model", "mixer_q16", image), 2, "unknown model 'mixer_q16'")
    assert_one_line_error(call("predict", "--checkpoint", folder / "nowhere", image), 1, "no file or folder")
    assert_one_line_error(call("predict", "--checkpoint", folder / "run", "--device", "tpu", image), 2, "device 'tpu'")
    assert_one_line_error(call("predict", "--checkpoint", folder, image), 1, "no config.json")
    assert_one_line_error(call("predict", "--checkpoint", folder / "run", "--top-k", 0, image), 2, "top-k")


def test_train_mistakes(call, folder):
    assert_one_line_error(call("train", "imagenet"), 2, "unknown recipe 'imagenet': there is digits")
    assert_one_line_error(call("train", "digits", "--out", folder / "red.png"), 1, "cannot write to")
    assert_one_line_error(call("nonsense"), 2, "No such command 'nonsense'")


def test_compare(call, tmp_path):
    arguments = ("compare", "mixer_s32", "--sizes", "32,33,32x64", "--repeats", 1)
    status, out, err = call(*arguments, "--plot", tmp_path / "cost.png")
    assert status == 0
    assert "18.9 M" in out
    assert "33×33: an image of 33×33 pixels does not divide" in err
    assert (tmp_path / "cost.png").stat().st_size > 1000
    assert [entry["img_size"] for entry in json.loads(call(*arguments, "--json")[1])] == [[32, 32], [33, 33], [32, 64]]
    assert_one_line_error(call("compare", "mixer_s32", "--sizes", "12y"), 2, "'12y' is no image size")
    assert_one_line_error(call("compare", "mixer_q", "--sizes", "32"), 2, "unknown model")


def test_without_the_extras():
    code = "import sys; sys.modules['typer'] = None; from mlpzoo.__main__ import main; sys.exit(main(['list']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "mlpzoo: error: the command line needs typer and rich: pip install 'mlpzoo[cli]'\n"

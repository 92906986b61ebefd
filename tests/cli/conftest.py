"""The command line as people and programs meet it: stdout, stderr, exit status."""

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
    """Run the command; give its exit status, stdout and stderr."""

    def call(*arguments):
        status = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return status, captured.out, captured.err

    return call


@pytest.fixture
def assert_refused(call):
    """Run the command and check that it fails with one line on stderr and nothing on stdout."""

    def assert_refused(*arguments, status, message):
        actual, out, err = call(*arguments)
        assert (actual, out) == (status, "")
        assert err.startswith("mlpzoo: error: ")
        assert err.count("\n") == 1
        assert message in err

    return assert_refused


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A classifier in `run`, an image `red.png` and a file `broken.png` that is none."""
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

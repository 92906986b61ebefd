"""The command line as people and programs meet it: stdout, stderr, exit status."""

import json
import os
import subprocess
import sys

import pytest
import torch
import yaml
from PIL import Image
from torch import nn
from train.tiny import RECIPE

import mlpzoo
from mlpzoo.cli import run
from mlpzoo.tasks import Detector, DetectorConfig, save_detector
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


@pytest.fixture(scope="module")
def detector(folder):
    torch.manual_seed(0)
    sizes = {"embed_dims": (16, 16, 16, 16), "depths": (1, 1, 1, 1), "mlp_ratios": (1, 1, 1, 1)}
    detector = Detector(
        DetectorConfig(
            backbone="cyclemlp_b1", backbone_args=sizes, classes=("[bold]cat",), out_channels=32, detections_per_img=3
        )
    )
    # Sure of everything, so that there is something to show.
    nn.init.constant_(detector.model.head.classification_head.cls_logits.bias, 3.0)
    nn.init.constant_(detector.model.head.regression_head.bbox_ctrness.bias, 3.0)
    save_detector(detector, folder / "detector")
    return folder / "detector"


def test_detect_goes_on_past_broken_files(call, folder, detector, tmp_path):
    arguments = ("detect", folder / "broken.png", folder / "red.png", "--checkpoint", detector, "--out", tmp_path)
    status, out, err = call(*arguments)
    assert status == 1
    assert err.count("\n") == 1
    assert "broken.png: it is no image" in err
    assert out.count("[bold]cat") == 3
    assert "red-detected.png" in out
    assert [path.name for path in tmp_path.iterdir()] == ["red-detected.png"]
    status, out, err = call(*arguments[:1], *arguments[2:], "--json")
    assert status == 1
    assert "will not replace" in err
    status, out, err = call(*arguments, "--json", "--overwrite")
    broken, red = json.loads(out)
    assert (broken["boxes"], broken["output"]) == ([], None)
    assert "it is no image" in broken["error"]
    assert red["error"] is None
    assert [box["label"] for box in red["boxes"]] == ["[bold]cat"] * 3
    status, out, _ = call(*arguments[:1], *arguments[2:], "--overwrite", "--score-threshold", 1)
    assert status == 0
    assert "nothing" in out


def test_detect_mistakes(call, folder, detector):
    image = folder / "red.png"
    assert_one_line_error(call("detect", image), 2, "--checkpoint")
    assert_one_line_error(call("detect", image, "--checkpoint", folder / "run"), 1, "which is no detector")
    assert_one_line_error(call("detect", image, "--checkpoint", folder / "nowhere"), 1, "holds no config.json")
    assert_one_line_error(call("detect", image, "--checkpoint", detector, "--score-threshold", 2), 2, "score-threshold")
    assert_one_line_error(call("detect", image, "--checkpoint", detector, "--device", "tpu"), 2, "device 'tpu'")
    assert_one_line_error(call("predict", image, "--checkpoint", detector), 1, "fcos_cyclemlp_b1")
    assert not (folder / "red-detected.png").exists()


def test_train_mistakes(call, folder):
    assert_one_line_error(call("train", "imagenet"), 2, "unknown recipe 'imagenet': there is cyclemlp_300e, digits")
    assert_one_line_error(call("train", "digts"), 2, "did you mean 'digits'?")
    assert_one_line_error(call("train", "digits", "optimizer.lrr=1"), 2, "did you mean 'optimizer.lr'?")
    assert_one_line_error(call("train", "none.yaml"), 2, "cannot read the recipe none.yaml")
    assert_one_line_error(call("train", "denoise", "data.nois=1"), 2, "did you mean 'data.noise'?")
    assert_one_line_error(call("train", "denoise", "augment.mixup=0.5"), 2, "unknown key 'augment'")
    assert_one_line_error(call("train", "digits", "--device", "tpu"), 1, "training runs on 'cpu' or 'cuda'")
    assert_one_line_error(call("train", "finetune"), 1, "say where the images are: --data FOLDER")
    assert_one_line_error(call("train", "finetune", "--data", "nowhere"), 1, "there is no folder nowhere")
    assert_one_line_error(call("train", "digits", "--out", folder / "red.png"), 1, "cannot write to")
    assert_one_line_error(call("validate", folder), 1, "holds no run")


def test_train_lists_recipes(call):
    status, out, _ = call("train")
    assert status == 0
    assert all(name in out for name in ("digits", "mixer_b16_i1k", "linear_probe", "denoise", "detection-digits"))
    status, out, _ = call("train", "--json")
    assert {recipe["name"] for recipe in json.loads(out)} >= {"digits", "vip_300e"}


def test_a_dry_run_trains_nothing(call, tmp_path):
    status, out, err = call("train", "digits", "optimizer.lr=0.125", "--out", tmp_path / "run", "--dry-run")
    assert (status, err) == (0, "")
    assert "lr: 0.125" in out
    assert "1,760, 22 an epoch" in out
    assert not (tmp_path / "run").exists()
    status, out, _ = call("train", "digits", "--epochs", 2, "--dry-run", "--json")
    assert json.loads(out)["updates"] == 44


def test_train_and_validate(call, tmp_path):
    recipe = tmp_path / "small.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE))
    out = tmp_path / "run"
    status, text, err = call("train", recipe, "--out", out, "--seed", 2, "--device", "cpu", "--json")
    assert status == 0, err
    result = json.loads(text)
    assert result["folder"] == str(out)
    status, text, _ = call("validate", out, "--json", "--device", "cpu")
    assert json.loads(text)["validation_top1"] == pytest.approx(result["figures"]["validation_top1"], abs=1e-6)
    status, text, _ = call("validate", out, "--device", "cpu")
    assert "Validation top-1" in text
    assert_one_line_error(call("train", recipe, "--out", out), 1, "another recipe: run.seed differ")
    assert_one_line_error(call("train", recipe, "--out", out, "--seed", 2), 1, "is finished")


def test_a_terminated_run_exits_as_a_shell_expects_and_goes_on(tmp_path):
    (tmp_path / "small.yaml").write_text(yaml.safe_dump({**RECIPE, "schedule": {"updates": 4000}}))
    command = [sys.executable, "-m", "mlpzoo", "train", tmp_path / "small.yaml", "--out", tmp_path / "run"]
    command += ["--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as run:
        assert "epoch" in run.stderr.readline()
        run.terminate()
        said = run.communicate(timeout=120)[1].splitlines()
    assert run.returncode == 143
    assert "stopped by SIGTERM; saved" in said[-1]
    assert list((tmp_path / "run/checkpoints").iterdir())
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as run:
        assert "going on from" in run.stderr.readline()
        run.kill()
        run.communicate()


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

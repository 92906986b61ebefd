import json
import os
import subprocess
import sys

import pytest
import yaml
from train.tiny import RECIPE


def test_mistakes(assert_refused, folder):
    assert_refused("train", "imagenet", status=2, message="unknown recipe 'imagenet': there is ")
    assert_refused("train", "digts", status=2, message="did you mean 'digits'?")
    assert_refused("train", "digits", "optimizer.lrr=1", status=2, message="did you mean 'optimizer.lr'?")
    assert_refused("train", "none.yaml", status=2, message="cannot read the recipe none.yaml")
    assert_refused("train", "denoise", "data.nois=1", status=2, message="did you mean 'data.noise'?")
    assert_refused("train", "denoise", "augment.mixup=0.5", status=2, message="unknown key 'augment'")
    assert_refused("train", "digits", "--device", "tpu", status=1, message="training runs on 'cpu' or 'cuda'")
    assert_refused("train", "finetune", status=1, message="say where the images are: --data FOLDER")
    assert_refused("train", "finetune", "--data", "nowhere", status=1, message="there is no folder nowhere")
    assert_refused("train", "digits", "--out", folder / "red.png", status=1, message="cannot write to")


def test_list_of_recipes(call):
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


def test_training_and_validation(call, assert_refused, tmp_path):
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
    assert_refused("train", recipe, "--out", out, status=1, message="another recipe: run.seed differ")
    assert_refused("train", recipe, "--out", out, "--seed", 2, status=1, message="is finished")


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

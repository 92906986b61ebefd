"""Several processes on one machine, by both launchers."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from train.tiny import RECIPE

import mlpzoo
from mlpzoo.tasks import recipe_from, shipped_recipes
from mlpzoo.train import dump_recipe, newest_checkpoint
from mlpzoo.train.journal import read_metrics

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork, which the launchers' tests need")
ROOT = Path(__file__).parents[2]
# Dropout differs between processes by design.
WITHOUT_DROPOUT = ["model.options.drop_rate=0", "schedule.updates=6", "run.checkpoint_every=3"]


def free_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return str(free.getsockname()[1])


def launch(launcher, folder, *changes, content=RECIPE):
    """Run the command in two processes, or in one; what it said."""
    port = free_port()
    recipe = folder.parent / f"{folder.name}.yaml"
    recipe.write_text(yaml.safe_dump(content))
    launchers = {
        "alone": [sys.executable],
        "torchrun": [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={port}"],
        "accelerate": [
            *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2"),
            *("--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no", f"--main_process_port={port}"),
        ],
    }
    command = [*launchers[launcher], "-m", "mlpzoo", "train", recipe, *changes, "--out", folder, "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stderr
    return ended


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    launch("alone", folder, *WITHOUT_DROPOUT)
    return folder


def assert_same_losses(one, other):
    records = [
        [record for record in read_metrics(folder) if "loss" in record or "validation_loss" in record]
        for folder in (one, other)
    ]
    assert len(records[0]) == len(records[1]) == 7
    for a, b in zip(*records, strict=True):
        for key in {"loss", "accuracy", "validation_loss", "validation_top1", "lr"} & set(a):
            assert a[key] == pytest.approx(b[key], abs=1e-5), (a["step"], key)


@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_two_processes_give_the_losses_of_one(alone, tmp_path, launcher):
    said = launch(launcher, tmp_path / "run", *WITHOUT_DROPOUT)
    assert said.stdout.count("Training time") == 1
    assert_same_losses(alone, tmp_path / "run")
    state = torch.load(newest_checkpoint(tmp_path / "run") / "state.pt", weights_only=True)
    assert len(state["generators"]) == 2


def test_shards_train_are_saved_whole_and_go_on(alone, tmp_path):
    folder = tmp_path / "run"
    changes = [*WITHOUT_DROPOUT, "run.strategy=fsdp2", "optimizer.clip_norm=1000"]
    launch("torchrun", folder, *changes)
    assert_same_losses(alone, folder)
    weights = newest_checkpoint(folder) / "model.safetensors"
    network = mlpzoo.create_model(
        "mixer_s16", num_classes=10, checkpoint_path=weights, **{**RECIPE["model"]["options"], "drop_rate": 0}
    )
    assert torch.equal(network.head.weight, load_file(folder / "model.safetensors")["head.weight"])
    # As if it had been killed after the third update.
    (folder / "config.json").unlink()
    for path in folder.glob("checkpoints/step-00000006/*"):
        path.unlink()
    said = launch("torchrun", folder, *changes)
    assert "step-00000006 is damaged" in said.stderr
    assert "3 of 6 updates" in said.stderr
    assert_same_losses(alone, folder)
    assert json.loads((folder / "config.json").read_text())["num_classes"] == 10


@pytest.mark.slow
def test_a_run_goes_on_in_another_number_of_processes(alone, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    three = newest_checkpoint(alone).with_name("step-00000003")
    (folder / "checkpoints").mkdir()
    for file in [three, *three.iterdir()]:
        target = folder / "checkpoints" / file.relative_to(three.parent)
        target.mkdir() if file.is_dir() else target.write_bytes(file.read_bytes())
    (folder / "recipe.yaml").write_text(dump_recipe(recipe_from(RECIPE, WITHOUT_DROPOUT)))
    (folder / "metrics.jsonl").write_text((alone / "metrics.jsonl").read_text())
    said = launch("torchrun", folder, *WITHOUT_DROPOUT)
    assert "of 1 processes, this run of 2" in said.stderr
    assert_same_losses(alone, folder)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_process_stops_all_at_the_same_update(tmp_path, rank):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    command += [ROOT / "tests/train/signalled.py", tmp_path / "run", str(rank)]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    # Processes that wait for one another would wait for ever.
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert ended.returncode == 0, ended.stderr
    assert newest_checkpoint(tmp_path / "run").name == "step-00000006"
    for each in range(2):
        assert f"rank {each}: stopped by SIGTERM; saved {tmp_path}/run/checkpoints/step-00000006" in ended.stdout


def test_restoration_in_two_processes_gives_the_losses_of_one(tmp_path):
    small = ["data.length=8", "data.batch_size=2", "schedule.updates=3", "schedule.warmup_epochs=0", "run.log_every=1"]
    (tmp_path / "data").mkdir()
    for split in ("train", "validation"):
        (tmp_path / "data" / split).mkdir()
        for i in range(2):
            pixels = np.random.default_rng(i).integers(0, 256, (70, 80, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / split / f"{i}.png")
    recipe = yaml.safe_load(shipped_recipes()["denoise"].read_text())
    changes = [*small, "data.dataset=folder", f"data.root={tmp_path / 'data'}"]
    for launcher in ("alone", "torchrun"):
        launch(launcher, tmp_path / launcher, *changes, content=recipe)
    one, other = (read_metrics(tmp_path / launcher) for launcher in ("alone", "torchrun"))
    assert len(one) == len(other) == 4
    for a, b in zip(one, other, strict=True):
        # In training, the PSNR shown is a mean of each process's own.
        for key in {"loss"} if "loss" in a else {"psnr", "noisy_psnr", "ssim"}:
            assert a[key] == pytest.approx(b[key], abs=1e-4), (a["step"], key)

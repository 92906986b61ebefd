"""The engine: runs that end, stop, break and go on."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from safetensors.torch import load_file
from torch.utils.tensorboard import SummaryWriter  # noqa: F401  its import warns, and should do so here
from train.tiny import tiny_recipe

import mlpzoo
from mlpzoo.demos import write_digits
from mlpzoo.tasks import plan, recipe_from, train, validate
from mlpzoo.tasks.classification import Classification, evaluate
from mlpzoo.train import Diverged, Place, Stopped, checkpoints, newest_checkpoint
from mlpzoo.train.journal import read_metrics

ROOT = Path(__file__).parents[2]


def run(folder, *changes, **options):
    return train(tiny_recipe(*changes), folder, device="cpu", progress=False, **options)


def final(folder):
    return load_file(newest_checkpoint(folder) / "model.safetensors")


def assert_same_weights(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(value, b[name]) for name, value in a.items())


def assert_same_run(one, other):
    assert_same_weights(final(one), final(other))
    states = [torch.load(newest_checkpoint(folder) / "state.pt", weights_only=True) for folder in (one, other)]
    moments = [state["optimizer"]["state"] for state in states]
    for key, value in moments[0].items():
        assert all(torch.equal(tensor, moments[1][key][name]) for name, tensor in value.items())
    assert states[0]["best"] == states[1]["best"]
    records = [
        [{key: value for key, value in record.items() if key != "images_per_s"} for record in read_metrics(folder)]
        for folder in (one, other)
    ]
    assert records[0] == records[1]


@pytest.fixture(scope="module", autouse=True)
def _no_pictures():
    """They are tested with the recipe they belong to, and take longer than these runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlpzoo.train.Task.illustrate", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run left alone."""
    folder = tmp_path_factory.mktemp("whole")
    run(folder)
    return folder


def stop_at(step, monkeypatch, error=KeyboardInterrupt):
    """Break off when that many updates are done, without a word to the loop."""
    from mlpzoo.train.loop import Trainer

    original = Trainer._update

    def update(self, batches):
        if self.step == step:
            raise error
        return original(self, batches)

    monkeypatch.setattr(Trainer, "_update", update)


@pytest.mark.parametrize("step", [0, 3, 4, 11])
def test_a_run_cut_short_goes_on_as_if_it_never_was(whole, tmp_path, monkeypatch, step):
    stop_at(step, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    monkeypatch.undo()
    run(tmp_path)
    assert_same_run(whole, tmp_path)


def test_workers_change_nothing(whole, tmp_path, monkeypatch):
    stop_at(6, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "data.workers=2")
    monkeypatch.undo()
    run(tmp_path, "data.workers=1")
    assert_same_run(whole, tmp_path)


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_again_and_again(tmp_path, kills):
    def start(name, kills):
        command = [sys.executable, ROOT / "tests/train/killed.py", tmp_path / name, str(kills), "1"]
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        ended = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        assert f"killed {kills} times" in ended.stdout

    start("alone", 0)
    start("killed", kills)
    assert_same_run(tmp_path / "alone", tmp_path / "killed")
    ema = [load_file(newest_checkpoint(tmp_path / name) / "ema.safetensors") for name in ("alone", "killed")]
    assert_same_weights(*ema)
    assert_same_weights(*(load_file(tmp_path / name / "model.safetensors") for name in ("alone", "killed")))


def test_a_damaged_checkpoint_is_passed_over(whole, tmp_path, monkeypatch, capsys):
    stop_at(9, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    monkeypatch.undo()
    os.truncate(tmp_path / "checkpoints/step-00000008/model.safetensors", 100)
    train(tiny_recipe(), tmp_path, device="cpu")
    said = capsys.readouterr().err
    assert "step-00000008 is damaged" in said
    assert "going on from" in said
    assert "4 of 12 updates" in said
    assert_same_run(whole, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops(whole, tmp_path, monkeypatch, number):
    from mlpzoo.train.loop import Trainer

    original = Trainer._update

    def update(self, batches):
        if self.step == 5:
            os.kill(os.getpid(), number)
        return original(self, batches)

    monkeypatch.setattr(Trainer, "_update", update)
    handler = signal.getsignal(number)
    with pytest.raises(Stopped, match=rf"stopped by {number.name}; saved .*step-00000006") as caught:
        run(tmp_path)
    assert caught.value.signal == number
    assert signal.getsignal(number) is handler
    monkeypatch.undo()
    run(tmp_path)
    assert_same_run(whole, tmp_path)


def test_outside_the_main_thread_signals_are_left_alone(tmp_path):
    found = []
    thread = threading.Thread(target=lambda: found.append(run(tmp_path, "schedule.updates=2")))
    thread.start()
    thread.join()
    assert found[0].figures


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_the_run(tmp_path, monkeypatch, bad):
    original = Classification.loss
    calls = []

    def loss(self, model, batch):
        calls.append(1)
        value, shown = original(self, model, batch)
        return (value * bad if len(calls) == 7 else value), shown

    monkeypatch.setattr(Classification, "loss", loss)
    with pytest.raises(
        Diverged, match=r"at update 7 \(epoch 1\), at a learning rate of 0.00\d+; the last good .*00004"
    ):
        run(tmp_path)
    assert all(value.isfinite().all() for value in final(tmp_path).values())


def test_a_full_disk_leaves_the_last_checkpoint(whole, tmp_path, monkeypatch):
    original = checkpoints.save_file
    written = []

    def full(*args, **kwargs):
        written.append(1)
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        return original(*args, **kwargs)

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(OSError, match=r"step-00000008: No space left on device; the last one is .*step-00000004"):
        run(tmp_path)
    run(tmp_path)
    assert_same_run(whole, tmp_path)


def test_the_folder_of_another_run(whole, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"is finished: .*--overwrite"):
        run(whole)
    with pytest.raises(ValueError, match=r"another recipe: optimizer.lr differ.*--overwrite"):
        run(whole, "optimizer.lr=1")
    stop_at(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    monkeypatch.undo()
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "recipe.yaml").write_text("model: [")
    with pytest.raises(ValueError, match="cannot be read"):
        run(tmp_path)
    run(tmp_path, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert_same_run(whole, tmp_path)
    (tmp_path / "recipe.yaml").unlink()
    with pytest.raises(ValueError, match="holds a network already"):
        run(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot write to"):
        run(tmp_path / "file")


@pytest.mark.parametrize("device", ["tpu", "cuda:1"])
def test_devices_that_are_not_there(tmp_path, device):
    with pytest.raises(ValueError, match="training runs on 'cpu' or 'cuda'"):
        train(tiny_recipe(), tmp_path, device=device)


OPTIONS = {
    "mixup": ["augment.mixup=0.8", "augment.cutmix=1.0", "loss.label_smoothing=0.1"],
    "elementwise mixup": ["augment.mixup=0.8", "augment.mixup_mode=elem"],
    "bce": ["loss.name=bce", "loss.sum_classes=true", "model.head_bias=-2"],
    "bce with mixup": ["loss.name=bce", "augment.mixup=0.5"],
    "smoothing": ["loss.label_smoothing=0.1"],
    "ema": ["run.ema_decay=0.9", "run.ema_warmup=true"],
    "bf16": ["run.precision=bf16"],
    "checkpointing": ["run.grad_checkpointing=true"],
    "lamb": ["optimizer.name=lamb"],
    "sgd": ["optimizer.name=sgd", "optimizer.options={nesterov: false}"],
    "layer decay": ["optimizer.layer_decay=0.5", "optimizer.clip_norm=0.5"],
    "repeats": ["augment.repeats=3"],
    "augmentations": ["augment.auto_augment=rand-m5-inc1", "augment.random_erasing=0.5", "augment.color_jitter=0.2"],
    "epochs": ["schedule.epochs=1", "schedule.warmup_updates=3", "schedule.cooldown_epochs=1", "data.batch_size=256"],
    "tensorboard": ["run.trackers=[tensorboard]"],
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_train(tmp_path, name):
    result = run(tmp_path, "schedule.updates=4", "run.checkpoint_every=2", *OPTIONS[name])
    assert result.figures["validation_loss"] < 4
    losses = [record["loss"] for record in read_metrics(tmp_path) if "loss" in record]
    assert all(torch.tensor(losses).isfinite())
    if name == "tensorboard":
        assert list(tmp_path.rglob("events.out.tfevents*"))


def test_accumulation_is_the_same_update(tmp_path):
    run(tmp_path / "a", "model.options.drop_rate=0", "schedule.updates=3")
    run(tmp_path / "b", "model.options.drop_rate=0", "schedule.updates=3", "run.accumulate=4")
    one, other = (read_metrics(tmp_path / name) for name in "ab")
    for a, b in zip(one, other, strict=True):
        for key in {"loss", "accuracy", "validation_loss"} & set(a):
            assert a[key] == pytest.approx(b[key], abs=1e-5)


def at_the_start(*changes):
    torch.manual_seed(0)
    return Classification(tiny_recipe(*changes), Place(torch.device("cpu"))).model.state_dict()


def test_a_probe_trains_the_head_alone(tmp_path):
    run(tmp_path, "model.train=head")
    before, after = at_the_start("model.train=head"), final(tmp_path)
    assert {name for name, value in after.items() if not torch.equal(value, before[name])} == {
        "head.weight",
        "head.bias",
    }


def test_frozen_stages_stay(tmp_path):
    run(tmp_path, "model.frozen_stages=1", "schedule.updates=2")
    before = at_the_start("model.frozen_stages=1")
    moved = {name for name, value in final(tmp_path).items() if not torch.equal(value, before[name])}
    assert moved
    assert not [name for name in moved if name.startswith(("stem", "blocks.0"))]


def test_distillation_adds_the_teachers_label(whole, tmp_path):
    recipe = tiny_recipe(f"loss.teacher=local-dir:{whole}", "loss.teacher_weight=0.25", "model.options.drop_rate=0")
    task = Classification(recipe, Place(torch.device("cpu")))
    batch = next(task.batches(0, 0))
    logits = task.model.eval()(batch[0])
    teacher = mlpzoo.create_model(f"local-dir:{whole}").eval()
    cross_entropy = torch.nn.functional.cross_entropy
    expected = 0.75 * cross_entropy(logits, batch[1]) + 0.25 * cross_entropy(logits, teacher(batch[0]).argmax(1))
    assert task.loss(task.model, batch)[0].item() == pytest.approx(expected.item(), rel=1e-6)
    run(tmp_path, f"loss.teacher=local-dir:{whole}", "schedule.updates=2")
    with pytest.raises(ValueError, match="the teacher mixer_s16 has 1000 classes, the data 10"):
        Classification(
            tiny_recipe("loss.teacher=mixer_s16", f"loss.teacher_checkpoint={teacher_file(tmp_path)}"),
            Place(torch.device("cpu")),
        )


def teacher_file(folder):
    from mlpzoo.weights import save_safetensors

    save_safetensors(mlpzoo.create_model("mixer_s16"), folder / "teacher.safetensors")
    return folder / "teacher.safetensors"


def test_the_best_weights_are_kept(tmp_path):
    run(tmp_path, "schedule.updates=44", "run.validate_every=0.25", "optimizer.lr=0.02")
    figures = [record["validation_top1"] for record in read_metrics(tmp_path) if "validation_top1" in record]
    assert len(figures) >= 8
    about = json.loads((tmp_path / "best/config.json").read_text())["about"]
    assert about["validation_top1"] == max(figures)
    assert validate(tmp_path / "best/..", workers=0).figures == pytest.approx(
        {key: value for key, value in read_metrics(tmp_path)[-1].items() if key != "step"}, abs=1e-6
    )


def test_less_than_an_update_between_validations_is_an_update(tmp_path):
    run(tmp_path, "schedule.updates=3", "run.validate_every=0.001")
    assert [record["step"] for record in read_metrics(tmp_path) if "validation_top1" in record] == [1, 2, 3]


def test_accelerates_state_is_the_callers_afterwards(tmp_path, monkeypatch):
    """A caller that uses accelerate itself goes on with its own settings, and ours are not changed by them."""
    monkeypatch.delenv("ACCELERATE_USE_FSDP", raising=False)
    level = logging.getLogger("accelerate").level
    caller = Accelerator(cpu=True, mixed_precision="bf16", gradient_accumulation_steps=3)
    try:
        state = [dict(part._shared_state) for part in (PartialState, AcceleratorState, GradientState)]
        run(tmp_path, "schedule.updates=2")
        assert "loss" in read_metrics(tmp_path)[0]
        assert [dict(part._shared_state) for part in (PartialState, AcceleratorState, GradientState)] == state
        assert caller.mixed_precision == "bf16"
        assert caller.gradient_state.num_steps == 3
        assert caller.device.type == "cpu"
        assert logging.getLogger("accelerate").level == level
        model, optimizer = caller.prepare(nn := torch.nn.Linear(2, 2), torch.optim.SGD(nn.parameters(), 0.1))
        with caller.accumulate(model):
            caller.backward(model(torch.ones(1, 2)).sum())
            optimizer.step()
        assert not caller.sync_gradients
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()


def test_the_callers_process_group_stays(tmp_path):
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        run(tmp_path, "schedule.updates=2")
        assert torch.distributed.is_initialized()
    finally:
        torch.distributed.destroy_process_group()


def test_fine_tuning_at_another_size_and_with_other_classes(whole, tmp_path):
    write_digits(tmp_path / "data", [0, 1, 2], size=16)
    recipe = recipe_from(
        {
            "model": {"name": f"local-dir:{whole}", "options": {"img_size": 16}},
            "data": {"root": str(tmp_path / "data"), "batch_size": 32, "workers": 0},
            "augment": {"scale": [0.8, 1.0], "hflip": 0.0},
            "optimizer": {"lr": 4e-3},
            "schedule": {"updates": 30},
        }
    )
    result = train(recipe, tmp_path / "run", device="cpu", progress=False)
    assert result.figures["validation_top1"] > 0.5
    network = mlpzoo.create_model(f"local-dir:{tmp_path / 'run'}")
    assert (network.num_classes, network.config.img_size) == (3, 16)
    assert json.loads((tmp_path / "run/config.json").read_text())["label_names"] == ["one", "two", "zero"]
    assert validate(tmp_path / "run", workers=0).figures["validation_top1"] == result.figures["validation_top1"]
    assert validate(tmp_path / "run", split="train", workers=0).figures["validation_top1"] > 0.5
    with pytest.raises(ValueError, match="there is no folder"):
        validate(tmp_path / "run", data="nowhere", workers=0)


def test_validate_without_a_run(tmp_path):
    with pytest.raises(ValueError, match=r"holds no run: recipe.yaml is missing"):
        validate(tmp_path)


def test_evaluation_counts_what_is_there():
    logits = torch.eye(7)
    batches = [(logits, torch.tensor([0, 1, 2, 6, 4, -1, -1]))]
    found = evaluate(torch.nn.Identity(), iter(batches), torch.device("cpu"))
    assert found["validation_top1"] == 4 / 5
    assert found["validation_top5"] >= 4 / 5
    with pytest.raises(ValueError, match="no readable image"):
        evaluate(torch.nn.Identity(), iter([(logits, torch.full((7,), -1))]), torch.device("cpu"))


def test_a_plan_says_what_would_be(whole):
    found = plan(tiny_recipe("run.ema_decay=0.9", "model.train=head"))
    parameters = sum(value.numel() for value in final(whole).values())
    assert found.parameters == parameters
    assert found.trained == 16 * 10 + 10
    assert (found.updates, found.updates_per_epoch, found.classes, found.validation_images) == (12, 22, 10, 360)
    assert found.memory_mb > 4 * (2 * parameters + 3 * found.trained) / 1e6
    assert plan(tiny_recipe("optimizer.name=sgd")).memory_mb < plan(tiny_recipe()).memory_mb


def test_metrics_survive_a_line_cut_short(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2}\n{"step": 2, "lo')
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 2}]
    assert read_metrics(tmp_path / "none") == []


@pytest.mark.slow
def test_compiled_networks_train_alike(whole, tmp_path):
    run(tmp_path, "run.compile=true", "run.ema_decay=0.9")
    losses = [[record["loss"] for record in read_metrics(folder) if "loss" in record] for folder in (whole, tmp_path)]
    assert losses[0][0] == pytest.approx(losses[1][0], abs=1e-4)
    assert all(torch.tensor(losses[1]).isfinite())
    assert set(final(tmp_path)) == set(final(whole))

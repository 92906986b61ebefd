"""From a recipe to a trained network: the run's folder, the processes, and what is written at the end."""

import dataclasses
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from torch import nn

from mlpzoo.compare import kept_bytes
from mlpzoo.models import Backbone
from mlpzoo.registry import create_model
from mlpzoo.train._run import publish, staging
from mlpzoo.train.checkpoints import CheckpointFolder
from mlpzoo.train.classification import BAD_IMAGES, Classification, count_flops, evaluate
from mlpzoo.train.config import Data, Recipe, Run
from mlpzoo.train.data import Images, numbered_as, open_images, open_splits
from mlpzoo.train.journal import METRICS, read_metrics
from mlpzoo.train.loaders import validation_loader
from mlpzoo.train.loop import CHECKPOINTS, Trainer
from mlpzoo.train.optimizers import build_optimizer
from mlpzoo.train.recipe_files import differences, dump_recipe, recipe_from
from mlpzoo.transforms import data_config_of
from mlpzoo.weights import CONFIG, read_config
from mlpzoo.weights._writing import write_text

FSDP_VARIABLE = "ACCELERATE_USE_FSDP"
RECIPE = "recipe.yaml"
OWN_FILES = (CONFIG, "model.safetensors", METRICS, BAD_IMAGES, RECIPE, CHECKPOINTS, "best", "curves.png")
"""What a run writes into its folder; nothing else there is touched."""


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """What a training run reached.

    Attributes:
        folder: where everything was written.
        figures: what the last validation found, by name.
        seconds: this run took, from its first to its last update; without those of an earlier one it went on from.
    """

    folder: Path
    figures: dict[str, float]
    seconds: float

    def rows(self) -> list[tuple[str, str]]:
        """For people: what was reached, by name."""
        titles = {
            "validation_top1": "Validation top-1",
            "validation_top5": "Validation top-5",
            "validation_loss": "Validation loss",
        }
        shown = {name: f"{value:.4f}" if "loss" in name else f"{value:.2%}" for name, value in self.figures.items()}
        return [(titles.get(name, name), value) for name, value in shown.items()]


def train(
    recipe: Recipe,
    out: str | Path,
    *,
    device: str | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> TrainingResult:
    """Train a classifier as a recipe says; called again after it was stopped or killed, go on where it was.

    The folder gets `recipe.yaml`, all settings; `metrics.jsonl`; `checkpoints/`; `best/`, the weights of the best
    validation; and at the end `model.safetensors` and `config.json`, from which `create_model("local-dir:FOLDER")`
    builds the network, and `curves.png`. Launched by `accelerate launch` or `torchrun`, it runs in as many processes.

    Args:
        recipe: all settings; from `mlpzoo.train.read_recipe`.
        out: the folder of the run, made if missing.
        device: `"cpu"`; or a GPU where there is one, and else the CPU, if None.
        overwrite: whether a finished or a different run in the folder is given up.
        progress: whether to show progress on stderr.

    Returns:
        What was reached.

    Raises:
        ValueError: when recipe, data and network do not go together, or the folder holds another run.
        mlpzoo.CheckpointError: when the weights to start from cannot be had.
        mlpzoo.train.Diverged: when the loss is no number any more.
        mlpzoo.train.Stopped: on SIGTERM or SIGINT, after saving.
        OSError: when the folder cannot be written.
    """
    folder = Path(out)
    with processes(recipe.run, device, project_dir=folder) as accelerator:
        if accelerator.is_main_process:
            prepare_folder(folder, recipe, overwrite=overwrite)
        accelerator.wait_for_everyone()
        torch.manual_seed(recipe.run.seed)
        task = Classification(
            recipe,
            device=accelerator.device,
            rank=accelerator.process_index,
            processes=accelerator.num_processes,
            folder=folder if accelerator.is_main_process else None,
        )
        set_wrapping(accelerator, task.network)
        if recipe.run.trackers:
            accelerator.init_trackers("mlpzoo", config=_flat(recipe))
        trainer = Trainer(
            task,
            optimizer=recipe.optimizer,
            schedule=recipe.schedule,
            run=recipe.run,
            folder=folder,
            accelerator=accelerator,
            progress=progress,
        )
        if accelerator.is_main_process:
            write_text(dump_recipe(recipe), folder / RECIPE)
        start = time.perf_counter()
        figures = trainer.fit()
        seconds = time.perf_counter() - start
        weights = trainer.weights()
        if accelerator.is_main_process:
            with staging(folder) as partial:
                task.save(weights, partial, {"step": trainer.step, "seed": recipe.run.seed, **figures})
                draw(folder, recipe)
                if recipe.data.dataset == "digits":
                    from mlpzoo.train.digits import illustrate

                    illustrate(partial, task.loaders)
                publish(partial, folder)
        accelerator.wait_for_everyone()
    return TrainingResult(folder, figures, seconds)


@contextmanager
def processes(run: Run, device: str | None = None, **options: Any) -> Iterator[Accelerator]:
    """accelerate's view of the machine and the launcher, given back at the end.

    Raises:
        ValueError: for a setting that is impossible here.
    """
    if device not in (None, "cpu", "cuda"):
        raise ValueError(
            f"training runs on 'cpu' or 'cuda', not '{device}': a launcher or CUDA_VISIBLE_DEVICES chooses"
        )
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("cannot train on 'cuda': PyTorch finds no GPU here")
    if run.trackers:
        options["log_with"] = list(run.trackers)
    # accelerate keeps one state a process and refuses to change it: a run before this one may have had another.
    AcceleratorState._reset_state()
    plugin = None
    if run.strategy == "fsdp2":
        plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2, auto_wrap_policy="transformer_based_wrap", cpu_ram_efficient_loading=False
        )
    sharding = os.environ.get(FSDP_VARIABLE)
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    try:
        accelerator = Accelerator(
            mixed_precision={"fp32": "no"}.get(run.precision, run.precision),
            cpu=device == "cpu",
            gradient_accumulation_steps=run.accumulate,
            fsdp_plugin=plugin,
            **options,
        )
    except (ValueError, ImportError, RuntimeError) as error:
        raise ValueError(f"cannot train like this here: {error}") from None
    if plugin is not None and accelerator.distributed_type == DistributedType.MULTI_CPU:
        # accelerate shards over GPUs alone; PyTorch does it on CPUs as well.
        # Both states are shared by all their instances, and the second is read anew from the first.
        PartialState().distributed_type = DistributedType.FSDP
        accelerator.state.distributed_type = DistributedType.FSDP
        accelerator.state.fsdp_plugin = plugin
    try:
        yield accelerator
    finally:
        accelerator.free_memory()
        accelerator.end_training()
        # accelerate sets it when it is handed a plugin, for the next one as well.
        if sharding is None:
            os.environ.pop(FSDP_VARIABLE, None)


def set_wrapping(accelerator: Accelerator, network: Backbone) -> None:
    """Shard block by block, where there are shards and the launcher chose nothing else."""
    plugin = accelerator.state.fsdp_plugin if accelerator.is_fsdp2 else None
    if plugin is not None and not plugin.transformer_cls_names_to_wrap:
        parts = network.get_submodule(network.feature_stack).children()
        blocks = [block for part in parts for block in (part.children() if isinstance(part, nn.Sequential) else [part])]
        plugin.transformer_cls_names_to_wrap = sorted({type(block).__name__ for block in blocks})


def prepare_folder(folder: Path, recipe: Recipe, *, overwrite: bool) -> None:
    """Make the folder of a run, or find that the run there is the same.

    Raises:
        ValueError: when there is another run, or a finished one.
        OSError: when it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if overwrite:
            for name in OWN_FILES:
                path = folder / name
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
        earlier = folder / RECIPE
        if not earlier.exists() and (folder / CONFIG).exists():
            raise ValueError(f"{folder} holds a network already: name another folder, or say --overwrite")
        if earlier.exists():
            _compare(folder, recipe)
        (folder / ".writable").touch()
        (folder / ".writable").unlink()
    except OSError as error:
        raise OSError(f"cannot write to {folder}: {error.strerror}") from None


def _compare(folder: Path, recipe: Recipe) -> None:
    try:
        old = recipe_from(yaml.safe_load((folder / RECIPE).read_text()), origin=str(folder / RECIPE))
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(
            f"{folder} holds a run that cannot be read ({error}): name another, or say --overwrite"
        ) from None
    changed = differences(old, recipe)
    if changed:
        raise ValueError(
            f"{folder} holds a run with another recipe: {', '.join(changed[:5])} differ. Name another folder, or "
            "give up that run by --overwrite"
        )
    if (folder / CONFIG).exists():
        raise ValueError(f"the run in {folder} is finished: name another folder, or say --overwrite to train again")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run would be.

    Attributes:
        parameters: of the network.
        trained: how many of them are trained.
        images: to train on, in an epoch.
        validation_images: to validate on; None where it is not known.
        classes: of the data, or of the network where the data do not say.
        updates_per_epoch: updates that make an epoch.
        updates: in all.
        gmacs: multiply-accumulates of one image's forward pass, in 10⁹.
        memory_mb: expected in one process, in 10⁶ bytes: weights, gradients, optimizer, moving average, and what a step
            of one batch keeps for the backward pass, in full precision.
    """

    parameters: int
    trained: int
    images: int
    validation_images: int | None
    classes: int
    updates_per_epoch: int
    updates: int
    gmacs: float
    memory_mb: float


def plan(recipe: Recipe) -> Plan:
    """Build all of a run but train nothing, and say what it would be.

    Raises:
        ValueError: as `train` would.
    """
    task = Classification(recipe, device=torch.device("cpu"))
    size = task.loaders.config["input_size"]
    parameters = [parameter.numel() for parameter in task.model.parameters()]
    trained = [parameter for parameter in task.model.parameters() if parameter.requires_grad]
    count = sum(parameter.numel() for parameter in trained)
    # One image through the network as it is trained; the rest is proportional.
    kept = kept_bytes(task.network.train(), torch.randn(2, *size)) / 2 * task.loaders.batch_size
    copies = 1 + (1 if recipe.run.ema_decay else 0)
    bytes_ = 4 * (copies * sum(parameters) + count * (1 + _states_of(recipe))) + kept
    epochs, per_epoch = recipe.schedule.epochs, task.updates_per_epoch
    held = task.loaders.validation_images
    return Plan(
        parameters=sum(parameters),
        trained=count,
        images=per_epoch * recipe.data.batch_size,
        validation_images=None if held is None else len(held),
        classes=task.network.num_classes,
        updates_per_epoch=per_epoch,
        updates=recipe.schedule.updates or ((epochs or 0) + recipe.schedule.cooldown_epochs) * per_epoch,
        gmacs=count_flops(task.network) / 2e9,
        memory_mb=bytes_ / 1e6,
    )


def _states_of(recipe: Recipe) -> float:
    """Numbers that the optimizer keeps for each weight, seen on a small one."""
    small = nn.Linear(64, 64, bias=False)
    optimizer = build_optimizer(small, recipe.optimizer.model_copy(update={"layer_decay": None}))
    small.weight.grad = torch.zeros_like(small.weight)
    optimizer.step()
    tensors = [
        value for state in optimizer.state.values() for value in state.values() if isinstance(value, torch.Tensor)
    ]
    return sum(tensor.numel() for tensor in tensors) / small.weight.numel()


def draw(folder: Path, recipe: Recipe) -> None:
    """Draw the run's curves, where matplotlib is installed."""
    try:
        from mlpzoo.train.plots import draw_curves
    except ImportError:
        return
    records = read_metrics(folder)
    if records:
        draw_curves(folder / "curves.png", records, title=f"{recipe.model.name} on {recipe.data.dataset}")


def validate(
    folder: str | Path,
    *,
    data: str | None = None,
    split: str | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    workers: int = 4,
) -> dict[str, float]:
    """Measure a trained network on validation images.

    Args:
        folder: of a run.
        data: another folder of images, with the same classes; the run's own data if None.
        split: which split of it; the recipe's own if None.
        device: as for `train`.
        batch_size: images in a batch; the run's own if None.
        workers: processes that read images.

    Returns:
        `validation_top1`, `validation_top5` where there are more than five classes, and `validation_loss`.

    Raises:
        ValueError: when there is no such run or nothing to validate on.
    """
    folder = Path(folder)
    if not (folder / RECIPE).exists():
        raise ValueError(f"{folder} holds no run: {RECIPE} is missing")
    content = yaml.safe_load((folder / RECIPE).read_text())
    content["data"] |= {"root": data} if data else {}
    recipe = recipe_from(content, origin=str(folder / RECIPE))
    run = recipe.run.model_copy(update={"strategy": "ddp", "trackers": ()})
    with processes(run, device) as accelerator:
        network = create_model(f"local-dir:{folder}").to(accelerator.device).eval()
        images = validation_images(recipe.data, network, read_config(folder).get("label_names"), split)
        loader = validation_loader(
            images,
            network,
            batch_size=batch_size or recipe.data.validation_batch_size or recipe.data.batch_size,
            workers=workers,
            rank=accelerator.process_index,
            processes=accelerator.num_processes,
        )
        model = accelerator.prepare_model(network, evaluation_mode=True)
        batches = ((x.to(accelerator.device), labels.to(accelerator.device)) for x, labels, _ in loader)
        with torch.inference_mode():
            return evaluate(model, batches, accelerator.device)


def validation_images(data: Data, network: nn.Module, classes: list[str] | None, split: str | None) -> Images:
    """What a recipe validates on, or another split of its data.

    Raises:
        ValueError: when there is nothing to validate on.
    """
    mode: Literal["L", "RGB"] = "L" if data_config_of(network)["input_size"][0] == 1 else "RGB"
    if split is None and (data.held_out or data.dataset == "digits"):
        held = open_splits(data, mode)[1]
        assert held is not None
        return held
    split = split or data.validation_split
    if split is None:
        raise ValueError("the recipe validates on nothing: say which split")
    images = open_images(data, split, mode)
    return numbered_as(images, classes, data, split, mode) if data.dataset == "folder" and classes else images


def newest_checkpoint(run: str | Path) -> Path | None:
    """The newest checkpoint of a run that is whole."""
    folder = CheckpointFolder(Path(run) / CHECKPOINTS)
    step = folder.newest(lambda _: None)
    return None if step is None else folder.path(step)


def _flat(recipe: Recipe) -> dict[str, int | float | str | bool]:
    values = recipe.model_dump()
    flat = {f"{section}.{key}": value for section, content in values.items() for key, value in content.items()}
    return {key: value if isinstance(value, int | float | str | bool) else str(value) for key, value in flat.items()}

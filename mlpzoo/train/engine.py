"""From a task and its recipe to a trained network: the run's folder, the processes, and what is written at the end."""

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import DistributedType
from torch import nn

from mlpzoo.ops import _torch
from mlpzoo.train._run import publish, staging
from mlpzoo.train.checkpoints import WEIGHTS, CheckpointFolder
from mlpzoo.train.config import Recipe, Run
from mlpzoo.train.data import BAD_IMAGES
from mlpzoo.train.journal import METRICS
from mlpzoo.train.loaders import Place
from mlpzoo.train.loop import BEST, CHECKPOINTS, Trainer
from mlpzoo.train.recipe_files import differences, dump_recipe, flat, recipe_from
from mlpzoo.train.task import Task, building
from mlpzoo.weights import CONFIG
from mlpzoo.weights._writing import write_text

FSDP_VARIABLE = "ACCELERATE_USE_FSDP"
RECIPE = "recipe.yaml"
WRITTEN = "# All settings of this run, as mlpzoo wrote them."
"""The first line of that file."""
OWN_FILES = (RECIPE, CONFIG, WEIGHTS, METRICS, BAD_IMAGES, "curves.png", f"{BEST}/{CONFIG}", f"{BEST}/{WEIGHTS}")
"""What every run writes into its folder besides its checkpoints, and `overwrite` removes; nothing else is touched."""


def run(
    task_type: type[Task],
    recipe: Recipe,
    out: str | Path,
    *,
    device: str | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> tuple[dict[str, float], float]:
    """Train a task; called again after it was stopped or killed, go on where it was.

    Args:
        task_type: what is trained.
        recipe: all settings, of the task's `recipe_type`.
        out: the folder of the run, made if missing.
        device: `"cpu"`; or a GPU where there is one, and else the CPU, if None.
        overwrite: whether a finished or a different run in the folder is given up.
        progress: whether to show progress on stderr.

    Returns:
        What the last validation found, and the seconds from the first to the last update of this call.

    Raises:
        ValueError: when recipe, data and network do not go together, or the folder holds another run.
        Diverged: when the loss is not finite any more.
        Stopped: on SIGTERM or SIGINT, after saving.
        OSError: when the folder cannot be written.
    """
    folder = Path(out)
    with processes(recipe.run, device, project_dir=folder) as accelerator:
        # All that can be wrong is found before anything in the folder changes.
        if accelerator.is_main_process:
            check_folder(folder, recipe, task_type, overwrite=overwrite)
        accelerator.wait_for_everyone()
        torch.manual_seed(recipe.run.seed)
        with building():
            task = task_type(recipe, place_of(accelerator, folder))
            if accelerator.device.type == "cuda":
                # Before the network is sharded, for it takes a forward pass.
                task.flops_per_image = 3 * count_flops(*task.probe())
            set_wrapping(accelerator, task)
            trainer = Trainer(task, folder, accelerator, progress=progress)
        if accelerator.is_main_process:
            take_folder(folder, recipe, overwrite=overwrite)
        accelerator.wait_for_everyone()
        if recipe.run.trackers:
            accelerator.init_trackers("mlpzoo", config=_loggable(recipe))
        start = time.perf_counter()
        figures = trainer.fit()
        seconds = time.perf_counter() - start
        with staging(folder) as partial:
            trainer.save(partial)
            if accelerator.is_main_process:
                task.illustrate(partial, figures)
                publish(partial, folder)
        accelerator.wait_for_everyone()
    return figures, seconds


def place_of(accelerator: Accelerator, folder: Path) -> Place:
    """Where a task runs; the main process alone knows the folder, so that it alone writes."""
    return Place(
        accelerator.device,
        rank=accelerator.process_index,
        processes=accelerator.num_processes,
        folder=folder if accelerator.is_main_process else None,
    )


@contextmanager
def processes(run: Run, device: str | None = None, **options: Any) -> Iterator[Accelerator]:
    """accelerate's view of the machine and the launcher; what the caller had of it is put back at the end.

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
    with _fresh_state():
        plugin = None
        if run.strategy == "fsdp2":
            plugin = FullyShardedDataParallelPlugin(
                fsdp_version=2, auto_wrap_policy="transformer_based_wrap", cpu_ram_efficient_loading=False
            )
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
            for tracker in accelerator.trackers:
                tracker.finish()


@contextmanager
def _fresh_state() -> Iterator[None]:
    """Within, accelerate's state, one for all of a process, is new; afterwards the caller's is as it was.

    accelerate refuses to change its state, and a caller or an earlier run may have another one. A process group made
    within ends here; the caller's is used, and stays.
    """
    states = (PartialState, AcceleratorState, GradientState)
    kept = [dict(state._shared_state) for state in states]
    group = torch.distributed.is_available() and torch.distributed.is_initialized()
    # accelerate sets it when it is given a plugin, and would take it for the next one's as well.
    sharding = os.environ.get(FSDP_VARIABLE)
    logger = logging.getLogger("accelerate")
    level = logger.level
    logger.setLevel(logging.ERROR)
    for state in states:
        state._shared_state.clear()
    try:
        yield
    finally:
        if not group and torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        for state, values in zip(states, kept, strict=True):
            state._shared_state.clear()
            state._shared_state.update(values)
        logger.setLevel(level)
        if sharding is None:
            os.environ.pop(FSDP_VARIABLE, None)


def set_wrapping(accelerator: Accelerator, task: Task) -> None:
    """Shard block by block, where there are shards and the launcher chose nothing else.

    Raises:
        ValueError: when the task's network cannot be sharded.
    """
    plugin = accelerator.state.fsdp_plugin if accelerator.is_fsdp2 else None
    if plugin is None or plugin.transformer_cls_names_to_wrap:
        return
    plugin.transformer_cls_names_to_wrap = task.shard_types()
    if not plugin.transformer_cls_names_to_wrap:
        raise ValueError(f"run.strategy=fsdp2 does not shard the networks of {task.name}: use ddp")


def check_folder(folder: Path, recipe: Recipe, task_type: type[Task], *, overwrite: bool) -> None:
    """Find that a run may be in a folder: there is none, or the same one unfinished, or it may be given up.

    Raises:
        ValueError: when there is another run, or a finished one, or files that a run would write and none wrote.
        OSError: when it cannot be a folder.
    """
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not above.is_dir():
        raise OSError(f"cannot write to {folder}: {above} is a file")
    if (folder / RECIPE).exists():
        if not overwrite:
            _compare(folder, recipe, task_type)
    elif (folder / CONFIG).exists():
        raise ValueError(f"{folder} holds a network already, which no run left there: name another folder")
    else:
        there = [name for name in OWN_FILES if (folder / name).exists()]
        there += [f"{CHECKPOINTS}/{path.name}" for path in (folder / CHECKPOINTS).glob("step-*")]
        if there:
            raise ValueError(
                f"{folder} holds {', '.join(there[:5])}, which a run would write, but no run: name another folder"
            )


def take_folder(folder: Path, recipe: Recipe, *, overwrite: bool) -> None:
    """Make the folder of a run, and give up the run that is there if told so: what it wrote, and nothing else.

    Raises:
        OSError: when it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if overwrite:
            CheckpointFolder(folder / CHECKPOINTS).remove_all()
            for name in OWN_FILES:
                if name != RECIPE:
                    (folder / name).unlink(missing_ok=True)
            for inner in (CHECKPOINTS, BEST):
                with contextlib.suppress(OSError):
                    (folder / inner).rmdir()
        # It says that there is a run, so it goes last, and is never missing.
        write_text(f"{WRITTEN}\n{dump_recipe(recipe)}", folder / RECIPE)
    except OSError as error:
        raise OSError(f"cannot write to {folder}: {error.strerror}") from None


def _compare(folder: Path, recipe: Recipe, task_type: type[Task]) -> None:
    old = read_run(folder, {task_type.name: task_type.recipe_type}, "name another, or say --overwrite")
    changed = differences(old, recipe)
    if changed:
        raise ValueError(
            f"{folder} holds a run with another recipe: {', '.join(changed[:5])} differ. Name another folder, or "
            "give up that run by --overwrite"
        )
    if (folder / CONFIG).exists():
        raise ValueError(f"the run in {folder} is finished: name another folder, or say --overwrite to train again")


def read_run(folder: Path, kinds: dict[str, type[Recipe]], advice: str = "its recipe.yaml is damaged") -> Recipe:
    """The recipe of the run in a folder, of one of these kinds.

    Raises:
        ValueError: when there is none, or it cannot be read.
    """
    path = folder / RECIPE
    if not path.exists():
        raise ValueError(f"{folder} holds no run: {RECIPE} is missing")
    try:
        return recipe_from(
            yaml.safe_load(path.read_text(encoding="utf-8")), kinds=kinds, origin=str(path), checked=False
        )
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{folder} holds a run that cannot be read ({error}): {advice}") from None


def count_flops(module: nn.Module, example: torch.Tensor) -> float:
    """FLOPs of a forward pass, counted without computing it."""
    from torch.utils.flop_counter import FlopCounterMode

    with _torch.fake_tensors(), FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.empty_like(example))
    return float(counter.get_total_flops())


def newest_checkpoint(run: str | Path) -> Path | None:
    """The newest checkpoint of a run that is whole."""
    folder = CheckpointFolder(Path(run) / CHECKPOINTS)
    step = folder.newest(lambda _: None)
    return None if step is None else folder.path(step)


def _loggable(recipe: Recipe) -> dict[str, int | float | str | bool]:
    """Settings as trackers take them."""
    settings = flat(recipe).items()
    return {key: value if isinstance(value, int | float | str | bool) else str(value) for key, value in settings}

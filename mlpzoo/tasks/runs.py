"""Training by recipes: from a recipe's name or file to a finished run, whatever its task."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mlpzoo.compare import kept_bytes
from mlpzoo.tasks.classification import Classification
from mlpzoo.tasks.detection import Detection
from mlpzoo.tasks.restoration import Restoration
from mlpzoo.train import engine, recipe_files
from mlpzoo.train.config import Recipe
from mlpzoo.train.loaders import Place, step_size
from mlpzoo.train.optimizers import build_optimizer, build_schedule
from mlpzoo.train.recipe_checks import tried_optimizer
from mlpzoo.train.recipe_files import shipped_recipes as shipped_recipes
from mlpzoo.train.task import Task, building
from mlpzoo.weights import CONFIG

TASKS: dict[str, type[Task]] = {task.name: task for task in (Classification, Detection, Restoration)}
"""What can be trained, by the name in a recipe's `task`; a recipe without one is of the first."""

KINDS: dict[str, type[Recipe]] = {name: task.recipe_type for name, task in TASKS.items()}

recipe_files.register_recipes(Path(__file__).parent / "recipes")


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """What a run reached.

    Attributes:
        task: what was trained.
        folder: where everything was written.
        figures: what the last validation found, by name.
        seconds: this call took, from its first to its last update; without those of an earlier one it went on from.
    """

    task: str
    folder: Path
    figures: dict[str, float]
    seconds: float

    def rows(self) -> list[tuple[str, str]]:
        """Title and value of each figure, for people."""
        return [TASKS[self.task].shown(name, value) for name, value in self.figures.items()]


def read_recipe(source: str | Path, changes: Sequence[str] = (), *, epochs: int | None = None) -> Recipe:
    """Read a recipe and change some of it.

    Args:
        source: the name of a shipped recipe, or a YAML file.
        changes: `section.key=value` each, the value as in YAML; the later one wins.
        epochs: how many there are to be, with a warm-up shortened to leave at least one; the recipe's own if None.

    Returns:
        The recipe, all keys filled in.

    Raises:
        ValueError: for an unknown recipe, a file that is no YAML, an unknown or ill-typed key, or a value out of range;
            naming the key, and the nearest right one.
    """
    if epochs is None:
        return recipe_files.read_recipe(source, changes, kinds=KINDS)
    return recipe_files.with_epochs(source, changes, epochs, kinds=KINDS)


def recipe_from(data: dict[str, Any], changes: Sequence[str] = ()) -> Recipe:
    """Check a recipe that is nested dictionaries, after some changes; see `read_recipe`."""
    return recipe_files.recipe_from(data, changes, kinds=KINDS)


def train(
    recipe: Recipe,
    out: str | Path,
    *,
    device: str | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> TrainingResult:
    """Train what a recipe says; called again after it was stopped or killed, go on where it was.

    The folder gets `recipe.yaml`, all settings; `metrics.jsonl`; `checkpoints/`; `best/`, the weights of the best
    validation; and at the end `model.safetensors` and `config.json`, from which `create_model("local-dir:FOLDER")`,
    `load_detector` or `load_restorer` builds the network, and `curves.png`. Launched by `accelerate launch` or
    `torchrun`, it runs in as many processes. On a CPU the same seed gives the same weights for the same number of
    threads.

    Args:
        recipe: all settings; from `read_recipe`.
        out: the folder of the run, made if missing.
        device: `"cpu"` or `"cuda"`; a GPU where there is one, and else the CPU, if None.
        overwrite: whether a finished or a different run in the folder is given up.
        progress: whether to show progress on stderr.

    Returns:
        What was reached.

    Raises:
        ValueError: when recipe, data and network do not go together, or the folder holds another run.
        mlpzoo.CheckpointError: when the weights to start from cannot be had.
        ImportError: when a package that the data need is missing, saying how to install it.
        mlpzoo.train.Diverged: when the loss is not finite any more.
        mlpzoo.train.Stopped: on SIGTERM or SIGINT, after saving.
        OSError: when the folder cannot be written.
    """
    figures, seconds = engine.run(
        TASKS[recipe.task], recipe, out, device=device, overwrite=overwrite, progress=progress
    )
    return TrainingResult(recipe.task, Path(out), figures, seconds)


def validate(
    folder: str | Path,
    *,
    data: str | None = None,
    split: str | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    workers: int = 4,
) -> TrainingResult:
    """Measure the network of a finished run on validation data.

    Args:
        folder: of the run.
        data: another folder of data, with the same classes; the run's own data if None.
        split: which split of it; the recipe's own if None.
        device: as for `train`.
        batch_size: images in a batch; the run's own if None.
        workers: processes that read images.

    Returns:
        What was found.

    Raises:
        ValueError: when there is no such run, it is not finished, or there is nothing to validate on.
    """
    folder = Path(folder)
    recipe = engine.read_run(folder, KINDS)
    if not (folder / CONFIG).exists():
        raise ValueError(f"the run in {folder} is not finished: {CONFIG} is missing")
    section: Any = recipe.data
    changes: dict[str, Any] = {
        "workers": workers,
        "validation_batch_size": batch_size or section.validation_batch_size or section.batch_size,
        **({"root": data} if data else {}),
        **({"validation_split": split, "held_out": 0.0} if split else {}),
    }
    known = {key: value for key, value in changes.items() if key in type(section).model_fields}
    recipe = recipe.model_copy(update={"data": section.model_copy(update=known)})
    run = recipe.run.model_copy(update={"strategy": "ddp", "trackers": ()})
    with engine.processes(run, device) as accelerator:
        place = dataclasses.replace(engine.place_of(accelerator, folder), folder=folder)
        task = TASKS[recipe.task](recipe, place, training=False)
        model = accelerator.prepare_model(task.model.eval(), evaluation_mode=True)
        with torch.inference_mode():
            figures = task.validate(model)
    if not figures:
        raise ValueError("the recipe validates on nothing: say which split")
    return TrainingResult(recipe.task, folder, figures, 0.0)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run would be.

    Attributes:
        parameters: of the network.
        trained: how many of them are trained.
        images: to train on, in an epoch.
        validation_images: to validate on; None where it is not known.
        classes: of the network; None where there are none.
        updates_per_epoch: updates that make an epoch.
        updates: in all.
        gmacs: multiply-accumulates of one image's forward pass, in 10⁹; of a detector, its backbone's.
        memory_mb: expected in one process, in 10⁶ bytes: weights, gradients, optimizer, moving average, and the saved
            activations of a step, in full precision.
    """

    parameters: int
    trained: int
    images: int
    validation_images: int | None
    classes: int | None
    updates_per_epoch: int
    updates: int
    gmacs: float
    memory_mb: float


def plan(recipe: Recipe) -> Plan:
    """Build all of a run but train nothing, and say what it would be.

    Raises:
        ValueError: as `train` would.
    """
    place = Place(torch.device("cpu"))
    with building():
        task = TASKS[recipe.task](recipe, place)
        build_schedule(build_optimizer(task.model, recipe.optimizer), recipe.schedule, task.updates_per_epoch)
    module, example = task.probe()
    parameters = [parameter.numel() for parameter in task.model.parameters()]
    count = sum(parameter.numel() for parameter in task.model.parameters() if parameter.requires_grad)
    # Two images through the network as it is trained; the rest is proportional.
    kept = kept_bytes(module.train(), torch.cat([example, example])) / 2 * step_size(recipe, place)
    copies = 1 + (1 if recipe.run.ema_decay else 0)
    memory = 4 * (copies * sum(parameters) + count * (1 + _states_of(recipe))) + kept
    epochs, per_epoch = recipe.schedule.epochs, task.updates_per_epoch
    held = task.validation_items
    return Plan(
        parameters=sum(parameters),
        trained=count,
        images=per_epoch * recipe.data.batch_size,
        validation_images=None if held is None else len(held),
        classes=task.num_classes,
        updates_per_epoch=per_epoch,
        updates=recipe.schedule.updates or ((epochs or 0) + recipe.schedule.cooldown_epochs) * per_epoch,
        gmacs=engine.count_flops(module, example) / 2e9,
        memory_mb=memory / 1e6,
    )


def _states_of(recipe: Recipe) -> float:
    """Numbers that the optimizer keeps for each weight, measured on a small one."""
    optimizer = tried_optimizer(recipe.optimizer)
    tensors = [
        value for state in optimizer.state.values() for value in state.values() if isinstance(value, torch.Tensor)
    ]
    return sum(tensor.numel() for tensor in tensors) / sum(
        weight.numel() for group in optimizer.param_groups for weight in group["params"]
    )

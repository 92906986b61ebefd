"""What a recipe may say: every key, its type, its default and its meaning.

`Recipe` holds the sections that every task shares; a task adds its own keys in a subclass. pydantic checks the types
strictly: an unknown key or a value of another type is an error, never a conversion.
"""

import difflib
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]


class RecipeError(ValueError):
    """A value in a recipe that nothing can be trained with, whatever the data."""


class DataError(ValueError):
    """Data that are not there, or not as they should be."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The name nearest to an unknown one, as a part of an error message; empty where none is near."""
    names = {other.lower(): other for other in known}
    near = difflib.get_close_matches(name.lower(), names, 1, 0.6)
    return f" (did you mean '{names[near[0]]}'?)" if near else ""


class Section(BaseModel):
    """Base of all sections."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class About(Section):
    """Where a recipe is from and what it reaches."""

    source: str = ""
    """The paper or file whose settings these are."""
    command: str = ""
    """How it is run."""
    result: str = ""
    """What it reached, who measured that and on which hardware."""


class Model(Section):
    """The network to train."""

    name: str
    """A name of `mlpzoo list`, or one that the task knows."""
    checkpoint: str | None = None
    """A file of weights to start from."""
    options: dict[str, Any] = {}
    """Options of the network: img_size, drop_path_rate, …"""


class Data(Section):
    """The images."""

    dataset: str = "folder"
    """What is read: a kind of data set that the task knows."""
    root: str | None = None
    """Folder of the data."""
    train_split: str = "train"
    """Of a folder: the name of the subfolder to train on. `train` also finds `training`; `.` is the folder itself."""
    validation_split: str | None = "validation"
    """As train_split; `validation` also finds val, valid, eval and evaluation; null for no validation."""
    batch_size: int = Field(128, ge=1)
    """Images in an update, over all processes and accumulated steps: results do not depend on how many there are."""
    validation_batch_size: int | None = Field(None, ge=1)
    """Images in a validation step of one process; those of a training step if null."""
    workers: int = Field(4, ge=0)
    """Processes that read images, for each process that trains."""
    max_pixels: int | None = Field(None, ge=1)
    """Largest number of pixels an image may have; 89,478,485 (Pillow's limit) if null."""
    on_bad_image: Literal["error", "skip"] = "error"
    """What an unreadable image does: stop, or be replaced by the next one and be listed in bad_images.jsonl."""


class Optimizer(Section):
    """How weights are changed."""

    name: str = "adamw"
    """One of timm's optimizers: adamw, lamb, sgd, …"""
    lr: float = Field(1e-3, gt=0)
    """Highest learning rate, for the whole batch_size."""
    weight_decay: float = Field(0.05, ge=0)
    """Weight decay, not for biases, norms and what the network excludes."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum, of optimizers that have one."""
    layer_decay: float | None = Field(None, gt=0, le=1)
    """Learning rate of each layer over that of the next; 1 for all if null."""
    clip_norm: float | None = Field(None, gt=0)
    """Largest norm of all gradients together; no limit if null."""
    options: dict[str, Any] = {}
    """Other options of the optimizer: betas, eps, …"""


class Schedule(Section):
    """How the learning rate changes, and for how long training goes on."""

    name: str = "cosine"
    """One of timm's schedules: cosine, poly, step, constant, …"""
    epochs: int | None = Field(None, ge=1)
    """Passes over the data, the warm-up included."""
    updates: int | None = Field(None, ge=1)
    """Updates, in place of epochs."""
    warmup_epochs: float = Field(0, ge=0)
    """Epochs in which the learning rate rises linearly, within those of training."""
    warmup_updates: int | None = Field(None, ge=0)
    """As warmup_epochs, counted in updates."""
    warmup_lr: float = Field(1e-6, ge=0)
    """Learning rate of the first update, where there is a warm-up."""
    min_lr: float = Field(0.0, ge=0)
    """Learning rate at the end."""
    cooldown_epochs: int = Field(0, ge=0)
    """Epochs at min_lr after the end."""
    options: dict[str, Any] = {}
    """Other options of the schedule, as `timm.scheduler.create_scheduler_v2` names them: decay_rate, k_decay, …"""

    @model_validator(mode="after")
    def _one_length(self) -> "Schedule":
        if (self.epochs is None) == (self.updates is None):
            raise ValueError("give either epochs or updates")
        if self.updates is not None and self.cooldown_epochs:
            raise ValueError("cooldown_epochs goes with epochs: count them into updates")
        return self


class Run(Section):
    """How training is carried out."""

    seed: int = Field(0, ge=0, lt=2**31)
    """Seed of initialization, order and augmentation."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of matrix products: full, or mixed precision."""
    strategy: Literal["ddp", "fsdp2"] = "ddp"
    """With several processes: each has the whole network, or a shard of it. A launcher's own setting prevails."""
    accumulate: int = Field(1, ge=1)
    """Steps whose gradients make one update."""
    grad_checkpointing: bool = False
    """Whether activations are recomputed in the backward pass instead of saved."""
    compile: bool = False
    """Whether the network is compiled."""
    ema_decay: float | None = Field(None, gt=0, lt=1)
    """Decay of the moving average of the weights, which is then what is validated and saved; none if null."""
    ema_warmup: bool = False
    """Whether that decay grows with the number of updates."""
    validate_every: float = Field(1, ge=0)
    """Epochs between validations; a fraction is rounded to whole updates, at least one. 0 for one at the end alone."""
    checkpoint_every: int | None = Field(None, ge=1)
    """Updates between checkpoints; an epoch if null."""
    keep_checkpoints: int = Field(2, ge=1)
    """How many of the newest checkpoints are kept."""
    log_every: int = Field(10, ge=1)
    """Updates between records of metrics.jsonl."""
    trackers: tuple[str, ...] = ()
    """Where metrics go besides: tensorboard, wandb, and others that accelerate knows."""


class Recipe(Section):
    """The sections that every task has."""

    task: str
    """What is trained: classification, detection or restoration."""
    about: About = About()
    model: Model
    data: Data = Data()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule
    run: Run = Run()

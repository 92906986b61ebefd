"""timm's optimizers and schedules, built from the sections of a recipe."""

import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import nn

from mlpzoo.train.config import Optimizer, Schedule


def build_optimizer(model: nn.Module, section: Optimizer) -> torch.optim.Optimizer:
    """timm's optimizer of that name over the trained parameters.

    Raises:
        ValueError: for an unknown name or option, or when nothing is trained.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("nothing is trained: the whole network is frozen")
    try:
        return create_optimizer_v2(
            model,
            opt=section.name,
            lr=section.lr,
            weight_decay=section.weight_decay,
            momentum=section.momentum,
            layer_decay=section.layer_decay,
            **{key: tuple(value) if isinstance(value, list) else value for key, value in section.options.items()},
        )
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise ValueError(f"cannot build the optimizer '{section.name}': {error}") from None


def build_schedule(optimizer: torch.optim.Optimizer, section: Schedule, updates_per_epoch: int) -> Scheduler:
    """timm's schedule of that name, counted in updates.

    Raises:
        ValueError: for an unknown name or option.
    """
    by_updates = section.updates is not None
    unit = 1 if by_updates else updates_per_epoch
    warmup = section.warmup_epochs * (updates_per_epoch if by_updates else 1)
    if section.warmup_updates is not None:
        warmup = section.warmup_updates / unit
    length = section.updates or section.epochs
    if warmup and warmup >= (length or 0):
        raise ValueError(f"the warm-up takes all of the schedule: {warmup:g} of {length}")
    options = {
        "sched": section.name,
        "num_epochs": length,
        "warmup_epochs": warmup,
        "warmup_lr": section.warmup_lr,
        "min_lr": section.min_lr,
        "cooldown_epochs": section.cooldown_epochs,
        "step_on_epochs": False,
        "updates_per_epoch": unit,
        **section.options,
    }
    if section.name == "plateau":
        raise ValueError(
            "schedule.name 'plateau' needs validation figures, which schedules do not get here: choose another"
        )
    try:
        schedule, _ = create_scheduler_v2(optimizer, **options)
    except (TypeError, ValueError, AssertionError) as error:
        raise ValueError(f"cannot build the schedule '{section.name}': {error}") from None
    if schedule is None:
        raise ValueError(f"unknown schedule '{section.name}' (schedule.name): cosine, poly, step, constant, …")
    return schedule

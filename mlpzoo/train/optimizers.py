"""timm's optimizers and schedules, built from the sections of a recipe."""

import torch
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import nn

from mlpzoo.train.config import Optimizer, RecipeError, Schedule, did_you_mean

SCHEDULES = ("cosine", "tanh", "poly", "step", "multistep", "constant", "wsd", "rsqrt")
"""timm's, but for the one that needs validation figures, which schedules do not get here."""


def build_optimizer(model: nn.Module, section: Optimizer) -> torch.optim.Optimizer:
    """timm's optimizer of that name over the trained parameters.

    Raises:
        RecipeError: for an unknown name or option, or when nothing is trained.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise RecipeError("nothing is trained: the whole network is frozen")
    if section.name not in (known := list_optimizers()) and section.name.partition("_")[0] != "lookahead":
        near = did_you_mean(section.name, known)
        raise RecipeError(
            f"unknown optimizer '{section.name}' (optimizer.name){near}: timm.optim.list_optimizers() lists all"
        )
    own = {"lr", "weight_decay", "momentum", "layer_decay"} & set(section.options)
    if own:
        name = min(own)
        raise RecipeError(f"optimizer.options has {name}, which is a key of its own: optimizer.{name}")
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
    except Exception as error:
        # Each optimizer stumbles over values of its own in its own way.
        raise RecipeError(f"cannot build the optimizer '{section.name}' (optimizer.options): {error}") from None


def build_schedule(optimizer: torch.optim.Optimizer, section: Schedule, updates_per_epoch: int) -> Scheduler:
    """timm's schedule of that name, counted in updates.

    Raises:
        RecipeError: for an unknown name or option.
    """
    if section.name not in SCHEDULES:
        near = did_you_mean(section.name, SCHEDULES)
        raise RecipeError(f"unknown schedule '{section.name}' (schedule.name){near}: {', '.join(SCHEDULES)}")
    by_updates = section.updates is not None
    unit = 1 if by_updates else updates_per_epoch
    warmup = section.warmup_epochs * (updates_per_epoch if by_updates else 1)
    if section.warmup_updates is not None:
        warmup = section.warmup_updates / unit
    length = section.updates or section.epochs
    if warmup and warmup >= (length or 0):
        counted = "updates" if by_updates else "epochs"
        raise RecipeError(
            f"the warm-up takes all of the schedule, {warmup:g} of {length} {counted}: lower schedule.warmup_epochs or "
            "warmup_updates"
        )
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
    try:
        schedule, _ = create_scheduler_v2(optimizer, **options)
    except Exception as error:
        raise RecipeError(f"cannot build the schedule '{section.name}' (schedule.options): {error}") from None
    assert schedule is not None
    return schedule

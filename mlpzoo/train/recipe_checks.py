"""What a recipe's values must be besides their types: checked when it is read, before anything is built."""

from typing import Any

import torch
from accelerate import tracking
from torch import nn

from mlpzoo.train.config import Optimizer, Recipe, RecipeError, Schedule, did_you_mean
from mlpzoo.train.optimizers import build_optimizer, build_schedule


def check_recipe(recipe: Recipe) -> None:
    """Refuse a recipe that cannot be trained, whatever its data.

    Raises:
        RecipeError: naming the key.
    """
    optimizer = tried_optimizer(recipe.optimizer)
    check_schedule(optimizer, recipe.schedule, recipe.optimizer.lr)
    check_trackers(recipe.run.trackers)


def tried_optimizer(section: Optimizer) -> torch.optim.Optimizer:
    """The optimizer of a recipe over one small layer, after a step.

    Raises:
        RecipeError: for an unknown name, or options that it does not take.
    """
    # No random numbers are drawn: the caller's go on as if nothing had been checked.
    layer = nn.Linear(64, 64, bias=False, device="meta").to_empty(device="cpu")
    nn.init.ones_(layer.weight)
    layer.weight.grad = torch.zeros_like(layer.weight)
    optimizer = build_optimizer(layer, section.model_copy(update={"layer_decay": None}))
    try:
        optimizer.step()
    except Exception as error:
        raise RecipeError(f"the optimizer '{section.name}' does not run (optimizer.options): {error}") from None
    return optimizer


def check_schedule(optimizer: torch.optim.Optimizer, section: Schedule, highest: float) -> None:
    """Refuse an unknown schedule, options it does not take, rates and lengths out of order.

    Args:
        optimizer: any.
        section: of the recipe.
        highest: learning rate.

    Raises:
        RecipeError: naming the key.
    """
    for unit, length in (("epochs", section.epochs), ("updates", section.updates)):
        warmup = getattr(section, f"warmup_{unit}")
        if length is not None and warmup and warmup >= length:
            raise RecipeError(
                f"schedule.warmup_{unit} is {warmup:g}, which leaves nothing of schedule.{unit}, {length}: warm up for "
                "less, or train for longer"
            )
    if section.min_lr > highest:
        raise RecipeError(f"schedule.min_lr is {section.min_lr:g}, above optimizer.lr, {highest:g}")
    if (section.warmup_epochs or section.warmup_updates) and section.warmup_lr > highest:
        raise RecipeError(f"schedule.warmup_lr is {section.warmup_lr:g}, above optimizer.lr, {highest:g}")
    if (section.updates is None) if section.warmup_updates else (section.epochs is None and section.warmup_epochs):
        # How long an epoch is, the data say.
        return
    schedule = build_schedule(optimizer, section, 1000)
    try:
        for step in range(3):
            schedule.step_update(step)
    except Exception as error:
        raise RecipeError(f"the schedule '{section.name}' does not run (schedule.options): {error}") from None


def check_trackers(names: tuple[str, ...]) -> None:
    """Refuse trackers that accelerate does not know, or whose package is not installed.

    Raises:
        RecipeError: naming the nearest, or the package.
    """
    known: dict[str, Any] = tracking.LOGGER_TYPE_TO_CLASS
    there = {str(name) for name in tracking.get_available_trackers()}
    for name in names:
        if name not in known:
            near = did_you_mean(name, known)
            raise RecipeError(f"run.trackers names '{name}', which accelerate does not know{near}: {', '.join(known)}")
        if name not in there:
            raise RecipeError(f"run.trackers names '{name}', whose package is not installed: pip install {name}")

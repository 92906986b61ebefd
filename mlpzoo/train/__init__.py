"""Recipes: each trains a model on one data set and writes a folder that `create_model` and `predict` take."""

from collections.abc import Callable, Mapping

from mlpzoo.train.digits import TrainingResult, train_digits

RECIPES: Mapping[str, Callable[..., TrainingResult]] = {"digits": train_digits}
"""What `mlpzoo train` knows, by name."""

__all__ = ["RECIPES", "TrainingResult", "train_digits"]

"""Trained networks made ready to run: pure functions from a model to a model."""

from mlpzoo.deploy.folding import fold

__all__ = ["fold"]

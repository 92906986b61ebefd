"""Restoration: networks from an image to a better image, and what it takes to run them on files of any size."""

from mlpzoo.restoration._checkpoint import load_checkpoint, save_restorer
from mlpzoo.restoration._create import create_restorer, list_restorers
from mlpzoo.restoration.maxim import MAXIM, MaximConfig
from mlpzoo.restoration.releases import RELEASES, TASKS, Release, Score

__all__ = [
    "MAXIM",
    "RELEASES",
    "TASKS",
    "MaximConfig",
    "Release",
    "Score",
    "create_restorer",
    "list_restorers",
    "load_checkpoint",
    "save_restorer",
]

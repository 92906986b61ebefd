"""Restoration: networks from an image to a better image, and what it takes to run them on files of any size."""

from mlpzoo.restoration._checkpoint import load_checkpoint, save_restorer
from mlpzoo.restoration._create import create_restorer, list_restorers
from mlpzoo.restoration._restore import restore
from mlpzoo.restoration.files import RestoredFile, load_restorer, restore_files
from mlpzoo.restoration.maxim import MAXIM, MaximConfig
from mlpzoo.restoration.metrics import psnr, ssim
from mlpzoo.restoration.pictures import Picture, read_picture, write_picture
from mlpzoo.restoration.releases import RELEASES, TASKS, Release, Score

__all__ = [
    "MAXIM",
    "RELEASES",
    "TASKS",
    "MaximConfig",
    "Picture",
    "Release",
    "RestoredFile",
    "Score",
    "create_restorer",
    "list_restorers",
    "load_checkpoint",
    "load_restorer",
    "psnr",
    "read_picture",
    "restore",
    "restore_files",
    "save_restorer",
    "ssim",
    "write_picture",
]

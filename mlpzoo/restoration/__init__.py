"""Restoration: images and image files of any size through networks from an image to a better one."""

from mlpzoo.restoration._create import create_restorer, list_restorers, save_restorer
from mlpzoo.restoration._restore import restore
from mlpzoo.restoration.files import RestoredFile, load_restorer, restore_files
from mlpzoo.restoration.metrics import psnr, ssim
from mlpzoo.restoration.pictures import Picture, read_picture, write_picture
from mlpzoo.restoration.releases import find_release, list_tasks

__all__ = [
    "Picture",
    "RestoredFile",
    "create_restorer",
    "find_release",
    "list_restorers",
    "list_tasks",
    "load_restorer",
    "psnr",
    "read_picture",
    "restore",
    "restore_files",
    "save_restorer",
    "ssim",
    "write_picture",
]

"""Photographs that come with scikit-image and scikit-learn, to take noise out of."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mlpzoo.demos.packages import require
from mlpzoo.restoration import Picture, create_restorer, write_picture
from mlpzoo.train.sources import Split

NAMES: dict[Split, Sequence[str]] = {"train": ("astronaut", "coffee", "rocket"), "validation": ("chelsea",)}


def read_photograph(name: str) -> Image.Image:
    """A photograph in RGB that comes with scikit-image, or with scikit-learn where the name has a suffix.

    Raises:
        ImportError: when that package is missing, saying how to install it.
    """
    if name.endswith(".jpg"):
        require("sklearn")
        from sklearn.datasets import load_sample_image

        return Image.fromarray(load_sample_image(name))
    require("skimage")
    import skimage.data

    return Image.fromarray(getattr(skimage.data, name)())


class Photographs:
    """Some of them, held in memory.

    Args:
        names: as `read_photograph` takes them.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        pixels = [np.array(read_photograph(name)) for name in names]
        self.images = [torch.from_numpy(image).permute(2, 0, 1).float() / 255 for image in pixels]

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> Tensor:
        """A photograph, `(3, height, width)` in [0, 1]."""
        return self.images[index]

    def name(self, index: int) -> str:
        """Its name in the package."""
        return self.names[index]


def open_photographs(data: Any, split: Split) -> Photographs:
    """Three photographs to train on, a fourth one to validate on.

    Raises:
        ImportError: when scikit-image or matplotlib is missing, saying how to install them.
    """
    require("skimage", "matplotlib")
    return Photographs(NAMES[split])


def illustrate_denoising(task: Any, folder: Path, figures: Mapping[str, float]) -> None:
    """Draw the held-out photograph noisy, restored and clean, and write the first and the last as image files.

    Args:
        task: the restoration, trained.
        folder: that holds the network; gets `before_after.png`, `samples/noisy.png` and `samples/clean.png`.
        figures: what the last validation found.
    """
    from mlpzoo.demos.pictures import draw_restoration

    if task.held is None:
        return
    network = create_restorer(f"local-dir:{folder}").eval()
    clean = task.held.read(0)
    noisy, restored = task.restored(network, clean, 0)
    (folder / "samples").mkdir()
    write_picture(Picture(noisy), folder / "samples" / "noisy.png")
    write_picture(Picture(clean), folder / "samples" / "clean.png")
    panels = [
        (f"noisy, {figures['noisy_psnr']:.2f} dB", noisy),
        (f"restored, {figures['psnr']:.2f} dB", restored),
        ("the photograph, not trained on", clean),
    ]
    draw_restoration(
        folder / "before_after.png",
        [(name, (image * 255).round().byte().permute(1, 2, 0).numpy()) for name, image in panels],
        title=f"A small {task.recipe.model.name} removes Gaussian noise of deviation {task.recipe.data.noise:g}/255",
        subtitle=f"{sum(parameter.numel() for parameter in network.parameters()):,} parameters, trained on crops of "
        f"{len(task.training_items)} other photographs; below, the middle enlarged",
    )

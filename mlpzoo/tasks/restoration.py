"""Training of restoration networks: image to image, here from noisy to clean.

Recipes name a registered data set, or `folder`: two subfolders of clean images, `data.train_split` and
`data.validation_split`. The network sees random crops of the training images with fresh Gaussian noise, and is
validated on whole images, each with one fixed draw of noise.

Shape suffixes: B batch, C image channels, H × W pixels.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from accelerate.utils import extract_model_from_parallel
from pydantic import Field
from torch import Tensor, nn

from mlpzoo.images import ImageError, logger
from mlpzoo.restoration import create_restorer, psnr, read_picture, restore, save_restorer, ssim
from mlpzoo.restoration._restore import check_tiles
from mlpzoo.train import config
from mlpzoo.train.config import DataError
from mlpzoo.train.data import Readable, Samples
from mlpzoo.train.image_files import ImageFinder
from mlpzoo.train.loaders import Place, TrainingBatches
from mlpzoo.train.sources import Split, open_registered, split_folder
from mlpzoo.train.task import Task

LOCAL = "local-dir:"

Batch = tuple[Tensor, Tensor]
"""Noisy and clean crops, `(B, C, H, W)` in [0, 1]."""


class Model(config.Model):
    """The network to train."""

    name: str
    """A name of `mlpzoo.restoration.list_restorers()`, such as maxim_s1."""
    zero_outputs: bool = False
    """Whether the last stage's output convolutions start at zero, so that the network starts as the identity."""


class Data(config.Data):
    """The clean images, and what is done to them."""

    dataset: str = "folder"
    """`folder`, image files; or a registered data set."""
    batch_size: int = Field(4, ge=1)
    """Crops in an update, over all processes and accumulated steps: results do not depend on how many there are."""
    length: int | None = Field(None, ge=1)
    """Crops of a training epoch, at least one of each image; one of each if null."""
    crop: int = Field(64, ge=1)
    """Side of a crop in pixels."""
    noise: float = Field(25.0, ge=0)
    """Standard deviation of the Gaussian noise, for pixels from 0 to 255."""
    tile: int | None = Field(None, ge=1)
    """Side of the tiles in which validation images are restored; whole images if null."""
    overlap: int | None = Field(None, ge=0)
    """Pixels that neighbouring tiles share; a quarter of the tile if null."""


class Loss(config.Section):
    """What is minimized."""

    charbonnier: float = Field(1e-3, gt=0)
    """Errors below this size count quadratically, larger ones by their absolute value (MAXIM, equation 8)."""


class RestorationRecipe(config.Recipe):
    """A restoration network."""

    task: Literal["restoration"]
    model: Model
    data: Data = Data()
    loss: Loss = Loss()


class PictureFolder:
    """The image files in a folder, at any depth, each once by its real path.

    Args:
        folder: the folder.
        max_pixels: how many pixels an image may have, see `mlpzoo.images.read_image`.
        warn: whether to log what is left out.

    Raises:
        DataError: when there are none.
    """

    def __init__(self, folder: Path, *, max_pixels: int | None = None, warn: bool = True) -> None:
        self.max_pixels = max_pixels
        finder = ImageFinder()
        (self.files,) = finder.find([folder])
        if warn:
            finder.report(folder)
        if not self.files:
            raise DataError(f"there is no image file in {folder} (data.root and the split)")

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> Tensor:
        """An image in RGB."""
        return read_picture(self.files[index], max_pixels=self.max_pixels, warn=logger.debug).pixels

    def name(self, index: int) -> str:
        """The file."""
        return self.files[index]


class Restoration(Task):
    """Noisy images, a network that restores them, and their distance from the clean ones; see `Task`."""

    name = "restoration"
    recipe_type = RestorationRecipe
    best_by = "psnr"
    formats: ClassVar = {
        "loss": ("loss", "{:.4f}"),
        "psnr": ("PSNR", "{:.2f} dB"),
        "noisy_psnr": ("PSNR of the noisy images", "{:.2f} dB"),
        "ssim": ("SSIM", "{:.3f}"),
        "noisy_ssim": ("SSIM of the noisy images", "{:.3f}"),
    }
    curve = ("PSNR in dB", "psnr", "psnr")

    def __init__(self, recipe: RestorationRecipe, place: Place, *, training: bool = True) -> None:
        super().__init__(recipe, place, training=training)
        section, data = recipe.model, recipe.data
        self.held: Readable | None = None
        self.network: Any
        if data.validation_split is not None:
            self.held = self.validation_items = open_restoration(data, "validation", warn=place.rank == 0)
        if training:
            images = open_restoration(data, "train", warn=place.rank == 0)
            try:
                self.network = create_restorer(section.name, checkpoint_path=section.checkpoint, **section.options)
            except TypeError as error:
                raise ValueError(f"model.options: {error}") from None
            multiple = self.network.size_multiple
            if data.crop % multiple:
                raise ValueError(f"data.crop is {data.crop}, but this network takes multiples of {multiple} pixels")
            check_tiles(self.network, data.tile, data.overlap)
            if section.zero_outputs:
                last = len(self.network.stages) - 1
                for parameter in self.network.get_submodule(f"stages.{last}.outputs").parameters():
                    nn.init.zeros_(parameter)
            make = functools.partial(_sample, images, data.crop, data.noise / 255)
            samples = Samples(
                make,
                max(data.length or len(images), len(images)),
                empty=(torch.zeros(3, data.crop, data.crop),) * 2,
                replace=data.on_bad_image == "skip",
            )
            self.training, self.training_items = TrainingBatches(samples, recipe, place), images
            self.updates_per_epoch = self.training.updates_per_epoch
        else:
            self.network = create_restorer(f"{LOCAL}{place.folder}")
        self.model: nn.Module = self.network.to(self.device)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The Charbonnier loss and the PSNR of the crops."""
        noisy, clean = batch
        outputs = model(noisy)
        error = F.mse_loss(outputs[-1][-1].detach().float(), clean)
        return charbonnier(outputs, clean, self.recipe.loss.charbonnier), {"psnr": -10 * error.log10()}

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Mean PSNR and SSIM of the validation images restored, and of the noisy ones; each is seen by one process."""
        if self.held is None:
            return {}
        model = extract_model_from_parallel(model, keep_fp32_wrapper=True)
        found = []
        for i in self.share(len(self.held)):
            try:
                clean = self.held.read(i)
            except ImageError:
                self.bad_images.note(self.held, torch.tensor([i]))
                continue
            noisy, restored = self.restored(model, clean, i)
            found.append([psnr(restored, clean), psnr(noisy, clean), ssim(restored, clean), ssim(noisy, clean)])
        found = self.gathered(found)
        if not found:
            raise ValueError("there is no readable image to validate on")
        means = torch.tensor(found, dtype=torch.float64).mean(0).tolist()
        return dict(zip(("psnr", "noisy_psnr", "ssim", "noisy_ssim"), means, strict=True))

    def restored(self, model: nn.Module, clean: Tensor, index: int) -> tuple[Tensor, Tensor]:
        """A validation image with its noise, and restored; both as the 8-bit files they would be."""
        data = self.recipe.data
        generator = torch.Generator().manual_seed(index)
        noisy = to_8_bits(add_noise(clean, data.noise / 255, generator))
        return noisy, to_8_bits(restore(model, noisy, tile=data.tile, overlap=data.overlap))

    def save(self, weights: Mapping[str, Tensor], folder: Path, about: Mapping[str, Any]) -> None:
        """Write a folder for `load_restorer`."""
        section = self.recipe.model
        # Without memory and random numbers of its own.
        network = create_restorer(section.name, device="meta", **section.options)
        network.load_state_dict(dict(weights), assign=True)
        save_restorer(network, folder, architecture=section.name, about=dict(about))

    def probe(self) -> tuple[nn.Module, Tensor]:
        """The network and a crop."""
        crop = self.recipe.data.crop
        return self.network, torch.randn(1, 3, crop, crop, device=self.device)


def open_restoration(data: Data, split: Split, *, warn: bool = True) -> Readable:
    """The clean images of a split, which read as `(C, H, W)` in [0, 1]; `warn` is whether to log what is left out.

    Raises:
        ValueError: when there is no such data set.
    """
    opened: Readable | None = open_registered("restoration", data, split, "folder")
    return opened or PictureFolder(split_folder(data, split), max_pixels=data.max_pixels, warn=warn)


def add_noise(x: Tensor, deviation: float, generator: torch.Generator | None = None) -> Tensor:
    """Gaussian noise on pixels in [0, 1], clipped to that range as a camera would."""
    return (x + deviation * torch.randn(x.shape, generator=generator)).clamp_(0, 1)


def to_8_bits(x: Tensor) -> Tensor:
    """Pixels in [0, 1] rounded to the 256 values of a file."""
    return x.clamp(0, 1).mul(255).round().div(255)


def random_crop(image_CHW: Tensor, side: int) -> Tensor:
    """A crop at a random place, turned and mirrored at random, by PyTorch's global random numbers.

    Args:
        image_CHW: the image; one smaller than the crop is padded by reflection.
        side: of the crop, in pixels.
    """

    def draw(below: int) -> int:
        return int(torch.randint(below, ()))

    while min(image_CHW.shape[1:]) < side:
        down, right = (min(max(side - length, 0), length - 1) for length in image_CHW.shape[1:])
        if min(image_CHW.shape[1:]) == 1:
            raise ImageError(f"an image of {image_CHW.shape[1]}×{image_CHW.shape[2]} pixels gives no crop")
        image_CHW = F.pad(image_CHW, (0, right, 0, down), mode="reflect")
    top, left = (draw(length - side + 1) for length in image_CHW.shape[1:])
    crop = torch.rot90(image_CHW[:, top : top + side, left : left + side], draw(4), (1, 2))
    return crop.flip(2) if draw(2) else crop


def charbonnier(outputs: list[list[Tensor]], clean_BCHW: Tensor, epsilon: float) -> Tensor:
    """The paper's first loss: a smooth absolute error, summed over stages and scales (MAXIM, equation 8).

    Args:
        outputs: what `MAXIM` returns.
        clean_BCHW: the true images; smaller scales are compared with their means over areas.
        epsilon: errors below this size count quadratically.

    Returns:
        The loss, a scalar.
    """
    losses = []
    for image in (image for stage in outputs for image in stage):
        target = F.adaptive_avg_pool2d(clean_BCHW, (image.shape[2], image.shape[3]))
        losses.append(((image - target).square() + epsilon**2).sqrt().mean())
    return torch.stack(losses).sum()


def _sample(images: Readable, side: int, deviation: float, index: int, seed: int) -> tuple[Tensor, Tensor]:
    """A noisy and a clean crop; an epoch may have more crops than there are images."""
    clean = random_crop(images.read(index % len(images)), side)
    return add_noise(clean, deviation), clean

"""The recipe `digits`: a small Mixer learns to read handwritten digits, in a minute or two on two CPU cores.

Command: `mlpzoo train digits`.
"""

import importlib.util
from pathlib import Path

import torch

from mlpzoo.models.mixer import MlpMixer
from mlpzoo.registry import create_model
from mlpzoo.train.data import Part
from mlpzoo.train.digit_images import DigitImages
from mlpzoo.train.engine import TrainingResult, train
from mlpzoo.train.loaders import Loaders
from mlpzoo.train.recipe_files import read_recipe, with_epochs
from mlpzoo.transforms import create_transform

SAMPLE_SIZE = 64
"""Side in pixels of the digits written as image files."""


def train_digits(
    out: str | Path = "runs/digits",
    *,
    seed: int = 0,
    epochs: int | None = None,
    device: str | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> TrainingResult:
    """Train by the recipe `digits`; see `mlpzoo.train.train` for what is written and raised.

    On the CPU the same seed gives the same weights.

    Args:
        out: the folder of the run.
        seed: of initialization, order and augmentation.
        epochs: passes over the training digits; the recipe's own if None.
        device: where to train.
        overwrite: whether a finished run in the folder is given up.
        progress: whether to show progress on stderr.

    Returns:
        The accuracy on the held-out digits and what else is worth telling.

    Raises:
        ImportError: when scikit-learn or matplotlib is missing, saying how to install them.
    """
    if not all(importlib.util.find_spec(module) for module in ("sklearn", "matplotlib")):
        raise ImportError("training on digits needs scikit-learn and matplotlib: pip install 'mlpzoo[demo]'")
    changes = [f"run.seed={seed}"]
    recipe = read_recipe("digits", changes) if epochs is None else with_epochs("digits", changes, epochs)
    return train(recipe, out, device=device, overwrite=overwrite, progress=progress)


def illustrate(folder: Path, loaders: Loaders) -> None:
    """Draw what a network trained on digits says of the held-out ones, and write some of them as image files.

    Args:
        folder: that holds the network; gets `predictions.png`, `token_mixing.png` for a Mixer, and `samples/`.
        loaders: of the run.

    Raises:
        ImportError: when matplotlib is missing.
    """
    from mlpzoo.train.plots import draw_predictions, draw_token_mixing

    held = loaders.validation_images
    assert isinstance(held, Part)
    assert isinstance(held.images, DigitImages)
    network = create_model(f"local-dir:{folder}").eval()
    transform = create_transform(network)
    inputs = torch.stack([transform(held.read(i)[0]) for i in range(len(held))])
    with torch.inference_mode():
        predicted = network(inputs).argmax(dim=1)
    assert held.labels is not None
    draw_predictions(folder / "predictions.png", held.images.pixels[held.indices], held.labels, predicted.tolist())
    if isinstance(network, MlpMixer):
        draw_token_mixing(
            folder / "token_mixing.png",
            network.get_parameter("blocks.0.mlp_tokens.fc1.weight").detach().numpy(),
            network.stem.grid_size,
        )
    write_samples(folder / "samples", held)


def write_samples(folder: Path, digits: Part) -> None:
    """Write the first digit of each class as an image file, enlarged without smoothing."""
    folder.mkdir(exist_ok=True)
    labels = list(digits.labels or ())
    for number, index in enumerate(sorted(labels.index(label) for label in set(labels))):
        image, label = digits.read(index)
        image = image.resize((SAMPLE_SIZE, SAMPLE_SIZE), 0)
        image.save(folder / f"sample-{number:02d}-label-{label}.png")

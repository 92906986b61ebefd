"""Demonstrations on data that exist offline: handwritten digits, scenes of digits, noisy photographs.

Importing this package lets recipes name its data sets (`digits`, `digit_scenes`, `photographs`) and adds its recipes
(`digits`, `detection-digits`, `denoise`) to those of `mlpzoo.tasks`:

    import mlpzoo.demos
    from mlpzoo.tasks import read_recipe, train

    train(read_recipe("digits"), "runs/digits")
"""

from pathlib import Path

from mlpzoo.demos.digits import DigitImages, illustrate_digits, open_digits, write_digits
from mlpzoo.demos.photographs import Photographs, illustrate_denoising, open_photographs
from mlpzoo.demos.scenes import Scenes, illustrate_scenes, open_scenes
from mlpzoo.train import Source, register_recipes, register_source

register_source("classification", "digits", Source(open_digits, illustrate_digits))
register_source("detection", "digit_scenes", Source(open_scenes, illustrate_scenes))
register_source("restoration", "photographs", Source(open_photographs, illustrate_denoising))
register_recipes(Path(__file__).parent / "recipes")

__all__ = ["DigitImages", "Photographs", "Scenes", "write_digits"]

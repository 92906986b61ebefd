"""The training engine: one loop over accelerate and timm for every task, recipes, checkpoints and data in order.

What is trained is a `Task`; those there are, and `train(recipe)`, stand in `mlpzoo.tasks`.
"""

try:
    import accelerate  # noqa: F401
    import pydantic  # noqa: F401
    import yaml  # noqa: F401
except ImportError as error:
    raise ImportError(f"training needs the package {error.name}: pip install 'mlpzoo[train]'") from None

from mlpzoo.train.config import DataError, Recipe, RecipeError
from mlpzoo.train.engine import newest_checkpoint, run
from mlpzoo.train.loaders import Place
from mlpzoo.train.loop import Diverged, Stopped
from mlpzoo.train.recipe_files import dump_recipe, register_recipes
from mlpzoo.train.sources import Source, register_source
from mlpzoo.train.task import Task

__all__ = [
    "DataError",
    "Diverged",
    "Place",
    "Recipe",
    "RecipeError",
    "Source",
    "Stopped",
    "Task",
    "dump_recipe",
    "newest_checkpoint",
    "register_recipes",
    "register_source",
    "run",
]

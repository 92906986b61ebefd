"""A recipe that trains in seconds."""

from mlpzoo import demos  # noqa: F401  the digits
from mlpzoo.tasks import recipe_from

RECIPE = {
    "model": {
        "name": "mixer_s16",
        "options": {
            "img_size": 8,
            "patch_size": 4,
            "in_chans": 1,
            "embed_dim": 16,
            "depth": 2,
            "tokens_mlp_dim": 8,
            "channels_mlp_dim": 32,
            "drop_rate": 0.1,
        },
    },
    "data": {"dataset": "digits", "batch_size": 64, "workers": 0, "mean": [0.3054], "std": [0.376]},
    "augment": {"scale": [0.8, 1.0], "rotate": 10, "interpolation": "bilinear"},
    "optimizer": {"lr": 4e-3},
    "schedule": {"updates": 12},
    "run": {"log_every": 1, "validate_every": 0, "checkpoint_every": 4},
}


def tiny_recipe(*changes):
    return recipe_from(RECIPE, changes)

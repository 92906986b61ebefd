"""From a model to the preprocessing its weights were trained with."""

from collections.abc import Callable
from typing import Any

from timm.data import create_transform as timm_transform
from timm.data import resolve_data_config
from torch import nn


def data_config_of(model: nn.Module, **overrides: Any) -> dict[str, Any]:
    """A model's timm data config, for as many image channels as it takes.

    Args:
        model: a model of mlpzoo or timm.
        overrides: entries to replace, such as `crop_pct=1.0` or `input_size=(3, 256, 256)`.

    Raises:
        ValueError: when the model takes another number of channels than the 1 or 3 that images have.
    """
    config: dict[str, Any] = resolve_data_config(overrides, model=model)
    channels = getattr(model, "in_chans", config["input_size"][0])
    if channels not in (1, 3):
        raise ValueError(f"image files have 1 or 3 channels, but this model takes {channels}")
    for name in ("mean", "std"):
        # A variant built with one channel keeps the three-channel statistics of its data config.
        if len(config[name]) != channels:
            config[name] = (sum(config[name]) / len(config[name]),) * channels
    config["input_size"] = (channels, *config["input_size"][1:])
    return config


def create_transform(model: nn.Module, *, is_training: bool = False, **options: Any) -> Callable[..., Any]:
    """The preprocessing a model's weights were trained with, from a PIL image to a tensor.

    For evaluation: resize, centre crop and normalization as published for the weights (`model.pretrained_cfg`). For
    training: timm's augmentations around the same statistics and size.

    Args:
        model: a model of mlpzoo or timm; a size it was given as `img_size=` is used.
        is_training: whether to augment.
        options: entries of the data config to replace (`crop_pct`, `interpolation`, `input_size`, …), and any other
            option of `timm.data.create_transform` (`auto_augment`, `re_prob`, `color_jitter`, …).

    Returns:
        A callable from a PIL image, of mode `"RGB"` or for a model of one channel `"L"`, to a tensor
        `(channels, height, width)`.

    Raises:
        ValueError: when the model takes another number of channels than the 1 or 3 that images have.
        TypeError: for an option that timm's transform does not have.

    Example:
        >>> model = mlpzoo.create_model("mixer_b16", pretrained=True).eval()
        >>> logits = model(mlpzoo.create_transform(model)(image)[None])
    """
    transform: Callable[..., Any] = timm_transform(
        **{**data_config_of(model, **options), **options}, is_training=is_training
    )
    return transform

"""A family as data: its paper, its variants, the files released for them. Registration reads these tables."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from mlpzoo.models._keymap import KeyMap

Stats = tuple[float, float, float]
HALF: Stats = (0.5, 0.5, 0.5)
CLASSIFICATION = "classification"
RESTORATION = "restoration"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weights:
    """One released file.

    Attributes:
        url: where it is; None where no program can fetch it, or a hub has it.
        hub: repository of the Hugging Face hub whose `model.safetensors` it is.
        where: how a person gets it, where there is neither.
        sha256: its hash where known; one at the end of the file's name, as PyTorch writes them, is known anyway.
        license: what it may be used for.
        num_classes: classes of its head.
        top1: published ImageNet-1k top-1 accuracy in percent, None where none is published for this file.
        top1_source: who measured it, and where it is written.
        scores: other published figures: test set to metric to value, as in `{"SIDD": {"psnr": 39.96}}`; PSNR in dB.
        scores_source: who measured those, and where they are written.
        overrides: config fields the file was trained with that differ from the variant's.
        mean: mean of each image channel, of pixels in [0, 1].
        std: standard deviation of each image channel.
        interpolation: how images were resized.
        crop_pct: side of the evaluation crop over side of the resized image.
    """

    url: str | None = None
    hub: str = ""
    where: str = ""
    sha256: str | None = None
    license: str
    num_classes: int = 1000
    top1: float | None = None
    top1_source: str = ""
    scores: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    scores_source: str = ""
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    mean: Stats = HALF
    std: Stats = HALF
    interpolation: str = "bicubic"
    crop_pct: float = 0.875


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """One paper's networks.

    Attributes:
        name: short name, equal to `model.family`.
        title: name for people.
        paper: title and address of the paper.
        code: address and commit of the authors' code; of what we compare with, where they released none.
        license: of the authors' code.
        model: the class, built as `model(config, device=, dtype=)`.
        variants: name to config, a frozen dataclass.
        weights: `name.tag` to released file; a variant's first is its default.
        data: entries of timm's data config for every variant; those of a released file have precedence.
        formats: key maps from the layouts that its files are released in to ours.
        to_timm: the key map from our layout to timm's, where timm has the architecture.
        timm_twins: variant to timm's name of the same network, where timm has it.
        task: what its networks do: `"classification"`, `"restoration"` or `"segmentation"`. Only those that classify
            are registered with timm and created by `mlpzoo.create_model`.
    """

    name: str
    title: str
    paper: str
    code: str
    license: str
    model: Callable[..., Any]
    variants: Mapping[str, Any]
    weights: Mapping[str, Weights] = dataclasses.field(default_factory=dict)
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    formats: tuple[KeyMap, ...] = ()
    to_timm: KeyMap | None = None
    timm_twins: Mapping[str, str] = dataclasses.field(default_factory=dict)
    task: str = CLASSIFICATION

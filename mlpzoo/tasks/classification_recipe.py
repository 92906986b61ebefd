"""What a recipe of a classifier may say."""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from mlpzoo.tasks.augment_names import check_interpolation, check_policy
from mlpzoo.train import config
from mlpzoo.train.config import Section, Share

Pair = tuple[float, float]
STREAMS = ("wds", "hfids", "tfds")
"""Kinds of timm's datasets that can only be read from the start."""


class Model(config.Model):
    """The network to train."""

    name: str
    """A name of `mlpzoo list`; `NAME.TAG` for certain released weights; `local-dir:FOLDER` for a run's network."""
    checkpoint: str | None = None
    """A file of weights, in any released format, to start from."""
    pretrained: bool = False
    """Whether to start from the released weights."""
    num_classes: int | None = Field(None, ge=1)
    """Classes of the head; as many as the data have if null."""
    train: Literal["all", "head"] = "all"
    """What is trained: all, or the head alone, on features of the frozen network: a linear probe."""
    frozen_stages: int = Field(-1, ge=-1)
    """What is not trained: nothing for -1, the embedding for 0, with the first n stages or blocks for n."""
    head_bias: float | None = None
    """First value of the head's bias; the network's own if null."""

    @model_validator(mode="after")
    def _one_source(self) -> "Model":
        if self.pretrained and self.checkpoint:
            raise ValueError("pretrained and checkpoint exclude each other: weights come from one place")
        return self


class Data(config.Data):
    """The images and their labels."""

    dataset: str = "folder"
    """`folder`, a registered one, or one of timm: `torch/NAME`, `hfds/NAME`, `hfids/NAME`, `wds/NAME`, `tfds/NAME`."""
    held_out: float = Field(0.0, ge=0, lt=1)
    """Share of each class to validate on instead, held out of the training split; always the same images."""
    download: bool = False
    """Whether timm may download the dataset."""
    length: int | None = Field(None, ge=1)
    """Images of a training epoch, where the dataset is a stream that does not say."""
    mean: tuple[float, ...] | None = None
    """Mean of each image channel, of pixels in [0, 1]; the network's own if null."""
    std: tuple[float, ...] | None = None
    """Standard deviation of each channel; the network's own if null."""
    interpolation: str | None = None
    """How images are resized in validation; as for the network's weights if null."""
    crop_pct: float | None = Field(None, gt=0, le=1)
    """Side of the validation crop over side of the resized image; as for the network's weights if null."""

    @property
    def is_stream(self) -> bool:
        """Whether the dataset can only be read from the start."""
        return self.dataset.partition("/")[0].lower() in STREAMS

    @field_validator("mean", "std")
    @classmethod
    def _of_pixels_from_0_to_1(cls, values: tuple[float, ...] | None, info: ValidationInfo) -> tuple[float, ...] | None:
        lowest = "0" if info.field_name == "mean" else "above 0"
        if any(not 0 <= value <= 1 or (value == 0 and info.field_name == "std") for value in values or ()):
            raise ValueError(f"is of pixels in [0, 1], so each must be from {lowest} to 1, got {list(values or ())}")
        return values

    @field_validator("interpolation")
    @classmethod
    def _known_interpolation(cls, name: str | None) -> str | None:
        return None if name is None else check_interpolation(name)

    @model_validator(mode="after")
    def _streams(self) -> "Data":
        if self.is_stream and self.held_out:
            raise ValueError(f"data.held_out: {self.dataset} is a stream, of which no share can be held out")
        if self.length is not None and not self.is_stream:
            raise ValueError(f"data.length is for streams ({', '.join(STREAMS)}); {self.dataset} knows its own")
        return self


class Augment(Section):
    """What happens to training images: timm's transforms, and its mixup and cutmix."""

    scale: Pair = (0.08, 1.0)
    """Area of the random crop, over the image's."""
    ratio: Pair = (3 / 4, 4 / 3)
    """Width over height of the random crop."""
    interpolation: str = "random"
    """How crops are resized: bilinear, bicubic, …; random for one of these two."""
    hflip: Share = 0.5
    """Probability of a flip from left to right."""
    vflip: Share = 0.0
    """Probability of a flip from top to bottom."""
    color_jitter: float = Field(0.0, ge=0)
    """Strength of random brightness, contrast and saturation; not applied where auto_augment is."""
    auto_augment: str | None = None
    """timm's string for RandAugment, AutoAugment or AugMix, such as `rand-m9-mstd0.5-inc1`."""
    random_erasing: Share = 0.0
    """Probability of erasing a rectangle."""
    erasing_mode: Literal["const", "rand", "pixel"] = "pixel"
    """What an erased rectangle holds: zeros, one random colour, or noise."""
    rotate: float = Field(0.0, ge=0, le=180)
    """Largest random rotation, in degrees."""
    shift: Share = 0.0
    """Largest random shift, as a share of the side."""
    zoom: float = Field(0.0, ge=0, lt=1)
    """Largest random change of size, as a share of it."""
    repeats: int = Field(1, ge=1)
    """Differently augmented copies of each image in an epoch, which then sees as many fewer images."""
    mixup: float = Field(0.0, ge=0)
    """Parameter of mixup's beta distribution; 0 for none."""
    cutmix: float = Field(0.0, ge=0)
    """Parameter of cutmix's beta distribution; 0 for none."""
    mixup_prob: Share = 1.0
    """Probability that a batch is mixed."""
    mixup_switch_prob: Share = 0.5
    """Probability of cutmix where both are on."""
    mixup_mode: Literal["batch", "pair", "elem"] = "batch"
    """Whether the amount is drawn for a batch, a pair of images or an image."""

    @field_validator("scale", "ratio")
    @classmethod
    def _in_order(cls, pair: Pair, info: ValidationInfo) -> Pair:
        low, high = pair
        if not 0 < low <= high:
            raise ValueError(f"must be the lower bound, above 0, and then the upper one, got {list(pair)}")
        if info.field_name == "scale" and high > 1:
            raise ValueError(f"is a share of the image's area, so at most 1, got {list(pair)}")
        return pair

    @field_validator("interpolation")
    @classmethod
    def _known_interpolation(cls, name: str) -> str:
        return check_interpolation(name, "random")

    @field_validator("auto_augment")
    @classmethod
    def _known_policy(cls, text: str | None) -> str | None:
        return None if text is None else check_policy(text)


class Loss(Section):
    """What is minimized."""

    name: Literal["cross_entropy", "bce"] = "cross_entropy"
    """Cross-entropy over the classes, or binary cross-entropy of each class by itself."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of a label that is spread evenly over all classes."""
    sum_classes: bool = False
    """Whether binary cross-entropy is summed over the classes, not averaged."""
    teacher: str | None = None
    """A model's name, or `local-dir:FOLDER`: the class it says is a second label: hard-label distillation."""
    teacher_checkpoint: str | None = None
    """The teacher's file of weights; its released weights if null."""
    teacher_weight: Share = 0.5
    """Weight of the teacher's label; the true one has the rest."""

    @model_validator(mode="after")
    def _one_teacher(self) -> "Loss":
        if self.teacher_checkpoint and not self.teacher:
            raise ValueError("loss.teacher_checkpoint is the file of a teacher: name its model in loss.teacher")
        return self


class ClassificationRecipe(config.Recipe):
    """A classifier."""

    task: Literal["classification"] = "classification"
    model: Model
    data: Data = Data()
    augment: Augment = Augment()
    loss: Loss = Loss()

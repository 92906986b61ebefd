"""What a recipe of a classifier may say."""

from typing import Literal

from pydantic import Field, model_validator

from mlpzoo.train import config
from mlpzoo.train.config import Section, Share

Pair = tuple[float, float]


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


class Loss(Section):
    """What is minimized."""

    name: Literal["cross_entropy", "bce"] = "cross_entropy"
    """Cross-entropy over the classes, or binary cross-entropy of each class by itself."""
    label_smoothing: Share = 0.0
    """Share of a label that is spread evenly over all classes."""
    sum_classes: bool = False
    """Whether binary cross-entropy is summed over the classes, not averaged."""
    teacher: str | None = None
    """A model's name, or `local-dir:FOLDER`: the class it says is a second label: hard-label distillation."""
    teacher_checkpoint: str | None = None
    """The teacher's file of weights; its released weights if null."""
    teacher_weight: Share = 0.5
    """Weight of the teacher's label; the true one has the rest."""


class ClassificationRecipe(config.Recipe):
    """A classifier."""

    task: Literal["classification"] = "classification"
    model: Model
    data: Data = Data()
    augment: Augment = Augment()
    loss: Loss = Loss()

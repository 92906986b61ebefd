"""What a recipe may say: every key, its type, its default and what it means.

The types are checked strictly by pydantic: an unknown key or a value of another type is refused, never converted.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
Pair = tuple[float, float]


class Section(BaseModel):
    """Base of all sections."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class About(Section):
    """Where a recipe is from and what it reaches."""

    source: str = ""
    """The paper or file whose settings these are."""
    command: str = ""
    """How it is run."""
    result: str = ""
    """What it reached, who measured that and on which hardware."""


class Model(Section):
    """The network to train."""

    name: str
    """A name of `mlpzoo list`; `NAME.TAG` for certain released weights; `local-dir:FOLDER` for a run's network."""
    pretrained: bool = False
    """Whether to start from the released weights."""
    checkpoint: str | None = None
    """A file of weights, in any released format, to start from."""
    num_classes: int | None = Field(None, ge=1)
    """Classes of the head; as many as the data have if null."""
    options: dict[str, Any] = {}
    """Options of `create_model`: img_size, drop_path_rate, …"""
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


class Data(Section):
    """The images."""

    dataset: str = "folder"
    """`folder`, `digits`, or a dataset of timm: `torch/NAME`, `hfds/NAME`, `hfids/NAME`, `wds/NAME`, `tfds/NAME`."""
    root: str | None = None
    """Folder of the data."""
    train_split: str = "train"
    """Of a folder: the name of the subfolder to train on."""
    validation_split: str | None = "validation"
    """As train_split; null for no validation."""
    held_out: float = Field(0.0, ge=0, lt=1)
    """Share of each class to validate on instead, held out of the training split; always the same images."""
    download: bool = False
    """Whether timm may download the dataset."""
    batch_size: int = Field(128, ge=1)
    """Images in an update, over all processes and accumulated steps: results do not depend on how many there are."""
    validation_batch_size: int | None = Field(None, ge=1)
    """Images in a validation step of one process; those of a training step if null."""
    workers: int = Field(4, ge=0)
    """Processes that read images, for each process that trains."""
    on_bad_image: Literal["error", "skip"] = "error"
    """What an unreadable image does: stop, or be replaced by the next one and be listed in bad_images.jsonl."""
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


class Optimizer(Section):
    """How weights are changed."""

    name: str = "adamw"
    """One of timm's optimizers: adamw, lamb, sgd, …"""
    lr: float = Field(1e-3, gt=0)
    """Highest learning rate, for the whole batch_size."""
    weight_decay: float = Field(0.05, ge=0)
    """Weight decay, not for biases, norms and what the network excludes."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum, of optimizers that have one."""
    layer_decay: float | None = Field(None, gt=0, le=1)
    """Learning rate of each layer over that of the next; 1 for all if null."""
    clip_norm: float | None = Field(None, gt=0)
    """Largest norm of all gradients together; no limit if null."""
    options: dict[str, Any] = {}
    """Other options of the optimizer: betas, eps, …"""


class Schedule(Section):
    """How the learning rate changes, and for how long training goes on."""

    name: str = "cosine"
    """One of timm's schedules: cosine, poly, step, constant, …"""
    epochs: int | None = Field(None, ge=1)
    """Passes over the data, the warm-up included."""
    updates: int | None = Field(None, ge=1)
    """Updates, in place of epochs."""
    warmup_epochs: float = Field(0, ge=0)
    """Epochs in which the learning rate rises linearly, within those of training."""
    warmup_updates: int | None = Field(None, ge=0)
    """As warmup_epochs, counted in updates."""
    warmup_lr: float = Field(1e-6, ge=0)
    """Learning rate of the first update, where there is a warm-up."""
    min_lr: float = Field(0.0, ge=0)
    """Learning rate at the end."""
    cooldown_epochs: int = Field(0, ge=0)
    """Epochs at min_lr after the end."""
    options: dict[str, Any] = {}
    """Other options of the schedule, as `timm.scheduler.create_scheduler_v2` names them: decay_rate, k_decay, …"""

    @model_validator(mode="after")
    def _one_length(self) -> "Schedule":
        if (self.epochs is None) == (self.updates is None):
            raise ValueError("give either epochs or updates")
        if self.updates is not None and self.cooldown_epochs:
            raise ValueError("cooldown_epochs goes with epochs: count them into updates")
        return self


class Run(Section):
    """How training is carried out."""

    seed: int = Field(0, ge=0, lt=2**31)
    """Of initialization, order and augmentation."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of products: full, or mixed."""
    strategy: Literal["ddp", "fsdp2"] = "ddp"
    """With several processes: each has the whole network, or a shard of it. A launcher's own setting prevails."""
    accumulate: int = Field(1, ge=1)
    """Steps whose gradients make one update."""
    grad_checkpointing: bool = False
    """Whether activations are computed again instead of kept."""
    compile: bool = False
    """Whether the network is compiled."""
    ema_decay: float | None = Field(None, gt=0, lt=1)
    """Decay of the moving average of the weights, which is then what is validated and saved; none if null."""
    ema_warmup: bool = False
    """Whether that decay grows with the number of updates."""
    validate_every: float = Field(1, ge=0)
    """Epochs between validations, fractions allowed; 0 for one at the end alone."""
    checkpoint_every: int | None = Field(None, ge=1)
    """Updates between checkpoints; an epoch if null."""
    keep_checkpoints: int = Field(2, ge=1)
    """How many of the newest checkpoints are kept."""
    log_every: int = Field(10, ge=1)
    """Updates between records of metrics.jsonl."""
    trackers: tuple[str, ...] = ()
    """Where metrics go besides: tensorboard, wandb, and others that accelerate knows."""


class Recipe(Section):
    """All of it."""

    about: About = About()
    model: Model
    data: Data = Data()
    augment: Augment = Augment()
    loss: Loss = Loss()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule
    run: Run = Run()

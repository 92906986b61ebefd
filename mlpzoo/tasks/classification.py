"""Training and fine-tuning of classifiers."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from timm.data import Mixup
from timm.loss import BinaryCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import Tensor, nn

from mlpzoo._names import BUILD_OPTIONS, family_of
from mlpzoo.images import logger
from mlpzoo.models import Backbone
from mlpzoo.registry import create_model
from mlpzoo.tasks.classification_images import Images
from mlpzoo.tasks.classification_loaders import NOT_COUNTED, Loaders, validation_images, validation_loader
from mlpzoo.tasks.classification_recipe import ClassificationRecipe, Loss, Model
from mlpzoo.train.config import RecipeError
from mlpzoo.train.data import BAD_IMAGES
from mlpzoo.train.loaders import Place
from mlpzoo.train.task import Task
from mlpzoo.weights import read_config, save_folder

LOCAL = "local-dir:"
IMPLS = ("auto", "reference", "triton")
"""Which implementation of its fast ops a network may run."""

Batch = tuple[Tensor, Tensor]


class Classification(Task):
    """Images and labels, a network with a head, and a loss between them; see `Task`."""

    name = "classification"
    recipe_type = ClassificationRecipe
    best_by = "validation_top1"
    formats: ClassVar = {
        "accuracy": ("accuracy", "{:6.1%}"),
        "validation_top1": ("Validation top-1", "{:.2%}"),
        "validation_top5": ("Validation top-5", "{:.2%}"),
        "validation_loss": ("Validation loss", "{:.4f}"),
    }
    curve = ("accuracy", "accuracy", "validation_top1")

    def __init__(self, recipe: ClassificationRecipe, place: Place, *, training: bool = True) -> None:
        super().__init__(recipe, place, training=training)
        if not training:
            self._open_run()
            return
        network = build_network(
            recipe.model, recipe.data.model_dump(include={"mean", "std", "interpolation", "crop_pct"})
        )
        self.loaders = Loaders(recipe, network, place)
        self.training, self.updates_per_epoch = self.loaders.training, self.loaders.updates_per_epoch
        self.training_items, self.validation_items = self.loaders.training_images, self.loaders.validation_images
        self.validation = self.loaders.validation if self.loaders.validation_loader is not None else None
        num_classes = recipe.model.num_classes or self.loaders.num_classes
        if self.loaders.num_classes and num_classes != self.loaders.num_classes:
            raise RecipeError(
                f"model.num_classes is {num_classes}, but the data have {self.loaders.num_classes} classes: leave it "
                "out, or change the data"
            )
        if not num_classes:
            raise ValueError("the data do not say how many classes they have: give model.num_classes")
        if num_classes != network.num_classes:
            network.reset_classifier(num_classes)
        elif other_classes(recipe.model.name, self.loaders.classes):
            network.reset_classifier(num_classes)
            if place.rank == 0:
                logger.warning("%s told other classes apart, so the head starts anew", recipe.model.name)
        if recipe.model.head_bias is not None:
            head = network.get_classifier()
            assert isinstance(head, nn.Linear)
            nn.init.constant_(head.bias, recipe.model.head_bias)
        self.network, self.num_classes = network.to(self.device), num_classes
        self.class_names = self.loaders.classes
        self.model = self.network
        self.frozen = freeze(network, recipe.model)
        if recipe.run.grad_checkpointing:
            network.set_grad_checkpointing()
        self.loss_of = build_loss(recipe.loss, mixed=self._mixes)
        self.mixup = self._build_mixup(num_classes) if self._mixes else None
        self.teacher = (
            build_teacher(recipe.loss, num_classes, self.device, self.loaders.classes) if recipe.loss.teacher else None
        )

    def _open_run(self) -> None:
        """The network of a finished run, and what to validate it on."""
        folder, recipe = self.place.folder, self.recipe
        network = create_model(f"{LOCAL}{folder}")
        assert isinstance(network, Backbone)
        assert folder is not None
        self.network = network.to(self.device)
        self.model, self.num_classes = self.network, network.num_classes
        images = validation_images(recipe.data, network, read_config(folder).get("label_names"))
        loader = validation_loader(images, network, recipe, self.place)
        self.validation_items, self.validation = images, lambda: iter(loader)

    def details(self, items: Images) -> Iterable[object]:
        """The labels, where they are known."""
        return items.labels or ()

    def check(self, batch: Batch) -> None:
        """Refuse labels that the network has no class for."""
        self._check_labels(batch[1])

    def train_mode(self, model: nn.Module) -> None:
        """Training mode, but for what is frozen."""
        model.train()
        for module in self.frozen:
            module.eval()

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean loss of a batch and, where images are not mixed, the share classified correctly."""
        images, labels = batch
        targets = labels
        if self.mixup is not None:
            images, targets = self.mixup(images, labels)
        logits = model(images)
        loss = self.loss_of(logits, targets)
        if self.teacher is not None:
            with torch.no_grad():
                told = self.teacher(images).argmax(dim=1)
            weight = self.recipe.loss.teacher_weight
            loss = (1 - weight) * loss + weight * F.cross_entropy(logits, told)
        if self.mixup is not None:
            return loss, {}
        return loss, {"accuracy": (logits.detach().argmax(dim=1) == labels).float().mean()}

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Top-1 and top-5 accuracy and cross-entropy over the validation images, all processes together."""
        return {} if self.validation is None else evaluate(model, self.validation_batches(), self.device)

    def validation_batches(self) -> Iterator[Batch]:
        """Validation images and labels of this process, on the device; those labelled −1 do not count."""
        assert self.validation is not None
        for (images, labels), bad, _ in self.validation():
            if bad is not None and self.validation_items is not None:
                self.bad_images.note(self.validation_items, bad)
            self._check_labels(labels[labels != NOT_COUNTED])
            yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)

    def save(self, weights: Mapping[str, Tensor], folder: Path, about: Mapping[str, Any]) -> None:
        """Write a folder for `create_model("local-dir:FOLDER")`."""
        save_folder(
            self.network,
            folder,
            **describe(self.network),
            label_names=self.loaders.classes,
            about=dict(about),
            weights=weights,
        )

    def probe(self) -> tuple[nn.Module, Tensor]:
        """The network and one image."""
        anchor = next(self.network.parameters())
        return self.network, torch.randn(1, *self.loaders.shape, device=anchor.device, dtype=anchor.dtype)

    def shard_types(self) -> list[str]:
        """The network's blocks."""
        parts = self.network.get_submodule(self.network.feature_stack).children()
        blocks = [block for part in parts for block in (part.children() if isinstance(part, nn.Sequential) else [part])]
        return sorted({type(block).__name__ for block in blocks})

    @property
    def _mixes(self) -> bool:
        return self.recipe.augment.mixup > 0 or self.recipe.augment.cutmix > 0

    def _build_mixup(self, num_classes: int) -> Mixup:
        augment = self.recipe.augment
        if self.loaders.batch_size % 2:
            raise ValueError(
                f"mixup and cutmix pair the images of a batch, so each process needs an even number, not "
                f"{self.loaders.batch_size}: change data.batch_size or run.accumulate"
            )
        return Mixup(
            mixup_alpha=augment.mixup,
            cutmix_alpha=augment.cutmix,
            prob=augment.mixup_prob,
            switch_prob=augment.mixup_switch_prob,
            mode=augment.mixup_mode,
            label_smoothing=self.recipe.loss.label_smoothing,
            num_classes=num_classes,
        )

    def _check_labels(self, labels: Tensor) -> None:
        if len(labels) and (labels.min() < 0 or labels.max() >= self.network.num_classes):
            raise ValueError(
                f"the data have labels from {int(labels.min())} to {int(labels.max())}, but the network has "
                f"{self.network.num_classes} classes, 0 to {self.network.num_classes - 1}: set model.num_classes"
            )


def build_network(section: Model, data: Mapping[str, Any]) -> Backbone:
    """The network of a recipe, with the weights it starts from.

    Raises:
        ValueError: for an unknown network or option.
        mlpzoo.CheckpointError: when its weights cannot be had or do not fit.
    """
    options = {**section.options, **({"num_classes": section.num_classes} if section.num_classes else {})}
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    wrong = [key for key in options if key in BUILD_OPTIONS]
    if wrong:
        raise RecipeError(f"model.options has {wrong[0]}, which is not for networks that are trained")
    if options.get("impl", "auto") not in IMPLS:
        raise RecipeError(f"model.options has impl {options['impl']!r}: choose {', '.join(IMPLS)}")
    try:
        network = create_model(
            section.name, pretrained=section.pretrained, checkpoint_path=section.checkpoint or "", **options
        )
    except TypeError as error:
        raise RecipeError(f"model.options: {error}") from None
    except RuntimeError as error:
        # timm's, where there are no weights.
        raise RecipeError(f"{section.name}: {error}") from None
    assert isinstance(network, Backbone)
    for key in ("mean", "std"):
        if data.get(key) is not None and len(data[key]) != network.in_chans in (1, 3):
            raise RecipeError(
                f"data.{key} has {len(data[key])} values, but the network takes {network.in_chans} channels"
            )
    given = {key: value for key, value in data.items() if value is not None}
    network.pretrained_cfg = {**network.pretrained_cfg, **given}
    network.default_cfg = network.pretrained_cfg
    return network


def freeze(network: Backbone, section: Model) -> list[nn.Module]:
    """Stop training of what the recipe says, and return the modules that stay in evaluation mode."""
    if section.train == "head":
        network.requires_grad_(False)
        network.get_classifier().requires_grad_(True)
        return [network]
    if section.frozen_stages < 0:
        return []
    parts = network.get_submodule(network.feature_stack)
    assert isinstance(parts, nn.Sequential)
    if section.frozen_stages > len(parts):
        raise ValueError(f"model.frozen_stages must be from -1 to {len(parts)}, got {section.frozen_stages}")
    frozen = [network.get_submodule("stem"), *parts[: section.frozen_stages]]
    for module in frozen:
        module.requires_grad_(False)
    return frozen


def build_loss(section: Loss, *, mixed: bool) -> nn.Module:
    """timm's loss for labels, or for the soft targets that mixup makes."""
    if section.name == "bce":
        # timm smooths labels by themselves; mixup has done it for soft targets.
        smoothing = 0.0 if mixed else section.label_smoothing
        return BinaryCrossEntropy(smoothing=smoothing, sum_classes=section.sum_classes)
    if mixed:
        return SoftTargetCrossEntropy()
    return LabelSmoothingCrossEntropy(section.label_smoothing) if section.label_smoothing else nn.CrossEntropyLoss()


def other_classes(name: str, classes: Sequence[str] | None) -> bool:
    """Whether a network's folder says that it tells other classes apart, or in another order."""
    if classes is None or not name.startswith(LOCAL):
        return False
    return (read_config(name.removeprefix(LOCAL)).get("label_names") or list(classes)) != list(classes)


def build_teacher(
    section: Loss, num_classes: int, device: torch.device, classes: Sequence[str] | None = None
) -> nn.Module:
    """The network whose predictions are a second label.

    Raises:
        ValueError: when it has other classes.
    """
    name = section.teacher or ""
    teacher = create_model(
        name,
        pretrained=not section.teacher_checkpoint and not name.startswith(LOCAL),
        checkpoint_path=section.teacher_checkpoint or "",
    )
    if teacher.num_classes != num_classes:
        raise ValueError(f"the teacher {name} has {teacher.num_classes} classes, the data {num_classes}")
    if other_classes(name, classes):
        raise ValueError(f"the teacher {name} tells other classes apart than the data, or in another order")
    return teacher.requires_grad_(False).eval().to(device)


def describe(network: Backbone) -> dict[str, Any]:
    """What `save_folder` wants to know of a network: its variant, what differs from it, and its data config."""
    name = network.pretrained_cfg["architecture"]
    variant = family_of(name).variants[name]
    now = {field.name: getattr(network.config, field.name) for field in dataclasses.fields(variant)}
    now["num_classes"] = network.num_classes
    options = {key: value for key, value in now.items() if value != getattr(variant, key) and key != "impl"}
    kept = ("input_size", "mean", "std", "interpolation", "crop_pct")
    data = {key: network.pretrained_cfg[key] for key in kept}
    return {"architecture": name, "model_args": options, "pretrained_cfg": data}


def evaluate(model: nn.Module, batches: Iterator[Batch], device: torch.device) -> dict[str, float]:
    """Accuracy and cross-entropy over batches; samples labelled `NOT_COUNTED` are not.

    Args:
        model: in evaluation mode.
        batches: images and labels of this process.
        device: where they are.

    Returns:
        `validation_top1`, `validation_top5` where there are more than five classes, and `validation_loss`; the same in
        all processes.
    """
    sums = torch.zeros(4, dtype=torch.float64, device=device)
    classes = 0
    for images, labels in batches:
        logits = model(images).float()
        classes = logits.shape[1]
        counted = labels != NOT_COUNTED
        logits, labels = logits[counted], labels[counted]
        ranked = logits.topk(min(5, classes)).indices == labels[:, None]
        losses = F.cross_entropy(logits, labels, reduction="sum")
        sums += torch.stack([counted.sum(), ranked[:, 0].sum(), ranked.sum(), losses]).to(sums)
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(sums)
    total, right, near, loss = sums.tolist()
    if not total:
        raise ValueError(f"there is no readable image to validate on: {BAD_IMAGES} lists the unreadable ones")
    found = {"top1": right / total}
    if classes > 5:
        found["top5"] = near / total
    return {**{f"validation_{name}": value for name, value in found.items()}, "validation_loss": loss / total}

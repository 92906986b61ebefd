"""Training and fine-tuning of classifiers: the task that recipes describe."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timm.data import Mixup
from timm.loss import BinaryCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import Tensor, nn

from mlpzoo.inference import ImageError
from mlpzoo.models import Backbone
from mlpzoo.ops import _torch
from mlpzoo.registry import create_model, family_of
from mlpzoo.train.config import Loss, Model, Recipe
from mlpzoo.train.data import NOT_COUNTED
from mlpzoo.train.loaders import Loaders
from mlpzoo.weights import save_folder

BAD_IMAGES = "bad_images.jsonl"
LOCAL = "local-dir:"

Batch = tuple[Tensor, Tensor]


class Classification:
    """Images and labels, a network with a head, and a loss between them.

    Args:
        recipe: all settings.
        device: where the network and the batches are.
        rank: which process this is.
        processes: how many there are.
        folder: of the run, for the list of unreadable images.

    Raises:
        ValueError: when the recipe, the data and the network do not go together.
    """

    best_by: str | None = "validation_top1"

    def __init__(
        self, recipe: Recipe, *, device: torch.device, rank: int = 0, processes: int = 1, folder: Path | None = None
    ) -> None:
        self.recipe, self.device, self.folder = recipe, device, folder
        network = build_network(
            recipe.model, recipe.data.model_dump(include={"mean", "std", "interpolation", "crop_pct"})
        )
        self.loaders = Loaders(recipe, network, rank=rank, processes=processes, pin=device.type == "cuda")
        num_classes = recipe.model.num_classes or self.loaders.num_classes
        if self.loaders.num_classes and num_classes < self.loaders.num_classes:
            raise ValueError(
                f"model.num_classes is {num_classes}, but the data have {self.loaders.num_classes} classes"
            )
        if not num_classes:
            raise ValueError("the data do not say how many classes they have: give model.num_classes")
        if num_classes != network.num_classes:
            network.reset_classifier(num_classes)
        if recipe.model.head_bias is not None:
            head = network.get_classifier()
            assert isinstance(head, nn.Linear)
            nn.init.constant_(head.bias, recipe.model.head_bias)
        self.model: nn.Module = network.to(device)
        self.frozen = freeze(network, recipe.model)
        if recipe.run.grad_checkpointing:
            network.set_grad_checkpointing()
        self.network = network
        # Here, for it takes a forward pass, and the network may be sharded later.
        self.flops_per_image = 3 * count_flops(network) if device.type == "cuda" else None
        self.updates_per_epoch = self.loaders.updates_per_epoch
        self.images_per_update = recipe.data.batch_size
        self.loss_of = build_loss(recipe.loss, mixed=self._mixes)
        self.mixup = self._build_mixup(num_classes) if self._mixes else None
        self.teacher = build_teacher(recipe.loss, num_classes, device) if recipe.loss.teacher else None
        self._listed: set[str] = set()

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """Images and labels of this process, from an update of an epoch on."""
        for images, labels, bad in self.loaders.training(epoch, start):
            if bad is not None:
                self._note_bad(bad)
            self._check_labels(labels)
            yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)

    def train_mode(self, model: nn.Module) -> None:
        """Training mode, but for what is frozen."""
        model.train()
        for module in self.frozen:
            module.eval()

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean loss of a batch and, where images are not mixed, the share named right."""
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
        if self.loaders.validation_loader is None:
            return {}
        return evaluate(model, self._validation_batches(), self.device)

    def save(self, weights: Mapping[str, Tensor], folder: Path, about: Mapping[str, Any]) -> None:
        """Write a folder for `create_model("local-dir:FOLDER")`."""
        save_folder(
            self.network,
            folder,
            **describe(self.network),
            label_names=self.loaders.classes,
            about={**self.recipe.about.model_dump(exclude_defaults=True), **about},
            weights=weights,
        )

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

    def _validation_batches(self) -> Iterator[Batch]:
        for images, labels, bad in self.loaders.validation():
            if bad is not None:
                self._note_bad(bad, validation=True)
            self._check_labels(labels[labels != NOT_COUNTED])
            yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)

    def _check_labels(self, labels: Tensor) -> None:
        if len(labels) and (labels.min() < 0 or labels.max() >= self.network.num_classes):
            raise ValueError(
                f"the data have labels from {int(labels.min())} to {int(labels.max())}, but the network has "
                f"{self.network.num_classes} classes, 0 to {self.network.num_classes - 1}: set model.num_classes"
            )

    def _note_bad(self, bad: Tensor, validation: bool = False) -> None:
        """List unreadable images, or stop at the first."""
        images = self.loaders.validation_images if validation else self.loaders.training_images
        assert images is not None
        for index in bad[bad >= 0].tolist():
            try:
                images.read(index)
                reason = "could not be read a moment ago"
            except ImageError as error:
                reason = str(error)
            if self.recipe.data.on_bad_image == "error":
                raise ImageError(f"{reason}. To train without such images: data.on_bad_image=skip")
            if reason not in self._listed and self.folder is not None:
                self._listed.add(reason)
                with (self.folder / BAD_IMAGES).open("a") as file:
                    file.write(json.dumps({"image": images.name(index), "reason": reason}) + "\n")


def build_network(section: Model, data: Mapping[str, Any]) -> Backbone:
    """The network of a recipe, with the weights it starts from.

    Raises:
        ValueError: for an unknown network or option.
        mlpzoo.CheckpointError: when its weights cannot be had or do not fit.
    """
    options = {**section.options, **({"num_classes": section.num_classes} if section.num_classes else {})}
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    try:
        network = create_model(
            section.name, pretrained=section.pretrained, checkpoint_path=section.checkpoint or "", **options
        )
    except TypeError as error:
        raise ValueError(f"model.options: {error}") from None
    assert isinstance(network, Backbone)
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


def build_teacher(section: Loss, num_classes: int, device: torch.device) -> nn.Module:
    """The network whose answers are a second label.

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


def count_flops(network: Backbone) -> float:
    """FLOPs of a forward pass of one image."""
    from torch.utils.flop_counter import FlopCounterMode

    with _torch.fake_tensors(), FlopCounterMode(display=False) as counter, torch.no_grad():
        anchor = next(network.parameters())
        network(torch.empty(1, *network.pretrained_cfg["input_size"], device=anchor.device, dtype=anchor.dtype))
    return float(counter.get_total_flops())


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
        raise ValueError("there is no readable image to validate on")
    found = {"top1": right / total}
    if classes > 5:
        found["top5"] = near / total
    return {**{f"validation_{name}": value for name, value in found.items()}, "validation_loss": loss / total}

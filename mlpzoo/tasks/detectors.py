"""torchvision's detectors on the networks of the zoo."""

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from mlpzoo.dense import FpnBackbone, fpn_backbone
from mlpzoo.ops._torch import is_tracing

DETECTORS: dict[str, type[nn.Module]] = {
    "retinanet": detection.RetinaNet,
    "fcos": detection.FCOS,
    "fasterrcnn": detection.FasterRCNN,
    "maskrcnn": detection.MaskRCNN,
}
ONE_STAGE = ("retinanet", "fcos")
ROUNDING = 1e-3
"""How far beyond [0, 1] the values of an image may be."""
TRANSFORM_OPTIONS = ("size_divisible", "fixed_size")
"""What torchvision's detectors hand through to their image transform."""


def build_detector(
    kind: str,
    backbone: str | nn.Module,
    num_classes: int,
    *,
    backbone_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> nn.Module:
    """One of torchvision's detectors on a network of the zoo.

    Besides what torchvision checks, a step refuses images that would be taken for others: integers, values outside
    [0, 1], other channels; and a training step targets that would train something else than meant: boxes outside the
    image, without area or normalized, labels out of range, the wrong shapes. An image without objects is a target like
    any other.

    Args:
        kind: `"retinanet"`, `"fcos"`, `"fasterrcnn"` or `"maskrcnn"`.
        backbone: a name that `fpn_backbone` takes, or what it returned.
        num_classes: classes, the background included, as torchvision counts; object labels begin at 1.
        backbone_options: options of `fpn_backbone`, where `backbone` is a name.
        options: those of torchvision's class: `min_size`, `score_thresh`, `anchor_generator`, … Where images are
            normalized by `image_mean` and `image_std`, those are the network's own unless given; for other than 3
            channels, their mean.

    Returns:
        The detector, in training mode: lists of images in [0, 1] and of targets to losses, images alone to detections.

    Raises:
        ValueError: for an unknown kind, too few classes, or a backbone that does not fit.
        TypeError: for an unknown option.
    """
    if kind not in DETECTORS:
        raise ValueError(f"unknown detector '{kind}': choose one of {', '.join(map(repr, DETECTORS))}")
    detector = DETECTORS[kind]
    known = {*inspect.signature(detector.__init__).parameters, *TRANSFORM_OPTIONS}
    if kind == "maskrcnn":
        known.update(inspect.signature(detection.FasterRCNN.__init__).parameters)
    known -= {"self", "backbone", "num_classes", "kwargs"}
    wrong = [option for option in options if option not in known]
    if wrong:
        raise TypeError(f"{kind} has no option '{wrong[0]}'. Its options: {', '.join(sorted(known))}")
    if num_classes < 2:
        raise ValueError(f"num_classes counts the background, so it must be 2 or more, got {num_classes}")
    if isinstance(backbone, str):
        given: dict[str, Any] = dict(backbone_options or {})
        if kind in ONE_STAGE:
            channels = given.get("out_channels", 256)
            given = {"out_indices": (1, 2, 3), "extra_blocks": LastLevelP6P7(channels, channels), **given}
        backbone = fpn_backbone(backbone, **given)
    elif backbone_options:
        raise TypeError("backbone_options are for a backbone given by name; this one is built already")
    if not hasattr(backbone, "out_channels"):
        raise ValueError(
            f"{type(backbone).__name__} does not say its out_channels: pass a name, or what fpn_backbone() returns"
        )
    if isinstance(backbone, FpnBackbone):
        options = {**_normalization(backbone.body.network), **options}
    model = detector(backbone, num_classes=num_classes, **options)
    channels = backbone.body.network.in_chans if isinstance(backbone, FpnBackbone) else None
    check = functools.partial(_check_step, num_classes=num_classes, masks=kind == "maskrcnn", channels=channels)
    model.register_forward_pre_hook(check, with_kwargs=True)
    return model


def check_targets(
    images: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]], *, num_classes: int, masks: bool = False
) -> None:
    """Refuse targets that do not fit their images.

    Args:
        images: one `(channels, height, width)` an image.
        targets: for each image its `boxes`, `(objects, 4)` as left, top, right and bottom in pixels; its `labels`,
            int64 `(objects,)`, from 1; and its `masks`, `(objects, height, width)`.
        num_classes: classes, the background included.
        masks: whether masks are needed.

    Raises:
        ValueError: naming the image, what is wrong with its target, and what was expected.
    """
    if len(images) != len(targets):
        raise ValueError(f"got {len(images)} images and {len(targets)} targets: each image needs one")
    for i, (image, target) in enumerate(zip(images, targets, strict=True)):
        missing = {"boxes", "labels", *(["masks"] if masks else [])} - set(target)
        if missing:
            raise ValueError(f"target {i} has no {' and no '.join(sorted(missing))}")
        boxes, labels = target["boxes"], target["labels"]
        if boxes.ndim != 2 or boxes.shape[1] != 4 or not boxes.is_floating_point():
            raise ValueError(
                f"boxes of target {i} must be floating point (objects, 4), torch.zeros(0, 4) for none; got "
                f"{boxes.dtype} {tuple(boxes.shape)}"
            )
        if labels.shape != boxes.shape[:1] or labels.dtype != torch.int64:
            raise ValueError(
                f"labels of target {i} must be torch.int64 ({len(boxes)},), one a box; got {labels.dtype} "
                f"{tuple(labels.shape)}"
            )
        if masks and target["masks"].shape != (len(boxes), *image.shape[1:]):
            expected = (len(boxes), *image.shape[1:])
            raise ValueError(f"masks of target {i} must be {expected}; got {tuple(target['masks'].shape)}")
        if not len(boxes):
            continue
        if not torch.isfinite(boxes).all():
            raise ValueError(f"boxes of target {i} hold NaN or infinity")
        height, width = image.shape[1:]
        if min(height, width) > 1 and boxes.max() <= 1:
            raise ValueError(
                f"boxes of target {i} look normalized, none reaching beyond 1 in an image of {height}×{width} pixels: "
                "give left, top, right and bottom in pixels"
            )
        if (boxes[:, 2:] <= boxes[:, :2]).any():
            box = boxes[(boxes[:, 2:] <= boxes[:, :2]).any(1)][0].tolist()
            raise ValueError(
                f"target {i} has a box without area: boxes are left, top, right and bottom, not width and height; "
                f"got {box}"
            )
        # Annotations in the wild are rounded: a box may stand out by a pixel.
        outside = (boxes[:, :2] < -1).any(1) | (boxes[:, 2] > width + 1) | (boxes[:, 3] > height + 1)
        if outside.any():
            box = boxes[outside][0].tolist()
            raise ValueError(
                f"target {i} has a box outside of its image of {height}×{width} pixels: left, top, right, bottom {box}"
            )
        if labels.min() < 1 or labels.max() >= num_classes:
            raise ValueError(
                f"labels of target {i} must be from 1 to {num_classes - 1}, for 0 is the background; got "
                f"{int(labels.min())} to {int(labels.max())}"
            )


def _normalization(network: Any) -> dict[str, list[float]]:
    """What torchvision's image transform should do, from the network's data config, whose images have 3 channels."""
    named = {"image_mean": network.pretrained_cfg["mean"], "image_std": network.pretrained_cfg["std"]}
    if network.in_chans == 3:
        return {name: list(values) for name, values in named.items()}
    return {name: [sum(values) / len(values)] * network.in_chans for name, values in named.items()}


def check_images(images: Sequence[Tensor], *, channels: int | None = None) -> None:
    """Refuse what a detector would take without a word: it normalizes whatever it gets.

    Args:
        images: one `(channels, height, width)` an image, in [0, 1].
        channels: that the network takes; any if None.

    Raises:
        ValueError: naming the image, what is wrong with it, and what was expected.
    """
    if not isinstance(images, list | tuple | Tensor) or len(images) == 0:
        raise ValueError("a detector takes a list of one image or more, each a tensor (channels, height, width)")
    for i, image in enumerate(images):
        if not isinstance(image, Tensor) or image.ndim != 3:
            got = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
            raise ValueError(
                f"a detector takes a list of images, each a tensor (channels, height, width); image {i} is {got}"
            )
        if not image.numel():
            raise ValueError(f"image {i} is empty: {tuple(image.shape)}")
        if channels is not None and image.shape[0] != channels:
            raise ValueError(f"image {i} has {image.shape[0]} channels, but this detector takes {channels}")
        if not image.is_floating_point():
            raise ValueError(
                f"image {i} holds {image.dtype}, but a detector takes floating point in [0, 1]: divide by 255"
            )
    if torch.compiler.is_compiling() or is_tracing():
        return
    # One answer from the device for all of them. A resized image may leave the range by a rounding.
    extremes = torch.stack([torch.stack(torch.aminmax(image.detach())).float() for image in images]).cpu()
    for i, (lowest, highest) in enumerate(extremes.tolist()):
        if not (lowest >= -ROUNDING and highest <= 1 + ROUNDING):
            raise ValueError(
                f"image {i} holds values from {lowest:g} to {highest:g}, but a detector takes [0, 1] and normalizes "
                "them itself: divide by 255, or leave out the normalization"
            )


def _check_step(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    num_classes: int,
    masks: bool,
    channels: int | None,
) -> None:
    """A hook before the forward pass: what torchvision would take without a word, or drop with an unclear one."""
    images = args[0] if args else kwargs.get("images", [])
    targets = args[1] if len(args) > 1 else kwargs.get("targets")
    check_images(images, channels=channels)
    if model.training:
        if targets is None:
            raise ValueError("training needs targets, one for each image: call model.eval() to detect")
        check_targets(images, targets, num_classes=num_classes, masks=masks)

"""What is timed: our model and its peers, all with the same weights."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import timm
import torch
from timm.layers import get_act_layer, to_2tuple
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import mlpzoo
from benchmarks.base import Base
from benchmarks.options import Options, Size
from benchmarks.report import OURS
from benchmarks.trial import Contender, Values
from mlpzoo.deploy import fold
from mlpzoo.models import FAMILIES

NO_NOISE = {"drop_rate": 0.0, "proj_drop_rate": 0.0, "drop_path_rate": 0.0}
"""Random drops are off, so that a training step has one right answer."""


def peer_of(name: str) -> tuple[str, dict[str, Any]] | None:
    """timm's model of the same architecture, and the options that make it compute the same; None if timm has none."""
    for family in FAMILIES.values():
        if name in family.timm_twins:
            try:
                options = {"act_layer": get_act_layer(family.variants[name].act_layer)}
            except KeyError:
                # An activation of the family's own: timm has no other in it.
                options = {}
            return family.timm_twins[name], options
    return None


def timm_layout(name: str, options: Mapping[str, Any], values: Values) -> Values:
    """Our weights, or gradients of them, under timm's names and in its shapes; the output as it is."""
    ours = mlpzoo.create_model(name, device="meta", **options)
    names = ours.state_dict().keys()
    ours.load_state_dict({key: value for key, value in values.items() if key in names}, strict=False, assign=True)
    weights = {key: value for key, value in mlpzoo.timm_state_dict(ours).items() if not value.is_meta}
    return weights | {key: value for key, value in values.items() if key not in names}


def reference(name: str, ours: nn.Module, options: Mapping[str, Any]) -> Contender:
    """Our own network on the plain implementations of its ops."""
    model = mlpzoo.create_model(name, impl="reference", device="meta", **options)
    model.load_state_dict(ours.state_dict(), assign=True)
    return Contender(model=model)


def timm_nchw(name: str, ours: nn.Module, options: Mapping[str, Any]) -> Contender:
    """timm's network, told to use our activation, so that both compute the same function.

    timm builds Mixer and ViT with the erf GELU, their authors with the tanh one, which takes longer on a CPU: there
    timm's own default is a few percent faster than what is timed here.
    """
    peer = peer_of(name)
    assert peer is not None
    with torch.device("meta"):
        model = timm.create_model(peer[0], num_classes=ours.num_classes, **peer[1], **options)
    model.load_state_dict(timm_layout(name, options, ours.state_dict()), assign=True)
    return Contender(model=model, layout=lambda values: timm_layout(name, options, values))


PEERS: dict[str, Callable[[str, nn.Module, Mapping[str, Any]], Contender]] = {
    "timm-nchw": timm_nchw,
    # The layout that timm's own benchmarks find faster.
    "timm-nhwc": lambda *about: dataclasses.replace(timm_nchw(*about), channels_last=True),
    "reference": reference,
    "folded": lambda name, ours, options: Contender(model=ours, prepare=fold),
}
"""What builds them, from the model's name, our network and its options."""


def peers_of(name: str, wanted: tuple[str, ...], train: bool = False) -> list[str]:
    """The peers that a model has, of those wanted; a folded one cannot be trained."""
    return [
        peer
        for peer in wanted
        if not (peer.startswith("timm-") and peer_of(name) is None) and not (train and peer == "folded")
    ]


def model_options(name: str, img_size: int | Size | None) -> tuple[dict[str, Any], tuple[int, int, int]]:
    """Options for `create_model`, and the shape of an image; ValueError for a size that the model cannot take."""
    about = mlpzoo.create_model(name, device="meta").pretrained_cfg
    channels, height, width = about["input_size"]
    if img_size is None:
        return dict(NO_NOISE), (channels, height, width)
    options = {**NO_NOISE, "img_size": img_size} if about["fixed_input_size"] else dict(NO_NOISE)
    mlpzoo.create_model(name, device="meta", **options)
    height, width = to_2tuple(img_size)
    return options, (channels, height, width)


def check(options: Options, base: Base | None) -> None:
    """Raise ValueError unless every model can be built at the sizes asked for, here and in the other commit."""
    for name in options.models:
        for size in options.value("img_sizes") or [options.value("img_size")]:
            built_with, _ = model_options(name, size or None)
            if base:
                base.ask("check", name, built_with)


def build(name: str, options: Mapping[str, Any], peers: tuple[str, ...], train: bool = False) -> dict[str, Contender]:
    """Our model and its peers with the same random weights, ours first."""
    torch.manual_seed(0)
    ours = mlpzoo.create_model(name, **options)
    _disturb(ours)
    contenders = {OURS: Contender(model=ours)}
    for peer in peers_of(name, peers, train):
        contenders[peer] = PEERS[peer](name, ours, options)
    return contenders


def count_flops(name: str, options: Mapping[str, Any], image: tuple[int, int, int], train: bool) -> int:
    """Floating-point operations of one image, forward or forward and backward, as PyTorch's counter sees them.

    An op the counter does not know counts as nothing, and either implementation may have such ops: the larger of
    the two counts is taken. A backward pass counts as two forward ones, less the gradient of the images that nobody
    needs; what an implementation computes anew to save memory is not counted.
    """

    def count(impl: str, backward: bool, of_images: bool = False) -> int:
        model = mlpzoo.create_model(name, impl=impl, device="meta", **options)
        images = torch.empty(1, *image, device="meta", requires_grad=of_images)
        with torch.set_grad_enabled(backward), FlopCounterMode(display=False) as counter:
            logits = model(images)
            if backward:
                logits.backward(torch.empty_like(logits))
        return counter.get_total_flops()

    forward = max(count("auto", False), count("reference", False))
    if not train:
        return forward
    return 3 * forward - (count("reference", True, of_images=True) - count("reference", True))


def _disturb(model: nn.Module) -> None:
    """Move every parameter a little: fresh heads and biases are zero, and zeros would hide a wrong network."""
    with torch.no_grad():
        for parameter in model.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
            parameter.add_(torch.randn_like(parameter), alpha=0.1 * fan_in**-0.5)

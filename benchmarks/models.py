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
from benchmarks.report import OURS
from benchmarks.trial import Contender, Values
from mlpzoo.deploy import fold

Size = int | tuple[int, int]
"""Side of a square image, or height and width, in pixels."""
NO_NOISE = {"drop_rate": 0.0, "proj_drop_rate": 0.0, "drop_path_rate": 0.0}
"""Random drops are off, so that a training step has one right answer."""

TWINS: dict[str, str] = {
    **{f"mixer_{variant}": f"mixer_{variant}_224" for variant in ("s32", "s16", "b32", "b16", "l32", "l16")},
    **{f"resmlp_s{depth}": f"resmlp_{depth}_224" for depth in (12, 24, 36)},
    **{f"gmlp_{variant}": f"gmlp_{variant}_224" for variant in ("ti16", "s16", "b16")},
    "vit_ti16": "vit_tiny_patch16_224",
    **{f"vit_s{patch}": f"vit_small_patch{patch}_224" for patch in (16, 32)},
    **{f"vit_b{patch}": f"vit_base_patch{patch}_224" for patch in (16, 32)},
    **{f"vit_l{patch}": f"vit_large_patch{patch}_224" for patch in (16, 32)},
}
"""Models of timm's that compute what ours do."""

Builder = Callable[[str, nn.Module, Mapping[str, Any]], Contender]


def peer_of(name: str) -> tuple[str, dict[str, Any]] | None:
    """timm's model of the same architecture, and the options that make it compute the same; None if timm has none."""
    if name not in TWINS:
        return None
    config = mlpzoo.create_model(name, device="meta").config
    return TWINS[name], {"act_layer": get_act_layer(config.act_layer)}


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

    timm builds Mixer and ViT with the erf GELU, their authors with the tanh one. On a CPU PyTorch sends the erf form to
    oneDNN and takes about 0.4 of the tanh form's time for it (measured on 4.8 M floats, one thread of an AMD EPYC), so
    timm's own default is a few percent faster there than what is timed here.
    """
    peer = peer_of(name)
    assert peer is not None
    with torch.device("meta"):
        model = timm.create_model(peer[0], num_classes=ours.num_classes, **peer[1], **options)
    model.load_state_dict(timm_layout(name, options, ours.state_dict()), assign=True)
    return Contender(model=model, layout=lambda values: timm_layout(name, options, values))


def timm_nhwc(name: str, ours: nn.Module, options: Mapping[str, Any]) -> Contender:
    """The same in channels-last, the layout timm's own benchmarks find faster."""
    return dataclasses.replace(timm_nchw(name, ours, options), channels_last=True)


def folded(name: str, ours: nn.Module, options: Mapping[str, Any]) -> Contender:
    """Our own network, folded for inference."""
    return Contender(model=ours, prepare=fold)


PEERS: dict[str, Builder] = {
    "timm-nchw": timm_nchw,
    "timm-nhwc": timm_nhwc,
    "reference": reference,
    "folded": folded,
}


def peers_of(name: str, wanted: tuple[str, ...], train: bool = False) -> list[str]:
    """The peers that a model has, of those wanted; a folded one cannot be trained."""
    return [
        peer
        for peer in wanted
        if not (peer.startswith("timm-") and peer_of(name) is None) and not (train and peer == "folded")
    ]


def model_options(name: str, img_size: Size | None) -> tuple[dict[str, Any], tuple[int, int, int]]:
    """Options for `create_model`, and the shape of an image.

    Raises:
        ValueError: when the model cannot take images of that size.
    """
    about = mlpzoo.create_model(name, device="meta").pretrained_cfg
    channels, height, width = about["input_size"]
    if img_size is None:
        return dict(NO_NOISE), (channels, height, width)
    options = {**NO_NOISE, "img_size": img_size} if about["fixed_input_size"] else dict(NO_NOISE)
    mlpzoo.create_model(name, device="meta", **options)
    height, width = to_2tuple(img_size)
    return options, (channels, height, width)


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

"""Released formats of ViT and its hybrids."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mlpzoo.weights._keymap import (
    KeyMap,
    Layout,
    Pair,
    Rule,
    as_is,
    conv_kernel,
    dense_kernel,
    flat,
    reader,
    same,
    writer,
)


def into_heads(kernel: Tensor) -> Tensor:
    """flax's `(channels, heads, channels of a head)` to PyTorch's `(out, in)`."""
    return kernel.flatten(1).T


def out_of_heads(kernel: Tensor) -> Tensor:
    """flax's `(heads, channels of a head, channels)` to PyTorch's `(out, in)`."""
    return kernel.flatten(0, 1).T


def with_class_position(position: Tensor) -> Tensor:
    """A position for the class token, where the file has patches alone: none is the same as one of zeros."""
    if math.isqrt(position.shape[1]) ** 2 != position.shape[1]:
        return position
    return torch.cat([torch.zeros_like(position[:, :1]), position], dim=1)


def _linear(name: str, target: str, kernel: Layout = dense_kernel, bias: Layout = as_is, part: int = 0) -> list[Rule]:
    """The kernel and the bias of a dense layer or a convolution."""
    return [
        Rule(rf"{name}/kernel", rf"{target}.weight", kernel, part),
        Rule(rf"{name}/bias", rf"{target}.bias", bias, part),
    ]


def _norm(name: str, target: str) -> list[Rule]:
    """The scale and the bias of a norm."""
    return [Rule(rf"{name}/scale", rf"{target}.weight", flat), Rule(rf"{name}/bias", rf"{target}.bias", flat)]


def _flax(title: str, attention: str, norm2: str, mlp: str, positions: tuple[Rule, ...]) -> KeyMap:
    """flax numbers a block's modules either by class or, as it did at first, all together."""
    block = r"Transformer/encoderblock_(\d+)"
    unit = r"(block\d+)/(unit\d+)"
    return KeyMap(
        title,
        (
            Rule(r"conv_root/kernel", r"stem.backbone.conv_root.weight", conv_kernel),
            *_norm(r"gn_root", r"stem.backbone.gn_root"),
            Rule(rf"{unit}/(conv\w+)/kernel", r"stem.backbone.\1.\2.\3.weight", conv_kernel),
            *_norm(rf"{unit}/(gn\w+)", r"stem.backbone.\1.\2.\3"),
            *_linear(r"embedding", r"stem.proj", conv_kernel),
            *positions,
            *_norm(rf"{block}/LayerNorm_0", r"blocks.\1.norm1"),
            *_linear(rf"{block}/{attention}/query", r"blocks.\1.attn.qkv", into_heads, flat, 0),
            *_linear(rf"{block}/{attention}/key", r"blocks.\1.attn.qkv", into_heads, flat, 1),
            *_linear(rf"{block}/{attention}/value", r"blocks.\1.attn.qkv", into_heads, flat, 2),
            *_linear(rf"{block}/{attention}/out", r"blocks.\1.attn.proj", out_of_heads),
            *_norm(rf"{block}/{norm2}", r"blocks.\1.norm2"),
            *_linear(rf"{block}/{mlp}/Dense_0", r"blocks.\1.mlp.fc1"),
            *_linear(rf"{block}/{mlp}/Dense_1", r"blocks.\1.mlp.fc2"),
            *_norm(r"Transformer/encoder_norm", r"norm"),
            *_linear(r"pre_logits", r"pre_logits.fc"),
            *_linear(r"head", r"head"),
        ),
    )


# Names of a block's parts as the released files have them, and as today's flax gives them.
RELEASED = {"attention": "MultiHeadDotProductAttention_1", "norm2": "LayerNorm_2", "mlp": "MlpBlock_3"}
TODAY = {"attention": "MultiHeadDotProductAttention_0", "norm2": "LayerNorm_1", "mlp": "MlpBlock_0"}

POSITIONS = (Rule(r"cls", r"cls_token"), Rule(r"Transformer/posembed_input/pos_embedding", r"pos_embed"))
# big_vision keeps the position embeddings elsewhere, and in time came to give the class token none.
PATCH_POSITIONS = (Rule(r"(?:Transformer/)?pos_embedding", r"pos_embed"),)
CLASS_AND_PATCH_POSITIONS = (
    Rule(r"cls", r"cls_token"),
    Rule(r"(?:Transformer/)?pos_embedding", r"pos_embed", with_class_position),
)


def _timm(root: str) -> tuple[Pair, ...]:
    """timm's names, which DeiT's files have as well; those of hybrids with a ResNet begin with `root`.

    Stages and blocks of the ResNet count from 1 here: `_from_one` and `_from_zero` see to that.
    """
    here = "stem.backbone"
    unit = "stages.*.blocks.*"
    return (
        *same("cls_token", "pos_embed"),
        Pair("patch_embed.proj.*", "stem.proj.*"),
        Pair(f"{root}.conv.weight", f"{here}.conv_root.weight"),
        Pair(f"{root}.norm.*", f"{here}.gn_root.*"),
        *(Pair(f"patch_embed.backbone.{unit}.conv{i}.*", f"{here}.block*.unit*.conv{i}.*") for i in (1, 2, 3)),
        *(Pair(f"patch_embed.backbone.{unit}.norm{i}.*", f"{here}.block*.unit*.gn{i}.*") for i in (1, 2, 3)),
        Pair(f"patch_embed.backbone.{unit}.downsample.conv.*", f"{here}.block*.unit*.conv_proj.*"),
        Pair(f"patch_embed.backbone.{unit}.downsample.norm.*", f"{here}.block*.unit*.gn_proj.*"),
        *same("blocks.*.norm1.*", "blocks.*.attn.qkv.*", "blocks.*.attn.proj.*", "blocks.*.norm2.*"),
        *same("blocks.*.mlp.fc1.*", "blocks.*.mlp.fc2.*", "norm.*", "pre_logits.fc.*", "head.*"),
    )


def _from_one(names: Sequence[str]) -> list[str]:
    """Count stages and blocks of timm's ResNet from 1."""
    place = r"^(patch_embed\.backbone\.stages\.)(\d{1,3})(\.blocks\.)(\d{1,3})\."
    return [re.sub(place, lambda m: f"{m[1]}{int(m[2]) + 1}{m[3]}{int(m[4]) + 1}.", name) for name in names]


def _from_zero(names: Sequence[str]) -> list[str]:
    """Count stages and blocks of our ResNet from 0."""
    place = r"^(stem\.backbone\.block)(\d{1,3})(\.unit)(\d{1,3})\."
    return [re.sub(place, lambda m: f"{m[1]}{int(m[2]) - 1}{m[3]}{int(m[4]) - 1}.", name) for name in names]


# The ResNet of no stages is not called a stem there.
TIMM = _timm("patch_embed.backbone.stem")
TIMM_BARE_ROOT = _timm("patch_embed.backbone")

TORCHVISION = (
    Pair("class_token", "cls_token"),
    Pair("encoder.pos_embedding", "pos_embed"),
    Pair("conv_proj.*", "stem.proj.*"),
    Pair("encoder.layers.*.ln_1.*", "blocks.*.norm1.*"),
    Pair("encoder.layers.*.self_attention.in_proj_weight", "blocks.*.attn.qkv.weight"),
    Pair("encoder.layers.*.self_attention.in_proj_bias", "blocks.*.attn.qkv.bias"),
    Pair("encoder.layers.*.self_attention.out_proj.*", "blocks.*.attn.proj.*"),
    Pair("encoder.layers.*.ln_2.*", "blocks.*.norm2.*"),
    Pair("encoder.layers.*.mlp.0.*", "blocks.*.mlp.fc1.*"),
    Pair("encoder.layers.*.mlp.3.*", "blocks.*.mlp.fc2.*"),
    # Files made before torchvision 0.13 name the two linears.
    Pair("encoder.layers.*.mlp.linear_1.*", "blocks.*.mlp.fc1.*"),
    Pair("encoder.layers.*.mlp.linear_2.*", "blocks.*.mlp.fc2.*"),
    Pair("encoder.ln.*", "norm.*"),
    Pair("heads.head.*", "head.*"),
)


def _name_layers(names: Sequence[str]) -> list[str]:
    """Drop what torchvision says twice, so that `encoder.layers.encoder_layer_7.` becomes `encoder.layers.7.`."""
    return [re.sub(r"^(encoder\.layers\.)encoder_layer_", r"\1", name) for name in names]


KEY_MAPS = (
    _flax("the authors' flax .npz as released", **RELEASED, positions=POSITIONS),
    _flax("the authors' flax .npz as today's flax names it", **TODAY, positions=POSITIONS),
    *(
        _flax(f"big_vision's flax .npz, {era}", **names, positions=positions)
        for era, names in (("older naming", RELEASED), ("today's naming", TODAY))
        # A file without a class token fits both; the first that knows all names has it.
        for positions in (PATCH_POSITIONS, CLASS_AND_PATCH_POSITIONS)
    ),
    reader("timm's layout", TIMM, _from_one),
    reader("timm's layout", TIMM_BARE_ROOT, _from_one),
    reader("torchvision's layout", TORCHVISION, _name_layers),
)
TO_TIMM = writer("timm's layout", TIMM, _from_zero)
TO_TIMM_BARE_ROOT = writer("timm's layout", TIMM_BARE_ROOT, _from_zero)


def options_told_by(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Config fields that a state dict of these shapes, in our layout, was built with."""
    representation = shapes.get("pre_logits.fc.bias")
    return {"representation_size": representation[0]} if representation else {}

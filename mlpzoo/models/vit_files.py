"""The files of ViT and its hybrids: key maps of their formats, and where they are.

Names of files are from the authors' `vit_jax.ipynb` (c6de1e5), which lists the bucket, and from timm's tables of the
AugReg files. Where a tag ends in a number, that is the resolution; where it does not, it is 224.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor

from mlpzoo.models._family import Weights
from mlpzoo.models._keymap import (
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
FIRST = {"attention": "MultiHeadDotProductAttention_1", "norm2": "LayerNorm_2", "mlp": "MlpBlock_3"}
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
    """Count stages and blocks of our ResNet from 0, and mark the root of a ResNet that has no stages."""
    if not any(name.startswith("stem.backbone.block") for name in names):
        return [name.replace("stem.backbone.", "stem.backbone.alone.") for name in names]
    place = r"^(stem\.backbone\.block)(\d{1,3})(\.unit)(\d{1,3})\."
    return [re.sub(place, lambda m: f"{m[1]}{int(m[2]) - 1}{m[3]}{int(m[4]) - 1}.", name) for name in names]


# The ResNet of no stages is not called a stem there.
TIMM_PAIRS = _timm("patch_embed.backbone.stem")
TIMM_BARE_PAIRS = _timm("patch_embed.backbone")

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


FORMATS = (
    _flax("the authors' flax .npz as released", **FIRST, positions=POSITIONS),
    _flax("the authors' flax .npz as today's flax names it", **TODAY, positions=POSITIONS),
    *(
        _flax(f"big_vision's flax .npz, {era}", **names, positions=positions)
        for era, names in (("older naming", FIRST), ("today's naming", TODAY))
        # A file without a class token fits both; the first that knows all names has it.
        for positions in (PATCH_POSITIONS, CLASS_AND_PATCH_POSITIONS)
    ),
    reader("timm's layout", TIMM_PAIRS, _from_one),
    reader("timm's layout", TIMM_BARE_PAIRS, _from_one),
    reader("torchvision's layout", TORCHVISION, _name_layers),
)
TO_TIMM = writer(
    "timm's layout",
    (
        *TIMM_PAIRS,
        Pair("patch_embed.backbone.conv.weight", "stem.backbone.alone.conv_root.weight"),
        Pair("patch_embed.backbone.norm.*", "stem.backbone.alone.gn_root.*"),
    ),
    _from_zero,
)


BUCKET = "https://storage.googleapis.com/vit_models"
TIMM = "timm's results-imagenet.csv at aa4b585"

# Variant, pre-training, learning rate of fine-tuning, top-1 by resolution: the files that timm's tables name.
AUGREG = (
    ("vit_ti16", "Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0", "0.03", {224: 75.45, 384: 78.44}),
    ("vit_s32", "S_32-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0", "0.03", {224: 76.01, 384: 80.48}),
    ("vit_s16", "S_16-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0", "0.03", {224: 81.40, 384: 83.81}),
    ("vit_s16", "S_16-i1k-300ep-lr_0.001-aug_medium2-wd_0.1-do_0.0-sd_0.0", "0.01", {224: 78.84, 384: 81.13}),
    ("vit_b32", "B_32-i21k-300ep-lr_0.001-aug_medium1-wd_0.03-do_0.0-sd_0.0", "0.03", {224: 80.73}),
    ("vit_b32", "B_32-i21k-300ep-lr_0.001-aug_light1-wd_0.1-do_0.0-sd_0.0", "0.03", {384: 83.36}),
    ("vit_b32", "B_32-i1k-300ep-lr_0.001-aug_medium2-wd_0.1-do_0.1-sd_0.1", "0.01", {224: 74.91, 384: 78.75}),
    ("vit_b16", "B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0", "0.01", {224: 84.53, 384: 86.01}),
    ("vit_b16", "B_16-i1k-300ep-lr_0.001-aug_strong2-wd_0.1-do_0.1-sd_0.1", "0.01", {224: 79.15, 384: 81.10}),
    ("vit_b8", "B_8-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0", "0.01", {224: 85.84}),
    ("vit_l16", "L_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.1-sd_0.1", "0.01", {224: 85.86, 384: 87.10}),
    ("vit_r_ti16", "R_Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0", "0.03", {224: 71.80, 384: 75.96}),
    ("vit_r26_s32", "R26_S_32-i21k-300ep-lr_0.001-aug_light0-wd_0.03-do_0.1-sd_0.1", "0.03", {224: 81.86}),
    ("vit_r26_s32", "R26_S_32-i21k-300ep-lr_0.001-aug_medium2-wd_0.03-do_0.0-sd_0.0", "0.03", {384: 84.07}),
    ("vit_r50_l32", "R50_L_32-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.1-sd_0.1", "0.01", {224: 84.43}),
    ("vit_r50_l32", "R50_L_32-i21k-300ep-lr_0.001-aug_medium2-wd_0.1-do_0.0-sd_0.0", "0.01", {384: 86.19}),
)
# The paper's own fine-tuned files: name, variant, resolution, top-1 where timm measured it.
FINE_TUNED = (
    ("ViT-B_16-224", "vit_b16", 224, 81.78),
    ("ViT-B_16", "vit_b16", 384, 84.21),
    ("ViT-B_32", "vit_b32", 384, None),
    ("ViT-B_8", "vit_b8", 384, None),
    ("ViT-L_16-224", "vit_l16", 224, None),
    ("ViT-L_16", "vit_l16", 384, None),
    ("ViT-L_32", "vit_l32", 384, 81.51),
    ("R50+ViT-B_16", "vit_r50_b16", 384, 84.99),
)
# The paper's own pre-trained files: name, variant, units of the representation layer. Their heads hold zeros.
PRETRAINED = (
    ("ViT-B_32", "vit_b32", 768),
    ("ViT-B_16", "vit_b16", 768),
    ("ViT-B_8", "vit_b8", 768),
    ("ViT-L_32", "vit_l32", 1024),
    ("ViT-L_16", "vit_l16", 1024),
    ("ViT-H_14", "vit_h14", 1280),
    ("R26+ViT-B_32", "vit_r26_b32", 768),
    ("R50+ViT-B_16", "vit_r50_b16", 768),
)
# Trained on ImageNet-1k alone with sharpness-aware minimization (arXiv:2106.01548): name, variant, top-1.
SAM = (
    ("ViT-B_32", "vit_b32", 73.70),
    ("ViT-B_16", "vit_b16", 80.25),
    ("ViT-L_32", "vit_l32", None),
    ("ViT-L_16", "vit_l16", None),
)
# DeiT without distillation (arXiv:2012.12877), trained in PyTorch and so with GELU in its exact form: file, variant,
# top-1.
DEIT = (
    ("deit_tiny_patch16_224-a1311bcf", "vit_ti16", 72.19),
    ("deit_small_patch16_224-cd65a155", "vit_s16", 79.86),
    ("deit_base_patch16_224-b5f2ef4d", "vit_b16", 81.98),
)


def _file(path: str, resolution: int = 224, top1: float | None = None, **options: Any) -> Weights:
    if resolution != 224:
        options["overrides"] = {"img_size": resolution}
    return Weights(
        url=f"{BUCKET}/{path}.npz",
        license="Apache-2.0",
        top1=top1,
        top1_source=TIMM if top1 else "",
        crop_pct=0.9 if resolution == 224 else 1.0,
        **options,
    )


def _released() -> dict[str, Weights]:
    """Every file; a variant's first is its default."""
    files = {}
    for variant, pretraining, lr, scores in AUGREG:
        data = "in1k" if "-i1k-" in pretraining else "in21k_ft_in1k"
        for side, top1 in scores.items():
            path = f"augreg/{pretraining}--imagenet2012-steps_20k-lr_{lr}-res_{side}"
            files[f"{variant}.augreg_{data}{_suffix(side)}"] = _file(path, side, top1)
        if data == "in21k_ft_in1k":
            # Where two pre-trainings are listed, this becomes the one that was fine-tuned at 384.
            files[f"{variant}.augreg_in21k"] = _file(f"augreg/{pretraining}", num_classes=21843)
    for name, variant, side, score in FINE_TUNED:
        files[f"{variant}.orig_in21k_ft_in1k{_suffix(side)}"] = _file(f"imagenet21k+imagenet2012/{name}", side, score)
    for name, variant, size in PRETRAINED:
        overrides = {"representation_size": size}
        files[f"{variant}.orig_in21k"] = _file(f"imagenet21k/{name}", num_classes=0, overrides=overrides)
    for name, variant, score in SAM:
        files[f"{variant}.sam_in1k"] = _file(f"sam/{name}", top1=score)
    for name, variant, score in DEIT:
        files[f"{variant}.fb_deit_in1k"] = Weights(
            url=f"https://dl.fbaipublicfiles.com/deit/{name}.pth",
            license="Apache-2.0",
            top1=score,
            top1_source=TIMM,
            overrides={"act_layer": "gelu"},
            mean=IMAGENET_DEFAULT_MEAN,
            std=IMAGENET_DEFAULT_STD,
            crop_pct=0.9,
        )
    return files


def _suffix(resolution: int) -> str:
    return "" if resolution == 224 else f"_{resolution}"


RELEASED = _released()

"""ViT for the tests."""

import numpy as np
import timm
from cases import Case

from families import FamilyCase, TimmTwin
from families._lists import dense, flax_norm, tokens_of


def resnet(depths):
    """The ResNet in front of a hybrid, width 64."""
    names = {"conv_root/kernel": (7, 7, 3, 64), **flax_norm("gn_root", 64)}
    dim = 64
    for stage, depth in enumerate(depths):
        width = 64 * 2**stage
        for unit in range(depth):
            name = f"block{stage + 1}/unit{unit + 1}"
            sides = (("1", dim, width, 1), ("2", width, width, 3), ("3", width, 4 * width, 1))
            sides += (("_proj", dim, 4 * width, 1),) if unit == 0 else ()
            for which, dim_in, dim_out, side in sides:
                names[f"{name}/conv{which}/kernel"] = (side, side, dim_in, dim_out)
                names |= {f"{name}/gn{which}/{leaf}": (1, 1, 1, dim_out) for leaf in ("scale", "bias")}
            dim = 4 * width
    return names, dim, 4 * 2 ** max(len(depths) - 1, 0)


def vit(config, attention="MultiHeadDotProductAttention_1", norm2="LayerNorm_2", mlp="MlpBlock_3"):
    dim, heads = config.embed_dim, config.num_heads
    names, channels, stride = ({}, 3, 1) if config.resnet_depths is None else resnet(config.resnet_depths)
    patch = config.patch_size // stride
    names |= {"embedding/kernel": (patch, patch, channels, dim), "embedding/bias": (dim,)}
    names |= {"cls": (1, 1, dim)} if config.class_token else {}
    names["Transformer/posembed_input/pos_embedding"] = (1, tokens_of(config) + config.class_token, dim)
    for i in range(config.depth):
        block = f"Transformer/encoderblock_{i}"
        names |= flax_norm(f"{block}/LayerNorm_0", dim) | flax_norm(f"{block}/{norm2}", dim)
        for part in ("query", "key", "value"):
            names[f"{block}/{attention}/{part}/kernel"] = (dim, heads, dim // heads)
            names[f"{block}/{attention}/{part}/bias"] = (heads, dim // heads)
        names[f"{block}/{attention}/out/kernel"] = (heads, dim // heads, dim)
        names[f"{block}/{attention}/out/bias"] = (dim,)
        names |= dense(f"{block}/{mlp}/Dense_0", dim, config.mlp_dim)
        names |= dense(f"{block}/{mlp}/Dense_1", config.mlp_dim, dim)
    names |= flax_norm("Transformer/encoder_norm", dim)
    width = config.representation_size or dim
    if config.representation_size:
        names |= dense("pre_logits", dim, width)
    return names | dense("head", width, config.num_classes)


def vit_today(config):
    """As today's flax counts the modules of a block."""
    return vit(config, "MultiHeadDotProductAttention_0", "LayerNorm_1", "MlpBlock_0")


def vit_big_vision(config):
    """Positions at the top, none for the class token."""
    names = vit_today(config)
    _, _, dim = names.pop("Transformer/posembed_input/pos_embedding")
    return names | {"pos_embedding": (1, tokens_of(config), dim)}


# The authors' `Encoder` hands no dtype to its blocks, whose own default is float32. With the blocks patched to
# float64, their code and ours agree to 3e-14 standard deviations on R26_S_32.
FLOAT32 = float(np.finfo(np.float32).eps)

SIZES = {"embed_dim": 12, "depth": 2, "num_heads": 3, "mlp_dim": 20, "img_size": 64, "num_classes": 5}
EXACT = {**SIZES, "act_layer": "gelu"}
TIMM_SIZES = {"img_size": 64, "embed_dim": 12, "depth": 2, "num_heads": 3, "mlp_ratio": 20 / 12, "num_classes": 5}

CASE = FamilyCase(
    family="vit",
    model="vit_s16",
    small={"img_size": (48, 64), "embed_dim": 16, "depth": 4, "num_heads": 2, "mlp_dim": 24},
    # The reader tells a class token without a position by a square number of positions.
    shallow={"depth": 1, "img_size": 64},
    settings=(
        {"representation_size": 5, "attn_drop_rate": 0.5, "pos_drop_rate": 0.5},
        {"resnet_depths": (1, 1), "resnet_width": 32, "img_size": (64, 96)},
        {"class_token": False, "global_pool": "avg", "patch_size": (12, 16)},
    ),
    key_lists=(vit, vit_today, vit_big_vision),
    conformance=(
        Case("ViT-Ti_16", "vit_ti16", truth_eps=FLOAT32),
        Case("ViT-B_32", "vit_b32", truth_eps=FLOAT32),
        Case("ViT-S_16-gap", "vit_s16_gap", truth_eps=FLOAT32),
        Case("ViT-B_16-prelogits", "vit_b16", {"representation_size": 768}, truth_eps=FLOAT32),
        Case("R26_S_32", "vit_r26_s32", truth_eps=FLOAT32, has_kinks=True),
        Case("R_Ti_16", "vit_r_ti16", has_kinks=True),
    ),
    parameters={
        "vit_ti16": 5_717_416,
        "vit_s16": 22_050_664,
        "vit_b16": 86_567_656,
        "vit_l16": 304_326_632,
        "vit_r26_s32": 36_431_912,
    },
    twins=(
        TimmTwin(name="vit", build=lambda: timm.models.VisionTransformer(**TIMM_SIZES), model="vit_s16", options=EXACT),
        TimmTwin(
            name="vit_gap",
            build=lambda: timm.models.VisionTransformer(
                **TIMM_SIZES, class_token=False, global_pool="avg", fc_norm=False
            ),
            model="vit_s16_gap",
            options={**EXACT, "class_token": False, "global_pool": "avg"},
        ),
        # timm's GroupNorms have PyTorch's epsilon, 1e-5, where the authors' have 1e-6.
        TimmTwin(
            name="vit_r",
            build=lambda: timm.create_model("vit_tiny_r_s16_p8_224", **TIMM_SIZES),
            model="vit_r_ti16",
            options=EXACT,
            tolerance=1e-3,
        ),
        TimmTwin(
            name="vit_r26",
            build=lambda: timm.create_model("vit_small_r26_s32_224", **TIMM_SIZES),
            model="vit_r26_s32",
            options=EXACT,
            tolerance=1e-3,
        ),
    ),
    slow_to_compile=False,
)

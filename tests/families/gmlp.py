"""gMLP for the tests."""

import timm

from families import FamilyCase, TimmTwin
from families._lists import conv, linear, norm, tokens_of


def gmlp(config):
    """timm's: the authors released none."""
    dim, hidden, tokens = config.embed_dim, config.mlp_dim, tokens_of(config)
    names = conv("stem.proj", 3, dim, config.patch_size)
    for i in range(config.depth):
        mlp = f"blocks.{i}.mlp_channels"
        names |= norm(f"blocks.{i}.norm", dim) | norm(f"{mlp}.gate.norm", hidden // 2)
        names |= linear(f"{mlp}.fc1", dim, hidden) | linear(f"{mlp}.fc2", hidden // 2, dim)
        names |= linear(f"{mlp}.gate.proj", tokens, tokens)
        if config.attn_dim:
            # The paper's, which timm does not have: the names are ours.
            names |= linear(f"{mlp}.attn.qkv", dim, 3 * config.attn_dim)
            names |= linear(f"{mlp}.attn.proj", config.attn_dim, hidden // 2)
    return names | norm("norm", dim) | linear("head", dim, config.num_classes)


CASE = FamilyCase(
    family="gmlp",
    model="gmlp_ti16",
    small={"img_size": (48, 64), "embed_dim": 16, "depth": 4, "mlp_dim": 24, "attn_dim": 4},
    settings=({"attn_dim": 0},),
    key_lists=(gmlp,),
    parameters={"gmlp_ti16": 5_867_328, "gmlp_s16": 19_422_656, "gmlp_b16": 73_075_392},
    twins=(
        TimmTwin(
            name="gmlp",
            build=lambda: timm.models.mlp_mixer.MlpMixer(
                img_size=64,
                embed_dim=8,
                num_blocks=3,
                num_classes=5,
                mlp_ratio=2,
                block_layer=timm.models.mlp_mixer.SpatialGatingBlock,
                mlp_layer=timm.layers.GatedMlp,
            ),
            model="gmlp_s16",
            options={"embed_dim": 8, "depth": 3, "mlp_dim": 16, "img_size": 64, "num_classes": 5},
        ),
    ),
    slow_to_compile=False,
)

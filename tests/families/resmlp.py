"""ResMLP for the tests."""

import timm
from cases import Case

from families import FamilyCase, TimmTwin
from families._lists import conv, linear, tokens_of


def resmlp(config):
    dim, tokens = config.embed_dim, tokens_of(config)
    hidden = int(dim * config.mlp_ratio)
    names = conv("patch_embed.proj", 3, dim, config.patch_size)
    for i in range(config.depth):
        block = f"blocks.{i}"
        names |= {f"{block}.norm{n}.{leaf}": (dim,) for n in (1, 2) for leaf in ("alpha", "beta")}
        names |= {f"{block}.gamma_{n}": (dim,) for n in (1, 2)}
        names |= linear(f"{block}.attn", tokens, tokens)
        names |= linear(f"{block}.mlp.fc1", dim, hidden) | linear(f"{block}.mlp.fc2", hidden, dim)
    return names | {"norm.alpha": (dim,), "norm.beta": (dim,)} | linear("head", dim, config.num_classes)


CASE = FamilyCase(
    family="resmlp",
    model="resmlp_s24",
    # Scales of 1e-5 would hide the blocks.
    small={"img_size": (48, 64), "embed_dim": 16, "depth": 4, "layer_scale_init": 0.5},
    settings=({"img_size": (16, 80), "embed_dim": 23, "mlp_ratio": 1.3, "impl": "reference"},),
    key_lists=(resmlp,),
    conformance=(Case("resmlp_12", "resmlp_s12"), Case("resmlpB_24", "resmlp_b24_p8")),
    parameters={
        "resmlp_s12": 15_350_872,
        "resmlp_s24": 30_020_680,
        "resmlp_s36": 44_690_488,
        "resmlp_b24_p8": 129_138_280,
    },
    twins=(
        TimmTwin(
            name="resmlp",
            build=lambda: timm.models.mlp_mixer.MlpMixer(
                img_size=64,
                embed_dim=8,
                num_blocks=3,
                num_classes=5,
                mlp_ratio=4,
                block_layer=timm.models.mlp_mixer.ResBlock,
                norm_layer=timm.models.mlp_mixer.Affine,
            ),
            model="resmlp_s12",
            options={"embed_dim": 8, "depth": 3, "img_size": 64, "num_classes": 5},
        ),
    ),
    slow_to_compile=False,
)

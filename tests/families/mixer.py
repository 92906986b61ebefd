"""MLP-Mixer for the tests."""

import timm
from cases import Case

from families import FamilyCase, TimmTwin
from families._lists import dense, flax_norm, tokens_of


def mixer(config):
    dim, tokens = config.embed_dim, tokens_of(config)
    names = {"stem/kernel": (config.patch_size, config.patch_size, 3, dim), "stem/bias": (dim,)}
    for i in range(config.depth):
        block = f"MixerBlock_{i}"
        names |= flax_norm(f"{block}/LayerNorm_0", dim) | flax_norm(f"{block}/LayerNorm_1", dim)
        for mixing, width, hidden in (
            ("token", tokens, config.tokens_mlp_dim),
            ("channel", dim, config.channels_mlp_dim),
        ):
            names |= dense(f"{block}/{mixing}_mixing/Dense_0", width, hidden)
            names |= dense(f"{block}/{mixing}_mixing/Dense_1", hidden, width)
    return names | flax_norm("pre_head_layer_norm", dim) | dense("head", dim, config.num_classes)


def old_mixer(config):
    """As big_vision still reads them: kernels with an axis of length one, modules of a block counted all together."""
    names = {}
    for name, shape in mixer(config).items():
        name = name.replace("MixerBlock_", "Mixer/encoderblock_").replace("pre_head_layer_norm", "Mixer/encoder_norm")
        name = name.replace("stem/", "embedding/").replace("LayerNorm_1", "LayerNorm_2")
        name = name.replace("token_mixing", "token_mixing_phase_1").replace("channel_mixing", "channel_mixing_phase_3")
        if "phase" in name:
            name = name.replace("/Dense_0/kernel", "/kernel1").replace("/Dense_0/bias", "/bias1")
            name = name.replace("/Dense_1/kernel", "/kernel2").replace("/Dense_1/bias", "/bias2")
            shape = (1, *shape)
        names[name] = shape
    return names


SIZES = {"embed_dim": 8, "depth": 3, "tokens_mlp_dim": 6, "channels_mlp_dim": 12, "img_size": 64, "num_classes": 5}

CASE = FamilyCase(
    family="mixer",
    model="mixer_s16",
    small={"img_size": (48, 64), "embed_dim": 16, "depth": 4, "tokens_mlp_dim": 8, "channels_mlp_dim": 24},
    settings=({"act_layer": "silu", "impl": "reference"},),
    key_lists=(mixer, old_mixer),
    conformance=(Case("Mixer-B_16", "mixer_b16"), Case("Mixer-S_32", "mixer_s32")),
    parameters={
        "mixer_s32": 19_104_624,
        "mixer_s16": 18_528_264,
        "mixer_b32": 60_293_428,
        "mixer_b16": 59_880_472,
        "mixer_l32": 206_939_264,
        "mixer_l16": 208_196_168,
    },
    twins=(
        TimmTwin(
            name="mixer",
            build=lambda: timm.models.MlpMixer(
                img_size=64, embed_dim=8, num_blocks=3, num_classes=5, mlp_ratio=(0.75, 1.5)
            ),
            model="mixer_s16",
            options={**SIZES, "act_layer": "gelu"},
        ),
    ),
    slow_to_compile=False,
)

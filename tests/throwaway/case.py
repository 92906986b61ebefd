"""Blender for the tests."""

from families import FamilyCase
from families._lists import batch_norm, conv, linear, norm, tokens_of


def blender(config):
    dim, tokens = config.embed_dim, tokens_of(config)
    names = conv("patches", 3, dim, config.patch_size)
    for i in range(config.depth):
        layer = f"layers.{i}"
        names |= linear(f"{layer}.tokens", tokens, tokens) | linear(f"{layer}.up", dim, dim)
        names |= batch_norm(f"{layer}.bn", dim) | linear(f"{layer}.down", dim, dim) | {f"{layer}.gamma": (dim,)}
    return names | norm("ln", dim) | linear("fc", dim, config.num_classes)


CASE = FamilyCase(
    family="blender",
    model="blender_s16",
    small={"img_size": (48, 64), "embed_dim": 16, "depth": 4},
    settings=({"speed": 2.0},),
    key_lists=(blender,),
    wrapper="model",
    parameters={"blender_s16": 255_716},
)

"""FF-only for the tests."""

from cases import Case

from families import FamilyCase
from families._lists import conv, linear, norm, tokens_of


def ff_only(config):
    dim, tokens = config.embed_dim, 1 + tokens_of(config)
    names = {"cls_token": (1, 1, dim), "pos_encoding.pos_embed": (1, dim, *config.pos_grid)}
    names |= {"pos_encoding.cls_pos_embed": (1, 1, dim), **conv("patch_embed.proj", 3, dim, config.patch_size)}
    for i in range(config.depth):
        block, hidden = f"blocks.{i}", config.tokens_mlp_dim
        names |= norm(f"{block}.norm1", dim) | norm(f"{block}.norm2", tokens)
        names |= linear(f"{block}.mlp1.fc1", dim, 4 * dim) | linear(f"{block}.mlp1.fc2", 4 * dim, dim)
        names |= linear(f"{block}.mlp2.fc1", tokens, hidden) | linear(f"{block}.mlp2.fc2", hidden, tokens)
    return names | norm("norm", dim) | linear("head", dim, config.num_classes)


CASE = FamilyCase(
    family="ff_only",
    model="ff_only_tiny",
    small={"img_size": (48, 64), "embed_dim": 12, "depth": 3, "tokens_mlp_dim": 20, "pos_grid": (3, 4)},
    settings=({"pos_grid": (5, 3)},),
    key_lists=(ff_only,),
    wrapper="model",
    conformance=(
        Case("linear_tiny", "ff_only_tiny"),
        Case("linear_base", "ff_only_base", slow=True),
    ),
    parameters={"ff_only_tiny": 7_676_332, "ff_only_base": 61_943_020, "ff_only_large": 206_363_576},
    slow_to_compile=False,
)

"""SPACH for the tests."""

from cases import Case

from families import FamilyCase
from families._lists import conv, linear, norm


def spach(config):
    dims, (height, width) = config.embed_dims, config.image_size
    names = conv("stem.proj", 3, dims[0], 4) | norm("norm1", dims[0])
    for stage, (dim, depth) in enumerate(zip(dims, config.depths, strict=True)):
        layer = f"layer{stage + 1}"
        tokens = height * width // (4 * 2**stage) ** 2
        if stage:
            names[f"{layer}.0.net.1.0.weight"] = (dim, dims[stage - 1], 2, 2)
            names |= norm(f"{layer}.0.net.1.1", dim)
        for i in range(depth):
            block = f"{layer}.{i + bool(stage)}"
            hidden, token_hidden = int(dim * config.mlp_ratios[stage]), config.token_mlp_dims[stage]
            if token_hidden:
                names[f"{block}.gamma_1"] = (1, 1, dim)
                names |= norm(f"{block}.norm1", dim)
                names |= linear(f"{block}.spatial_func.fc1", tokens, token_hidden)
                names |= linear(f"{block}.spatial_func.fc2", token_hidden, tokens)
            names |= linear(f"{block}.channel_func.fc1", dim, hidden)
            names |= linear(f"{block}.channel_func.fc2", hidden, dim)
            names |= norm(f"{block}.norm2", dim) | conv(f"{block}.cpe_net.net.1", 1, dim, 3)
    return names | norm("norm2", dims[-1]) | linear("head", dims[-1], config.num_classes)


CASE = FamilyCase(
    family="spach",
    model="spach_ms_xxs_mlp",
    small={
        "img_size": (64, 96),
        "embed_dims": (8, 12, 16, 24),
        "depths": (1, 2, 1, 1),
        "token_mlp_dims": (0, 6, 4, 3),
        "drop_path_rate": 0.0,
    },
    shallow={"embed_dims": (8, 12), "depths": (1, 1), "mlp_ratios": (1, 2), "token_mlp_dims": (0, 6)},
    another_size=(96, 64),
    key_lists=(spach,),
    wrapper="model",
    conformance=(
        Case("spach_ms_xxs_mlp", "spach_ms_xxs_mlp", slow_in_float64=True),
        Case("spach_ms_xs_mlp", "spach_ms_xs_mlp", slow_in_float64=True),
    ),
    parameters={"spach_ms_xxs_mlp": 6_562_446, "spach_ms_xs_mlp": 20_260_283, "spach_ms_s_mlp": 46_542_011},
)

"""DynaMixer for the tests."""

from cases import Case

from families import FamilyCase
from families._lists import conv, linear, norm, pyramid_block


def dynamixer(config):
    """Stages and the convolutions between them in one list."""
    dims, (height, width) = config.embed_dims, config.image_size
    names = conv("patch_embed.proj", 3, dims[0], config.patch_size)
    place, stride = 0, config.patch_size
    for stage, (dim, depth) in enumerate(zip(dims, config.depths, strict=True)):
        if config.halvings[stage]:
            names |= conv(f"network.{place}.proj", dims[stage - 1], dim, 2)
            place, stride = place + 1, 2 * stride
        reduced = config.reduced_dim
        for i in range(depth):
            block = f"network.{place}.{i}"
            branches = linear(f"{block}.attn.mlp_c", dim, dim, bias=False)
            for axis, length in (("h", height // stride), ("w", width // stride)):
                mix = f"{block}.attn.mix_{axis}"
                branches |= linear(f"{mix}.out", dim, dim)
                branches |= linear(f"{mix}.compress", dim, config.num_heads[stage] * reduced)
                branches |= linear(f"{mix}.generate", length * reduced, length**2)
            names |= pyramid_block(block, dim, config.mlp_ratios[stage], branches)
        place += 1
    return names | norm("norm", dims[-1]) | linear("head", dims[-1], config.num_classes)


CASE = FamilyCase(
    family="dynamixer",
    model="dynamixer_s",
    small={
        "img_size": (56, 84),
        "embed_dims": (8, 16, 16),
        "depths": (1, 2, 1),
        "mlp_ratios": (2, 2, 2),
        "halvings": (False, True, False),
        "num_heads": (2, 4, 2),
        "drop_path_rate": 0.0,
    },
    shallow={
        "embed_dims": (8, 8),
        "depths": (1, 1),
        "mlp_ratios": (1, 2),
        "halvings": (False, True),
        "num_heads": (2, 4),
    },
    another_size=(84, 42),
    settings=({"feature_norms": True, "reduced_dim": 1, "proj_drop_rate": 0.1},),
    key_lists=(dynamixer,),
    conformance=(
        Case("dynamixer_s", "dynamixer_s", slow_in_float64=True),
        Case("dynamixer_m", "dynamixer_m", slow=True),
    ),
    parameters={"dynamixer_s": 26_265_960, "dynamixer_m": 57_128_264, "dynamixer_l": 97_818_088},
)

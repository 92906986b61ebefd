"""Strip-MLP for the tests."""

from cases import Case

from families import FamilyCase
from families._lists import batch_norm, conv, linear, norm

SHORTCUTS = {2: ("conv_s1_28",), 3: ("conv_s1_14", "conv_s2_14")}


def strip_mlp(config):
    dims, (height, width) = config.embed_dims, config.image_size
    names = {"patch_embed.weight": (dims[0], 3, 4, 4)}
    for stage, (dim, depth) in enumerate(zip(dims, config.depths, strict=True)):
        rows, columns = height // (4 * 2**stage), width // (4 * 2**stage)
        half, groups = dim // 2, dim // (2 * (2 if dim % 80 == 0 else 4))
        if stage:
            names[f"merging{stage}.weight"] = (dim, dims[stage - 1], 2, 2)
            names |= {f"{name}.weight": (dim, 1, 2, 2) for name in SHORTCUTS.get(stage, ())}
        for i in range(depth):
            block = f"blocks{stage + 1}.{i}"
            local, strip = f"{block}.token_mixing.dwsc.conv_merge", f"{block}.token_mixing.smlp_block"
            names |= batch_norm(f"{local}.BN", dim) | {f"{local}.Conv.weight": (dim, 1, 3, 3)}
            names |= conv(f"{strip}.mlp.0", dim, dim, 1) | batch_norm(f"{strip}.mlp.1", dim)
            names |= batch_norm(f"{strip}.BN", half)
            # Their h is the width.
            for name, length in (("proj_h", columns), ("proj_w", rows)):
                names |= {f"{strip}.{name}.weight": (length * groups, length, 1, 3)}
                names |= {f"{strip}.{name}.bias": (length * groups,)}
            names |= {f"{strip}.fuse_{axis}.weight": (half, dim, 1, 1) for axis in "hw"}
            names |= {f"{strip}.fc_h.weight": (half, 1, 3, 7), f"{strip}.fc_w.weight": (half, 1, 7, 3)}
            names |= conv(f"{strip}.reweight.fc1", half, half // 2, 1)
            names |= conv(f"{strip}.reweight.fc2", half // 2, 3 * half, 1)
            names |= {f"{strip}.fuse.weight": (dim, dim, 1, 1)}
            names |= {f"{strip}.relate_pos_{axis}.embeddings_table": (rows + columns + 1, half) for axis in "hw"}
            mixing, hidden = f"{block}.channel_mixing", int(dim * config.mlp_ratios[stage])
            names |= {f"{mixing}.conv_77.weight": (dim, 1, 7, 7)} | norm(f"{mixing}.layer_norm", dim)
            names |= linear(f"{mixing}.fc1", dim, hidden) | linear(f"{mixing}.fc2", hidden, dim)
            names |= {f"{mixing}.grn.{name}": (1, 1, 1, hidden) for name in ("gamma", "beta")}
    return names | batch_norm("norm", dims[-1]) | linear("head", dims[-1], config.num_classes)


CASE = FamilyCase(
    family="strip_mlp",
    model="strip_mlp_t_light",
    small={
        "img_size": (64, 96),
        "embed_dims": (8, 16, 32, 64),
        "depths": (1, 2, 1, 1),
        "mlp_ratios": (2, 2, 2, 1),
        "drop_path_rate": 0.0,
    },
    shallow={"embed_dims": (8, 16), "depths": (1, 1), "mlp_ratios": (1, 2)},
    another_size=(96, 64),
    key_lists=(strip_mlp,),
    wrapper="model",
    conformance=(
        Case("strip_mlp_t_light", "strip_mlp_t_light", slow_in_float64=True),
        Case("strip_mlp_s", "strip_mlp_s", slow_in_float64=True),
    ),
    parameters={
        "strip_mlp_t_light": 18_243_920,
        "strip_mlp_t": 24_903_920,
        "strip_mlp_s": 42_568_600,
        "strip_mlp_b": 57_216_480,
    },
)

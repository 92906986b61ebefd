"""PosMLP for the tests."""

from cases import Case

from families import FamilyCase
from families._lists import batch_norm, conv, linear, norm


def posmlp(config):
    dims = config.embed_dims
    names = conv("patch_embed.projs.0", 3, dims[0] // 2, 3) | batch_norm("patch_embed.norms.0", dims[0] // 2)
    names |= conv("patch_embed.projs.1", dims[0] // 2, dims[0], 3) | batch_norm("patch_embed.norms.1", dims[0])
    names |= conv("patch_embed.projs.2", dims[0], dims[0], 1) | batch_norm("patch_embed.norms.2", dims[0])
    for i, (dim, depth, ratio) in enumerate(zip(dims, config.depths, config.mlp_ratios, strict=True)):
        if i:
            names |= conv(f"levels.{i}.pool.conv", 1, dim, 3) | norm(f"levels.{i}.pool.norm", dim)
        hidden, gamma, positions = int(dim * ratio), config.gammas[i], config.window_sizes[i] ** 2
        for j in range(depth):
            block = f"levels.{i}.encoder.{j}"
            names |= norm(f"{block}.norm", dim) | linear(f"{block}.proj_c_e", dim, hidden)
            names |= linear(f"{block}.proj_c_s", hidden // 2, dim)
            names |= {
                f"{block}.gate_unit.pos.attention_centers": (gamma, 2),
                f"{block}.gate_unit.pos.attention_spreads": (gamma, 2, 2),
                f"{block}.gate_unit.pos.token_proj_n_bias": (1, positions, 1),
                f"{block}.gate_unit.pos.rel_indices": (positions, positions, 5),
            }
    return names | norm("norm", dims[-1]) | linear("head", dims[-1], config.num_classes)


CASE = FamilyCase(
    family="posmlp",
    model="posmlp_t",
    small={
        "img_size": (64, 96),
        "embed_dims": (16, 32, 64),
        "depths": (1, 2, 1),
        "mlp_ratios": (4, 4, 4),
        "gammas": (2, 2, 2),
        "window_sizes": (2, 2, 1),
        "drop_path_rate": 0.0,
        "drop_rate": 0.0,
        "proj_drop_rate": 0.0,
    },
    shallow={"embed_dims": (8,), "depths": (1,), "mlp_ratios": (2,), "gammas": (2,), "window_sizes": (4,)},
    another_size=(96, 32),
    settings=({"dynamic_img_size": True, "img_size": 70}, {"feature_norms": True, "proj_drop_rate": 0.1}),
    key_lists=(posmlp,),
    wrapper="state_dict_ema",
    conformance=(
        Case("posmlp_t", "posmlp_t", slow_in_float64=True),
        Case("posmlp_t_224x448", "posmlp_t", slow=True),
        Case("posmlp_s", "posmlp_s", slow=True),
    ),
    parameters={"posmlp_t": 20_925_538, "posmlp_s": 36_816_450, "posmlp_b": 81_976_834},
)

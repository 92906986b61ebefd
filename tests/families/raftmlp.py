"""RaftMLP for the tests."""

from cases import Case

from families import FamilyCase
from families._lists import linear, norm


def raftmlp(config):
    dims, (height, width) = config.embed_dims, config.data_size
    names, before = {}, 3
    for level, (dim, depth, ratio) in enumerate(zip(dims, config.depths, config.mlp_ratios, strict=True)):
        patch, raft = config.patch_sizes[level], config.raft
        height, width = -(-height // patch), -(-width // patch)
        sides = [patch * 2**i for i in range(config.kernels[level])]
        names |= linear(f"levels.{level}.fn.0.fc", sum(before * side**2 for side in sides), dim)
        for i in range(depth):
            block = f"levels.{level}.fn.{2 + i}"
            for place, length in ((1, height), (3, width)):
                hidden = int(raft * length * config.token_ratio)
                names |= norm(f"{block}.{place}.norm.1", dim)
                names |= linear(f"{block}.{place}.fn.0", raft * length, hidden)
                names |= linear(f"{block}.{place}.fn.3", hidden, raft * length)
            names |= norm(f"{block}.5.norm", dim)
            names |= linear(f"{block}.5.fn.0", dim, int(dim * ratio)) | linear(f"{block}.5.fn.3", int(dim * ratio), dim)
        before = dim
    return names | norm("heads.0.1", dims[-1]) | linear("classifier", dims[-1], config.num_classes)


CASE = FamilyCase(
    family="raftmlp",
    model="raftmlp_s",
    small={
        "img_size": (64, 96),
        "embed_dims": (8, 12, 8, 16),
        "depths": (1, 1, 1, 1),
        "mlp_ratios": (2, 2, 2, 2),
        "drop_path_rate": 0.0,
    },
    shallow={"embed_dims": (8,), "depths": (1,), "mlp_ratios": (2,), "patch_sizes": (4,), "kernels": (2,)},
    another_size=(96, 64),
    settings=(
        {"token_resize": "weights", "token_ratio": 1.5, "proj_drop_rate": 0.1},
        {"raft": 4, "kernels": (3, 1, 2, 1), "feature_norms": True},
    ),
    key_lists=(raftmlp,),
    conformance=(
        Case("raftmlp_s", "raftmlp_s", slow_in_float64=True),
        Case("raftmlp_s_250x190", "raftmlp_s", slow=True),
        Case("raftmlp_l", "raftmlp_l", slow=True),
    ),
    parameters={"raftmlp_s": 9_868_768, "raftmlp_m": 21_413_632, "raftmlp_l": 36_184_672},
)

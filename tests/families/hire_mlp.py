"""Hire-MLP for the tests."""

from cases import Case

from families import FamilyCase
from families._lists import batch_norm, conv, linear


def hire_mlp(config):
    dims = config.embed_dims
    names = conv("patch_embed.proj", 3, dims[0], config.patch_size) | batch_norm("patch_embed.norm", dims[0])
    stages = zip(dims, config.depths, config.mlp_ratios, config.region_sizes, strict=True)
    for i, (dim, depth, ratio, size) in enumerate(stages):
        if i:
            names |= conv(f"network.{2 * i - 1}.proj", dims[i - 1], dim, 3)
            names |= batch_norm(f"network.{2 * i - 1}.norm", dim)
        for j in range(depth):
            block = f"network.{2 * i}.{j}"
            names |= batch_norm(f"{block}.norm1", dim) | batch_norm(f"{block}.norm2", dim)
            for axis in "hw":
                names |= {f"{block}.attn.mlp_{axis}1.weight": (dim // 2, dim * size, 1, 1)}
                names |= batch_norm(f"{block}.attn.mlp_{axis}1_norm", dim // 2)
                names |= conv(f"{block}.attn.mlp_{axis}2", dim // 2, dim * size, 1)
            names |= conv(f"{block}.attn.mlp_c", dim, dim, 1) | conv(f"{block}.attn.proj", dim, dim, 1)
            names |= conv(f"{block}.attn.reweight.fc1", dim, dim // 4, 1)
            names |= conv(f"{block}.attn.reweight.fc2", dim // 4, 3 * dim, 1)
            names |= conv(f"{block}.mlp.fc1", dim, int(dim * ratio), 1) | conv(
                f"{block}.mlp.fc2", int(dim * ratio), dim, 1
            )
    return names | batch_norm("norm", dims[-1]) | linear("head", dims[-1], config.num_classes)


CASE = FamilyCase(
    family="hire_mlp",
    model="hire_mlp_tiny",
    small={"embed_dims": (8, 12, 16, 24), "depths": (1, 2, 3, 2), "mlp_ratios": (2, 2, 2, 2)},
    shallow={
        "embed_dims": (8, 12),
        "depths": (1, 2),
        "mlp_ratios": (1, 2),
        "region_sizes": (2, 3),
        "step_strides": (1, 2),
        "step_dilations": (1, 2),
    },
    settings=({"region_sizes": (1, 2, 3, 4), "feature_norms": True, "patch_size": 4},),
    key_lists=(hire_mlp,),
    wrapper="model",
    conformance=(
        Case("hire_mlp_tiny", "hire_mlp_tiny", slow=True),
        Case("hire_mlp_tiny_250x190", "hire_mlp_tiny"),
        Case("hire_mlp_small", "hire_mlp_small", slow=True),
    ),
    parameters={
        "hire_mlp_tiny": 18_041_672,
        "hire_mlp_small": 33_113_848,
        "hire_mlp_base": 58_226_856,
        "hire_mlp_large": 95_723_944,
    },
)

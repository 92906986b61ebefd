"""Swin-MLP for the tests."""

from cases import Case

from families import FamilyCase
from families._lists import conv, linear, norm


def swin_mlp(config):
    dims = config.embed_dims
    names = conv("patch_embed.proj", 3, dims[0], config.patch_size) | norm("patch_embed.norm", dims[0])
    for i, (dim, depth, ratio) in enumerate(zip(dims, config.depths, config.mlp_ratios, strict=True)):
        heads, positions, hidden = config.num_heads[i], config.window_sizes[i] ** 2, int(dim * ratio)
        for j in range(depth):
            block = f"layers.{i}.blocks.{j}"
            names |= norm(f"{block}.norm1", dim) | norm(f"{block}.norm2", dim)
            names |= {
                f"{block}.spatial_mlp.weight": (heads * positions, positions, 1),
                f"{block}.spatial_mlp.bias": (heads * positions,),
            }
            names |= linear(f"{block}.mlp.fc1", dim, hidden) | linear(f"{block}.mlp.fc2", hidden, dim)
        if i + 1 < len(dims):
            names |= linear(f"layers.{i}.downsample.reduction", 4 * dim, dims[i + 1], bias=False)
            names |= norm(f"layers.{i}.downsample.norm", 4 * dim)
    return names | norm("norm", dims[-1]) | linear("head", dims[-1], config.num_classes)


CASE = FamilyCase(
    family="swin_mlp",
    model="swin_mlp_tiny_c24",
    small={
        "img_size": (64, 96),
        "embed_dims": (8, 12, 16),
        "depths": (2, 2, 1),
        "mlp_ratios": (2, 2, 2),
        "num_heads": (2, 3, 4),
        "window_sizes": (4, 2, 2),
        "patch_size": 2,
        "drop_path_rate": 0.0,
    },
    shallow={"embed_dims": (8,), "depths": (2,), "mlp_ratios": (2,), "num_heads": (2,), "window_sizes": (4,)},
    another_size=(96, 32),
    settings=({"dynamic_img_size": True, "img_size": 70}, {"feature_norms": True, "patch_size": 4}),
    key_lists=(swin_mlp,),
    wrapper="model",
    conformance=(
        Case("swin_mlp_tiny_c24", "swin_mlp_tiny_c24", slow_in_float64=True),
        Case("swin_mlp_tiny_c6", "swin_mlp_tiny_c6", slow=True),
        Case("swin_mlp_base", "swin_mlp_base", slow=True),
    ),
    parameters={
        "swin_mlp_tiny_c24": 20_386_632,
        "swin_mlp_tiny_c12": 21_152_072,
        "swin_mlp_tiny_c6": 22_682_952,
        "swin_mlp_base": 60_659_416,
    },
)

"""MS-MLP for the tests."""

from cases import Case

from families import FamilyCase
from families._lists import conv, linear, norm


def msmlp(config):
    dims, groups = config.embed_dims, len(config.shifts)
    names = conv("patch_embed.proj", 3, dims[0], config.patch_size) | norm("patch_embed.norm", dims[0])
    stages = zip(dims, config.depths, config.mlp_ratios, config.windows, strict=True)
    for i, (dim, depth, ratio, windows) in enumerate(stages):
        most, hidden = -(-dim // groups), int(dim * ratio)
        for j in range(depth):
            block = f"layers.{i}.blocks.{j}"
            names |= {f"{block}.gamma": (dim,)} | norm(f"{block}.norm", dim)
            for group, side in enumerate(windows):
                channels = min(most, dim - group * most)
                for direction in ("lr", "td"):
                    names |= conv(f"{block}.dwconv_{direction}.{group}", 1, channels, side)
            names |= linear(f"{block}.pwconv1", dim, hidden) | linear(f"{block}.pwconv2", hidden, dim)
        if i + 1 < len(dims):
            names |= conv(f"layers.{i}.downsample.proj", dim, dims[i + 1], 2)
            names |= norm(f"layers.{i}.downsample.norm", dims[i + 1])
    return names | norm("norm", dims[-1]) | linear("head", dims[-1], config.num_classes)


SMALL_WINDOWS = {"shifts": (-1, 0, 2), "windows": ((1, 3, 5), (1, 1, 3), (3, 3, 3), (1, 3, 3))}

CASE = FamilyCase(
    family="msmlp",
    model="msmlp_tiny",
    # Ten channels are five groups of two.
    small={
        "embed_dims": (8, 10, 15, 23),
        "depths": (1, 2, 1, 1),
        "mlp_ratios": (2, 2, 2, 2),
        "layer_scale_init": 1.0,
        **SMALL_WINDOWS,
    },
    shallow={
        "embed_dims": (8, 10),
        "depths": (1, 1),
        "mlp_ratios": (1, 2),
        "shifts": (0, 1),
        "windows": ((3, 1), (1, 3)),
    },
    settings=({"feature_norms": True, "patch_size": 2, "norm_eps": 1e-5},),
    key_lists=(msmlp,),
    wrapper="model",
    conformance=(
        Case("msmlp_tiny", "msmlp_tiny", slow=True),
        Case("msmlp_tiny_250x190", "msmlp_tiny", slow_in_float64=True),
        Case("msmlp_small", "msmlp_small", slow=True),
    ),
    parameters={"msmlp_tiny": 28_656_232, "msmlp_small": 50_303_752, "msmlp_base": 88_696_792},
)

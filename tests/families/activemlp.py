"""ActiveMLP for the tests."""

from cases import Case

from families import FamilyCase
from families._lists import conv, linear, norm


def activemlp(config):
    dims = config.embed_dims
    names = conv("patch_embed.proj", 3, dims[0], config.patch_size)
    stages = zip(dims, config.depths, config.mlp_ratios, config.share_dims, strict=True)
    for i, (dim, depth, ratio, share) in enumerate(stages):
        hidden = int(dim * ratio)
        names |= conv(f"pos_blocks.{i}.proj", 1, dim, 3)
        for j in range(depth):
            block = f"blocks.{i}.{j}"
            names |= norm(f"{block}.norm1", dim) | norm(f"{block}.norm2", dim)
            names |= linear(f"{block}.atm.atm_c", dim, dim, bias=False) | linear(f"{block}.atm.proj", dim, dim)
            names |= conv(f"{block}.atm.atm_h", dim, dim, 1) | conv(f"{block}.atm.atm_w", dim, dim, 1)
            names |= linear(f"{block}.atm.fusion.fc1", dim, dim // 4)
            names |= linear(f"{block}.atm.fusion.fc2", dim // 4, 3 * dim)
            names |= linear(f"{block}.mlp.fc1", dim, hidden) | linear(f"{block}.mlp.fc2", hidden, dim)
            if j % config.offset_interval == 0 and j + 1 < depth:
                names |= norm(f"{block}.offset_layer.0", dim)
                names |= linear(f"{block}.offset_layer.1", dim, 2 * dim // share)
        if i + 1 < len(dims):
            names |= conv(f"blocks.{i}.{depth - 1}.downsample.proj", dim, dims[i + 1], 3)
    return names | norm("norm", dims[-1]) | linear("head", dims[-1], config.num_classes)


CASE = FamilyCase(
    family="activemlp",
    model="activemlp_xtiny",
    small={"embed_dims": (8, 12, 16, 24), "depths": (2, 4, 3, 2), "mlp_ratios": (2, 2, 2, 2)},
    shallow={"embed_dims": (8, 12), "depths": (2, 2), "mlp_ratios": (1, 2), "share_dims": (2, 3)},
    settings=({"share_dims": (1, 3, 16, 2), "offset_interval": 1, "feature_norms": True, "patch_size": 4},),
    key_lists=(activemlp,),
    wrapper="model",
    slow_to_compile=True,
    # Where an offset is within rounding of a whole number, other positions are read.
    conformance=(
        Case("activemlp_xtiny", "activemlp_xtiny", has_kinks=True, slow=True),
        Case("activemlp_xtiny_250x190", "activemlp_xtiny", has_kinks=True),
        Case("activemlp_tiny", "activemlp_tiny", has_kinks=True, slow=True),
        Case("activemlp_small", "activemlp_small", has_kinks=True, slow=True),
    ),
    parameters={
        "activemlp_xtiny": 15_349_128,
        "activemlp_tiny": 27_152_232,
        "activemlp_small": 38_631_448,
        "activemlp_base": 52_154_792,
        "activemlp_large": 76_238_032,
    },
)

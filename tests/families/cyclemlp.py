"""CycleMLP for the tests."""

from cases import Case

from families import FamilyCase
from families._lists import conv, linear, norm, pyramid_block


def cyclemlp(config):
    dims = config.embed_dims
    names = conv("patch_embed.proj", 3, dims[0], 7)
    for stage, (dim, depth, ratio) in enumerate(zip(dims, config.depths, config.mlp_ratios, strict=True)):
        if stage:
            names |= conv(f"network.{2 * stage - 1}.proj", dims[stage - 1], dim, 3)
        for i in range(depth):
            block = f"network.{2 * stage}.{i}"
            branches = linear(f"{block}.attn.mlp_c", dim, dim, bias=False)
            for axis in "hw":
                branches |= conv(f"{block}.attn.sfc_{axis}", dim, dim, 1)
                branches |= {f"{block}.attn.sfc_{axis}.offset": (1, 2 * dim, 1, 1)}
            names |= pyramid_block(block, dim, ratio, branches)
    return names | norm("norm", dims[-1]) | linear("head", dims[-1], config.num_classes)


CASE = FamilyCase(
    family="cyclemlp",
    model="cyclemlp_b1",
    small={"embed_dims": (8, 12, 16, 24), "depths": (1, 2, 1, 1)},
    shallow={"embed_dims": (8, 12), "depths": (1, 1), "mlp_ratios": (1, 2)},
    settings=(
        {"sampling": "random", "feature_norms": True, "embed_dims": (9, 13, 17, 23)},
        {"sampling": "dense"},
    ),
    key_lists=(cyclemlp,),
    wrapper="model",
    conformance=(
        Case("cyclemlp_b1", "cyclemlp_b1"),
        Case("cyclemlp_b5", "cyclemlp_b5"),
        Case("cyclemlp_b1_384x288", "cyclemlp_b1"),
        Case("cyclemlp_b2_features", "cyclemlp_b2", {"features_only": True, "feature_norms": True}),
    ),
    parameters={
        "cyclemlp_b1": 15_155_400,
        "cyclemlp_b2": 26_802_504,
        "cyclemlp_b3": 38_385_720,
        "cyclemlp_b4": 51_796_552,
        "cyclemlp_b5": 75_747_280,
    },
)

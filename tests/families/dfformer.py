"""DFFormer, CDFFormer and GFFormer for the tests."""

from cases import Case
from timm.layers import to_2tuple

from families import FamilyCase
from families._lists import linear, norm
from families._metaformer import baselines, star_relu


def dfformer(config):
    def mixing(block, stage, dim):
        height, width = (side // (4 * 2**stage) for side in to_2tuple(config.img_size))
        mixer, kind = f"{block}.token_mixer", config.token_mixers[stage]
        names = linear(f"{mixer}.pwconv1", dim, 2 * dim, bias=False) | star_relu(f"{mixer}.act1")
        names |= linear(f"{mixer}.pwconv2", 2 * dim, dim, bias=False)
        if kind == "separable_conv":
            return names | {f"{mixer}.dwconv.weight": (2 * dim, 1, 7, 7)}
        if kind == "dynamic_filter":
            names |= linear(f"{mixer}.reweight.fc1", dim, dim // 4, bias=False) | star_relu(f"{mixer}.reweight.act")
            names |= linear(f"{mixer}.reweight.fc2", dim // 4, 8 * dim, bias=False)
        filters = 4 if kind == "dynamic_filter" else 2 * dim
        return names | {f"{mixer}.complex_weights": (height, width // 2 + 1, filters, 2)}

    dim = config.embed_dims[-1]
    names = baselines(config, mixing) | linear("head.fc1", dim, 4 * dim) | norm("head.norm", 4 * dim)
    return names | linear("head.fc2", 4 * dim, config.num_classes)


FEATURES = {"features_only": True, "feature_norms": True}

CASE = FamilyCase(
    family="dfformer",
    model="cdfformer_s18",
    small={"img_size": (64, 96), "embed_dims": (8, 12, 16, 24), "depths": (1, 2, 1, 1)},
    shallow={"depths": (1, 1, 1, 1)},
    another_size=(96, 32),
    settings=({"token_mixers": ("global_filter", "separable_conv", "global_filter", "dynamic_filter")},),
    key_lists=(dfformer,),
    conformance=(
        Case("cdfformer_s18", "cdfformer_s18"),
        Case("dfformer_s18", "dfformer_s18", slow=True),
        Case("dfformer_s36", "dfformer_s36", slow=True),
        Case("dfformer_s18_features", "dfformer_s18", FEATURES, slow=True),
        Case("gfformer_s18", "gfformer_s18", slow=True),
    ),
    parameters={
        "dfformer_s18": 30_324_372,
        "dfformer_s36": 45_610_656,
        "dfformer_m36": 65_316_064,
        "dfformer_b36": 114_989_344,
        "cdfformer_s18": 30_193_512,
        "cdfformer_m36": 64_433_218,
        "gfformer_s18": 29_639_856,
    },
)

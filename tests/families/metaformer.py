"""The MetaFormer baselines for the tests: the small one is a RandFormer, which has most kinds of parts."""

import math

from cases import Case
from timm.layers import to_2tuple
from timm.models.metaformer import GroupNorm1NoBias, MetaFormer

from families import FamilyCase, TimmTwin
from families._lists import linear
from families._metaformer import baselines


def metaformer(config):
    def mixing(block, stage, dim):
        if config.token_mixers[stage] != "random":
            return {}
        tokens = math.prod(side // (4 * 2**stage) for side in to_2tuple(config.img_size))
        return {f"{block}.token_mixer.random_matrix": (tokens, tokens)}

    return baselines(config, mixing) | linear("head", config.embed_dims[-1], config.num_classes)


SMALL = {"embed_dims": (8, 12, 16, 24), "depths": (1, 2, 1, 1), "num_classes": 5}


def timms():
    shape = {"dims": SMALL["embed_dims"], "depths": SMALL["depths"], "num_classes": 5}
    return MetaFormer(**shape, norm_layers=GroupNorm1NoBias, use_mlp_head=False)


CASE = FamilyCase(
    family="metaformer",
    model="metaformer_rand_s12",
    small={"img_size": (64, 96), "embed_dims": (8, 12, 16, 24), "depths": (1, 2, 1, 1)},
    shallow={"depths": (1, 1, 1, 1)},
    another_size=(96, 32),
    settings=({"token_mixers": ("pool", "identity", "random", "pool"), "feature_norms": True},),
    key_lists=(metaformer,),
    conformance=(
        Case("randformer_s12", "metaformer_rand_s12"),
        Case("poolformerv2_s12", "metaformer_poolv2_s12", slow=True),
        Case("identityformer_s12", "metaformer_identity_s12", slow=True),
        Case("identityformer_s36", "metaformer_identity_s36", slow=True),
    ),
    parameters={
        "metaformer_identity_s12": 11_891_712,
        "metaformer_identity_s24": 21_341_464,
        "metaformer_identity_s36": 30_791_216,
        "metaformer_identity_m36": 56_077_168,
        "metaformer_identity_m48": 73_346_056,
        "metaformer_rand_s12": 12_127_010,
        "metaformer_rand_m36": 56_783_062,
        "metaformer_poolv2_s12": 11_891_712,
        "metaformer_poolv2_m36": 56_077_168,
    },
    # Pooling has no parameters.
    alike={
        f"metaformer_{a}_{size}": (f"metaformer_{b}_{size}",)
        for a, b in (("identity", "poolv2"), ("poolv2", "identity"))
        for size in ("s12", "s24", "s36", "m36", "m48")
    },
    twins=(TimmTwin(name="poolformerv2", build=timms, model="metaformer_poolv2_s12", options=SMALL),),
)

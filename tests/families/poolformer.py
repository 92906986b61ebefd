"""PoolFormer for the tests."""

from cases import Case
from timm.models.metaformer import GroupNorm1, MetaFormer
from torch import nn

from families import FamilyCase, TimmTwin
from families._metaformer import first_paper

SMALL = {"embed_dims": (8, 12, 16, 24), "depths": (1, 2, 1, 1), "num_classes": 5}


def timms():
    """timm's network with the authors' order in the head: norm, then mean."""
    network = MetaFormer(
        dims=SMALL["embed_dims"],
        depths=SMALL["depths"],
        num_classes=5,
        downsample_norm=None,
        mlp_act=nn.GELU,
        mlp_bias=True,
        norm_layers=GroupNorm1,
        output_norm=GroupNorm1,
        layer_scale_init_values=0.5,
        res_scale_init_values=None,
        use_mlp_head=False,
    )
    head = network.head
    head.flatten, head.global_pool = nn.Sequential(head.global_pool, head.flatten), nn.Identity()
    return network


FEATURES = {"features_only": True, "feature_norms": True}

CASE = FamilyCase(
    family="poolformer",
    model="metaformer_pool_s12",
    # Factors of 1e-5 would hide the blocks.
    small={"embed_dims": (8, 12, 16, 24), "depths": (1, 2, 1, 1), "layer_scale_init": 0.5},
    shallow={"depths": (1, 1, 1, 1)},
    settings=({"feature_norms": True, "embed_dims": (9, 13, 17, 23)},),
    key_lists=(first_paper,),
    conformance=(
        Case("poolformer_s12", "metaformer_pool_s12"),
        Case("poolformer_s36", "metaformer_pool_s36", slow=True),
        Case("poolformer_s12_250x190", "metaformer_pool_s12", slow=True),
        Case("poolformer_s12_features", "metaformer_pool_s12", FEATURES, slow=True),
    ),
    parameters={
        "metaformer_pool_s12": 11_915_176,
        "metaformer_pool_s24": 21_388_968,
        "metaformer_pool_s36": 30_862_760,
        "metaformer_pool_m36": 56_172_520,
        "metaformer_pool_m48": 73_473_448,
    },
    twins=(
        TimmTwin(
            name="poolformer",
            build=timms,
            model="metaformer_pool_s12",
            options={**SMALL, "layer_scale_init": 0.5},
        ),
    ),
)

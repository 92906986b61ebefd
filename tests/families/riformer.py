"""RIFormer for the tests."""

from cases import Case

from families import FamilyCase
from families._metaformer import first_paper


def mmpretrain(config):
    """The training form, or the deploy form if the config says so."""

    def mixing(block, dim):
        affine = f"{block}.token_mixer.affine"
        return {} if config.deploy else {f"{affine}.weight": (dim, 1, 1, 1), f"{affine}.bias": (dim,)}

    names = {}
    for name, shape in first_paper(config, mixing).items():
        if name.startswith("head."):
            name = name.replace("head.", "head.fc.")
        else:
            name = "backbone." + (name.replace("norm.", "norm6.", 1) if name.startswith("norm.") else name)
        names[name.replace(".norm1.", ".norm_reparam.") if config.deploy else name] = shape
    return names


CASE = FamilyCase(
    family="riformer",
    model="riformer_s12",
    # Factors of 1e-5 would hide the blocks.
    small={"embed_dims": (8, 12, 16, 24), "depths": (1, 2, 1, 1), "layer_scale_init": 0.5},
    shallow={"depths": (1, 1, 1, 1)},
    settings=({"deploy": True},),
    key_lists=(mmpretrain,),
    wrapper="state_dict",
    conformance=(
        Case("riformer_s12", "riformer_s12"),
        Case("riformer_s36", "riformer_s36", slow=True),
        Case("riformer_s12_converted", "riformer_s12", folded=True),
        Case("riformer_s12_deploy", "riformer_s12", {"deploy": True}, slow=True),
    ),
    parameters={
        "riformer_s12": 11_921_832,
        "riformer_s24": 21_402_280,
        "riformer_s36": 30_882_728,
        "riformer_m36": 56_199_016,
        "riformer_m48": 73_508_776,
    },
)

"""ShiftViT for the tests."""

from cases import Case

from families import FamilyCase
from families._lists import conv, linear, norm


def shiftvit(config):
    dims = config.embed_dims
    names = conv("patch_embed.proj", 3, dims[0], config.patch_size) | norm("patch_embed.norm", dims[0])
    for i, (dim, depth, ratio) in enumerate(zip(dims, config.depths, config.mlp_ratios, strict=True)):
        hidden = int(dim * ratio)
        for j in range(depth):
            block = f"layers.{i}.blocks.{j}"
            names |= norm(f"{block}.norm2", dim)
            names |= conv(f"{block}.mlp.fc1", dim, hidden, 1) | conv(f"{block}.mlp.fc2", hidden, dim, 1)
        if i + 1 < len(dims):
            names |= norm(f"layers.{i}.downsample.norm", dim)
            names |= {f"layers.{i}.downsample.reduction.weight": (dims[i + 1], dim, 2, 2)}
    return names | norm("norm", dims[-1]) | linear("head", dims[-1], config.num_classes)


CASE = FamilyCase(
    family="shiftvit",
    model="shiftvit_tiny_light",
    small={"embed_dims": (8, 12, 17, 24), "depths": (1, 2, 1, 1), "mlp_ratios": (2, 2, 2, 2), "n_div": 4},
    shallow={"embed_dims": (8, 12), "depths": (1, 1), "mlp_ratios": (1, 2)},
    settings=({"n_div": 6, "feature_norms": True, "patch_size": 2},),
    key_lists=(shiftvit,),
    wrapper="model",
    conformance=(
        Case("shiftvit_tiny_light", "shiftvit_tiny_light", slow=True),
        Case("shiftvit_tiny_light_250x190", "shiftvit_tiny_light"),
        Case("shiftvit_tiny_r4", "shiftvit_tiny_r4", slow=True),
        Case("shiftvit_small_r2", "shiftvit_small_r2", slow=True),
    ),
    # The authors' code has r4 forms of small and base and an r2 form of base as well; they were not measured.
    parameters={
        "shiftvit_tiny_light": 19_608_328,
        "shiftvit_tiny_r2": 28_566_664,
        "shiftvit_tiny_r4": 31_426_312,
        "shiftvit_small_light": 33_796_360,
        "shiftvit_small_r2": 50_304_136,
        "shiftvit_base_light": 59_708_776,
    },
)

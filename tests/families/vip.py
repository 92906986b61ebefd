"""Vision Permutator for the tests."""

from cases import Case

from families import FamilyCase
from families._lists import conv, linear, norm, pyramid_block


def vip(config):
    dims = config.embed_dims
    names = conv("patch_embed.proj", 3, dims[0], config.patch_size)
    place = 0
    for stage, (dim, depth, ratio) in enumerate(zip(dims, config.depths, config.mlp_ratios, strict=True)):
        if stage and config.strides[stage] > 1:
            names |= conv(f"network.{place}.proj", dims[stage - 1], dim, 2)
            place += 1
        for i in range(depth):
            block = f"network.{place}.{i}"
            branches = {f"{block}.attn.mlp_{axis}.weight": (dim, dim) for axis in "chw"}
            names |= pyramid_block(block, dim, ratio, branches)
        place += 1
    return names | norm("norm", dims[-1]) | linear("head", dims[-1], config.num_classes)


CASE = FamilyCase(
    family="vip",
    model="vip_s7",
    small={"img_size": (56, 112), "embed_dims": (16, 32, 32, 48), "depths": (1, 2, 1, 1)},
    shallow={"embed_dims": (16, 32), "depths": (1, 1), "mlp_ratios": (1, 2), "strides": (1, 2)},
    another_size=(112, 56),
    key_lists=(vip,),
    conformance=(Case("vip_s7", "vip_s7"), Case("vip_m7", "vip_m7")),
    parameters={
        "vip_s14": 29_892_904,
        "vip_s7": 25_114_984,
        "vip_m7": 55_272_488,
        "vip_l7": 87_784_936,
    },
)

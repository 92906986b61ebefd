"""GFNet for the tests; the small one is a pyramid."""

from cases import Case
from timm.layers import to_2tuple

from families import FamilyCase
from families._lists import conv, linear, norm


def gfnet(config):
    """One resolution or several: the latter number their patch embeddings and stages."""
    pyramid = hasattr(config, "embed_dims")
    dims = config.embed_dims if pyramid else (config.embed_dim,)
    height, width = (side // (4 if pyramid else config.patch_size) for side in to_2tuple(config.img_size))
    names = {"pos_embed": (1, height * width, dims[0])}
    for stage, (dim, depth) in enumerate(zip(dims, config.depths if pyramid else (config.depth,), strict=True)):
        if stage:
            names |= conv(f"patch_embed.{stage}.proj", dims[stage - 1], dim, 2)
            height, width = height // 2, width // 2
        else:
            embed = "patch_embed.0.proj" if pyramid else "patch_embed.proj"
            names |= conv(embed, config.in_chans, dim, 4 if pyramid else config.patch_size)
        for i in range(depth):
            block = f"blocks.{stage}.{i}" if pyramid else f"blocks.{i}"
            names |= norm(f"{block}.norm1", dim) | norm(f"{block}.norm2", dim)
            names |= {f"{block}.filter.complex_weight": (height, width // 2 + 1, dim, 2)}
            names |= linear(f"{block}.mlp.fc1", dim, 4 * dim) | linear(f"{block}.mlp.fc2", 4 * dim, dim)
            if pyramid:
                names |= {f"{block}.gamma": (dim,)}
    return names | norm("norm", dims[-1]) | linear("head", dims[-1], config.num_classes)


CASE = FamilyCase(
    family="gfnet",
    model="gfnet_h_ti",
    small={"img_size": (64, 96), "embed_dims": (8, 12, 16, 24), "depths": (1, 2, 1, 1), "layer_scale_init": 0.5},
    shallow={"depths": (1, 1, 1, 1)},
    another_size=(96, 32),
    settings=({"feature_norms": True, "embed_dims": (9, 13, 17, 23)},),
    key_lists=(gfnet,),
    wrapper="model",
    conformance=(
        Case("gfnet_ti", "gfnet_ti"),
        Case("gfnet_xs", "gfnet_xs", slow=True),
        Case("gfnet_ti_384", "gfnet_ti", {"img_size": 384}, slow=True),
        Case("gfnet_h_ti", "gfnet_h_ti", slow=True),
        Case("gfnet_h_s", "gfnet_h_s", slow=True),
    ),
    parameters={
        "gfnet_ti": 7_511_784,
        "gfnet_xs": 15_985_768,
        "gfnet_s": 24_869_608,
        "gfnet_b": 43_120_616,
        "gfnet_h_ti": 15_085_096,
        "gfnet_h_s": 32_162_632,
        "gfnet_h_b": 53_744_200,
    },
)

"""RepMLPNet for the tests."""

from cases import Case

from families import FamilyCase
from families._lists import batch_norm, conv, linear


def normed(name, dim_in, dim_out, side):
    """A convolution without bias, and its BatchNorm."""
    return {f"{name}.conv.weight": (dim_out, dim_in, side, side)} | batch_norm(f"{name}.bn", dim_out)


def repmlpnet(config):
    dims = config.embed_dims
    names = normed("conv_embedding", config.in_chans, dims[0], 4) | batch_norm("head_norm", dims[-1])
    for stage, (dim, depth) in enumerate(zip(dims, config.depths, strict=True)):
        sets, tokens = config.share_sets[stage], config.window_sizes[stage] ** 2
        if stage:
            names |= normed(f"embeds.{stage - 1}", dims[stage - 1], dim, 2)
        for i in range(depth):
            block = f"stages.{stage}.{i}.repmlp_block"
            names |= conv(f"{block}.gp.fc1", dim, dim // 4, 1) | conv(f"{block}.gp.fc2", dim // 4, dim, 1)
            names[f"{block}.fc3.weight"] = (sets * tokens, tokens, 1, 1)
            if config.deploy:
                names[f"{block}.fc3.bias"] = (sets * tokens,)
            else:
                names |= batch_norm(f"{block}.fc3_bn", sets)
                names |= normed(f"{block}.repconv1", 1, sets, 1) | normed(f"{block}.repconv3", 1, sets, 3)
            block = f"stages.{stage}.{i}"
            names |= normed(f"{block}.ffn_block.ffn_fc1", dim, 4 * dim, 1)
            names |= normed(f"{block}.ffn_block.ffn_fc2", 4 * dim, dim, 1)
            names |= batch_norm(f"{block}.prebn1", dim) | batch_norm(f"{block}.prebn2", dim)
    return names | linear("head", dims[-1], config.num_classes)


CASE = FamilyCase(
    family="repmlpnet",
    model="repmlpnet_t224",
    small={
        "img_size": (32, 64),
        "embed_dims": (24, 24, 32, 48),
        "depths": (1, 2, 1, 1),
        "share_sets": (1, 3, 4, 6),
        "window_sizes": (8, 4, 2, 1),
    },
    shallow={"depths": (1, 1, 1, 1)},
    another_size=(64, 32),
    settings=(
        {"deploy": True},
        {"exact": False},
        {"dynamic_img_size": True, "img_size": 70},
    ),
    key_lists=(repmlpnet,),
    conformance=(
        Case("repmlpnet_t224", "repmlpnet_t224", has_kinks=True, slow_in_float64=True),
        Case("repmlpnet_b256", "repmlpnet_b256", has_kinks=True, slow=True),
        Case("repmlpnet_t224_224x448", "repmlpnet_t224", has_kinks=True, slow=True),
        Case("repmlpnet_t224_deploy", "repmlpnet_t224", {"deploy": True}, has_kinks=True, slow=True),
        Case("repmlpnet_t224_converted", "repmlpnet_t224", folded=True, slow=True),
    ),
    parameters={
        "repmlpnet_t224": 38_293_608,
        "repmlpnet_b224": 68_242_712,
        "repmlpnet_t256": 58_687_848,
        "repmlpnet_b256": 96_447_512,
        "repmlpnet_d256": 86_887_648,
        "repmlpnet_l256": 117_641_560,
    },
)

"""ConvMLP for the tests."""

from cases import Case

from families import FamilyCase
from families._lists import batch_norm, conv, linear, norm


def convolutions(name, *chans):
    """Three convolutions without biases, each with its BatchNorm, in a sequence with ReLUs between."""
    names = {}
    for i, (before, after, side) in enumerate(chans):
        names |= {f"{name}.{3 * i}.weight": (after, before, side, side)} | batch_norm(f"{name}.{3 * i + 1}", after)
    return names


def convmlp(config):
    (stem, *dims), (first, *depths) = config.embed_dims, config.depths
    names = convolutions(
        "tokenizer.block", (config.in_chans, stem // 2, 3), (stem // 2, stem // 2, 3), (stem // 2, stem, 3)
    )
    hidden = int(stem * config.mlp_ratios[0])
    for k in range(first):
        names |= convolutions(f"conv_stages.conv_blocks.{k}", (stem, hidden, 1), (hidden, hidden, 3), (hidden, stem, 1))
    names |= conv("conv_stages.downsample", stem, dims[0], 3)
    for stage, (dim, depth, ratio) in enumerate(zip(dims, depths, config.mlp_ratios[1:], strict=True)):
        for i in range(depth):
            block = f"stages.{stage}.blocks.{i}"
            for k in (1, 2):
                mlp = f"{block}.channel_mlp{k}"
                names |= linear(f"{mlp}.fc1", dim, int(ratio * dim)) | linear(f"{mlp}.fc2", int(ratio * dim), dim)
                names |= norm(f"{block}.norm{k}", dim)
            names |= norm(f"{block}.connect_norm", dim) | {f"{block}.connect.weight": (dim, 1, 3, 3)}
        if stage < len(dims) - 1:
            names |= conv(f"stages.{stage}.downsample_mlp.downsample", dim, dims[stage + 1], 3)
    return names | norm("norm", dims[-1]) | linear("head", dims[-1], config.num_classes)


CASE = FamilyCase(
    family="convmlp",
    model="convmlp_s",
    small={"embed_dims": (8, 12, 16, 24), "depths": (1, 2, 1, 1)},
    shallow={"embed_dims": (8, 12), "depths": (1, 1), "mlp_ratios": (1, 2)},
    settings=({"feature_norms": True, "embed_dims": (10, 13, 17, 23)},),
    key_lists=(convmlp,),
    conformance=(
        Case("convmlp_s", "convmlp_s", has_kinks=True),
        Case("convmlp_m", "convmlp_m", has_kinks=True, slow=True),
        Case("convmlp_s_features", "convmlp_s", {"features_only": True}, has_kinks=True, slow=True),
    ),
    parameters={"convmlp_s": 9_022_920, "convmlp_m": 17_410_504, "convmlp_l": 42_728_440},
)

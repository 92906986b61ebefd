"""Caterpillar for the tests."""

from cases import Case

from families import FamilyCase
from families._lists import batch_norm, conv, linear, norm


def caterpillar(config):
    """One list: an identity, the blocks of a stage, the convolution to the next, its blocks, and so on."""
    dims, (height, width) = config.embed_dims, config.image_size
    names = {"patch_embed.proj.weight": (dims[0], 3, config.strides[0], config.strides[0])}
    place, stride = 1, 1
    for stage, (dim, depth) in enumerate(zip(dims, config.depths, strict=True)):
        stride *= config.strides[stage]
        if stage:
            names[f"blocks.{place}.weight"] = (dim, dims[stage - 1], config.strides[stage], config.strides[stage])
            place += 1
        rows, columns = height // stride, width // stride
        for _ in range(depth):
            block = f"blocks.{place}.0"
            names |= batch_norm(f"{block}.localMix.BN", dim) | conv(f"{block}.localMix.fuse", dim, dim, 1)
            for side in "tblr":
                names |= conv(f"{block}.localMix.proj_{side}", dim, dim // 4, 1)
            names |= batch_norm(f"{block}.globalMix.BN", dim)
            # Their h is the width.
            names |= conv(f"{block}.globalMix.proj_h", columns, columns, 1)
            names |= conv(f"{block}.globalMix.proj_w", rows, rows, 1)
            names[f"{block}.globalMix.fuse.weight"] = (dim, 3 * dim, 1, 1)
            hidden = int(dim * config.mlp_ratios[stage])
            names |= norm(f"{block}.channelMix.LN", dim) | linear(f"{block}.channelMix.FeedForward.fc1", dim, hidden)
            names |= linear(f"{block}.channelMix.FeedForward.fc2", hidden, dim)
            place += 1
    return names | batch_norm("norm", dims[-1]) | linear("head", dims[-1], config.num_classes)


CASE = FamilyCase(
    family="caterpillar",
    model="caterpillar_mi",
    small={"img_size": (64, 96), "embed_dims": (8, 12, 16, 24), "depths": (1, 2, 1, 1)},
    shallow={"embed_dims": (8, 12), "depths": (1, 1), "mlp_ratios": (1, 2), "strides": (4, 2)},
    another_size=(96, 64),
    settings=({"img_size": (24, 12), "strides": (3, 2, 2, 1)},),
    key_lists=(caterpillar,),
    conformance=(
        Case("caterpillar_mi", "caterpillar_mi", slow_in_float64=True),
        Case("caterpillar_mi_cifar", "caterpillar_mi_cifar"),
        Case("caterpillar_t", "caterpillar_t", slow_in_float64=True),
    ),
    parameters={
        "caterpillar_mi": 6_179_296,
        "caterpillar_tx": 16_471_904,
        "caterpillar_t": 29_013_984,
        "caterpillar_s": 58_679_416,
        "caterpillar_b": 79_674_104,
        "caterpillar_mi_cifar": 6_159_568,
    },
)

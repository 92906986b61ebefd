"""sMLPNet for the tests."""

from cases import Case

from families import FamilyCase
from families._lists import batch_norm, linear, norm


def smlpnet(config):
    """Blocks are numbered through all stages."""
    dims, (height, width) = config.embed_dims, config.image_size
    names = {"to_patch_embedding.0.0.weight": (dims[0], 3, 4, 4)}
    number = 0
    for stage, (dim, depth) in enumerate(zip(dims, config.depths, strict=True)):
        if stage:
            names[f"to_patch_embedding.{stage}.0.weight"] = (dim, dims[stage - 1], 2, 2)
        rows, columns = height // (4 * 2**stage), width // (4 * 2**stage)
        for _ in range(depth):
            mix, channels = f"token_mix.{number}", f"channel_mix.{number}"
            names |= batch_norm(f"{mix}.0.conv_merge.BN", dim) | batch_norm(f"{mix}.1.BN", dim)
            names[f"{mix}.0.conv_merge.Conv.weight"] = (dim, 1, 3, 3)
            # Their h is the width.
            names |= {f"{mix}.1.proj_h.weight": (columns, columns, 1, 1), f"{mix}.1.proj_h.bias": (columns,)}
            names |= {f"{mix}.1.proh_w.weight": (rows, rows, 1, 1), f"{mix}.1.proh_w.bias": (rows,)}
            names[f"{mix}.1.fuse.weight"] = (dim, 3 * dim, 1, 1)
            hidden = int(dim * config.mlp_ratios[stage])
            names |= norm(f"{channels}.1", dim)
            names |= linear(f"{channels}.2.net.0", dim, hidden) | linear(f"{channels}.2.net.3", hidden, dim)
            number += 1
    return names | batch_norm("batch_norm", dims[-1]) | linear("mlp_head.0", dims[-1], config.num_classes)


CASE = FamilyCase(
    family="smlpnet",
    model="smlpnet_tiny",
    small={"img_size": (64, 96), "embed_dims": (8, 12, 16, 24), "depths": (1, 2, 1, 1)},
    shallow={"embed_dims": (8, 12), "depths": (1, 1), "mlp_ratios": (1, 2)},
    another_size=(96, 64),
    key_lists=(smlpnet,),
    wrapper="model",
    conformance=(
        Case("smlpnet_tiny", "smlpnet_tiny", slow_in_float64=True),
        Case("smlpnet_small", "smlpnet_small", slow_in_float64=True),
    ),
    parameters={"smlpnet_tiny": 24_123_584, "smlpnet_small": 48_558_136, "smlpnet_base": 65_880_408},
)

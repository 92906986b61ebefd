"""AS-MLP for the tests."""

from cases import Case

from families import FamilyCase
from families._lists import conv, linear, norm


def body(config):
    """All that the classifier and the dense form share."""
    dims = config.embed_dims
    names = conv("patch_embed.proj", 3, dims[0], config.patch_size) | norm("patch_embed.norm", dims[0])
    for i, (dim, depth, ratio) in enumerate(zip(dims, config.depths, config.mlp_ratios, strict=True)):
        for j in range(depth):
            block = f"layers.{i}.blocks.{j}"
            names |= norm(f"{block}.norm1", dim) | norm(f"{block}.norm2", dim)
            for layer in ("conv1", "conv2_1", "conv2_2", "conv3"):
                names |= conv(f"{block}.axial_shift.{layer}", dim, dim, 1)
            names |= norm(f"{block}.axial_shift.norm1", dim) | norm(f"{block}.axial_shift.norm2", dim)
            names |= conv(f"{block}.mlp.fc1", dim, int(dim * ratio), 1) | conv(
                f"{block}.mlp.fc2", int(dim * ratio), dim, 1
            )
        if i + 1 < len(dims):
            names |= {f"layers.{i}.downsample.reduction.weight": (dims[i + 1], 4 * dim, 1, 1)}
            names |= norm(f"layers.{i}.downsample.norm", 4 * dim)
    return names


def asmlp(config):
    dims = config.embed_dims
    return body(config) | norm("norm", dims[-1]) | linear("head", dims[-1], config.num_classes)


CASE = FamilyCase(
    family="asmlp",
    model="asmlp_tiny",
    # Eight channels are fewer groups than five.
    small={"embed_dims": (8, 10, 15, 24), "depths": (1, 2, 1, 1), "mlp_ratios": (2, 2, 2, 2)},
    shallow={"embed_dims": (8, 10), "depths": (1, 1), "mlp_ratios": (1, 2)},
    settings=({"shift_size": 3, "feature_norms": True, "patch_size": 2},),
    key_lists=(asmlp,),
    wrapper="model",
    conformance=(
        Case("asmlp_tiny", "asmlp_tiny", slow=True),
        Case("asmlp_small", "asmlp_small", slow=True),
        Case("asmlp_tiny_features", "asmlp_tiny", {"features_only": True, "feature_norms": True}),
    ),
    parameters={"asmlp_tiny": 28_282_696, "asmlp_small": 49_594_696, "asmlp_base": 87_752_808},
)

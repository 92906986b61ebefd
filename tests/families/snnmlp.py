"""SNN-MLP for the tests."""

from cases import Case

from families import FamilyCase
from families._lists import conv, linear, norm


def snnmlp(config):
    dims = config.embed_dims
    names = conv("patch_embed.proj", 3, dims[0], config.patch_size) | norm("patch_embed.norm", dims[0])
    for i, (dim, depth, ratio) in enumerate(zip(dims, config.depths, config.mlp_ratios, strict=True)):
        hidden = int(dim * ratio)
        for j in range(depth):
            block = f"layers.{i}.blocks.{j}"
            names |= norm(f"{block}.norm1", dim) | norm(f"{block}.norm2", dim)
            for layer in ("conv1", "conv2_1", "conv2_2", "conv3"):
                names |= conv(f"{block}.lif_module.{layer}", dim, dim, 1)
            for layer in ("norm1", "norm2", "norm3"):
                names |= norm(f"{block}.lif_module.{layer}", dim)
            names |= conv(f"{block}.lif_module.dw1", 1, dim, 3)
            names |= {f"{block}.lif_module.lif{k}.{name}": (1,) for k in (1, 2) for name in ("tau", "Vth")}
            names |= conv(f"{block}.mlp.fc1", dim, hidden, 1) | conv(f"{block}.mlp.fc2", hidden, dim, 1)
        if i + 1 < len(dims):
            names |= {f"layers.{i}.downsample.reduction.weight": (dims[i + 1], 4 * dim, 1, 1)}
            names |= norm(f"layers.{i}.downsample.norm", 4 * dim)
    return names | norm("norm", dims[-1]) | linear("head", dims[-1], config.num_classes)


CASE = FamilyCase(
    family="snnmlp",
    model="snnmlp_tiny",
    small={"embed_dims": (8, 10, 15, 24), "depths": (1, 2, 1, 1), "mlp_ratios": (2, 2, 2, 2)},
    shallow={"embed_dims": (8, 10), "depths": (1, 1), "mlp_ratios": (1, 2)},
    settings=({"run_length": 2, "threshold_init": -1.0, "feature_norms": True, "patch_size": 2},),
    key_lists=(snnmlp,),
    wrapper="model",
    # A potential within rounding of the threshold fires in one precision and not in another.
    conformance=(
        Case("snnmlp_tiny", "snnmlp_tiny", has_kinks=True, slow=True),
        Case("snnmlp_tiny_256x192", "snnmlp_tiny", has_kinks=True, slow_in_float64=True),
        Case("snnmlp_small", "snnmlp_small", jumps=True, slow=True),
    ),
    parameters={"snnmlp_tiny": 28_335_736, "snnmlp_small": 49_703_080, "snnmlp_base": 87_897_288},
)

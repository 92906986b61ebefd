"""Wave-MLP for the tests."""

from cases import Case

from families import FamilyCase
from families._lists import batch_norm, conv, linear, norm


def wavemlp(config):
    dims = config.embed_dims
    normed = batch_norm if config.norm == "batch" else norm
    names = conv("patch_embed.proj", 3, dims[0], config.patch_size)
    if config.embed_norm:
        names |= normed("patch_embed.norm", dims[0])
    for i, (dim, depth, ratio) in enumerate(zip(dims, config.depths, config.mlp_ratios, strict=True)):
        if i:
            names |= conv(f"network.{2 * i - 1}.proj", dims[i - 1], dim, 3)
            if config.embed_norm:
                names |= normed(f"network.{2 * i - 1}.norm", dim)
        for j in range(depth):
            block, hidden = f"network.{2 * i}.{j}", int(dim * ratio)
            names |= normed(f"{block}.norm1", dim) | normed(f"{block}.norm2", dim)
            names |= {f"{block}.attn.fc_{branch}.weight": (dim, dim, 1, 1) for branch in "hwc"}
            names |= {f"{block}.attn.tfc_h.weight": (dim, 2, 1, 7), f"{block}.attn.tfc_w.weight": (dim, 2, 7, 1)}
            for axis in "hw":
                if config.phase == "linear":
                    names |= conv(f"{block}.attn.theta_{axis}_conv.0", dim, dim, 1)
                else:
                    names |= {f"{block}.attn.theta_{axis}_conv.0.weight": (dim, 1, 3, 3)}
                names |= batch_norm(f"{block}.attn.theta_{axis}_conv.1", dim)
            names |= conv(f"{block}.attn.reweight.fc1", dim, dim // 4, 1)
            names |= conv(f"{block}.attn.reweight.fc2", dim // 4, 3 * dim, 1)
            names |= conv(f"{block}.attn.proj", dim, dim, 1)
            names |= conv(f"{block}.mlp.fc1", dim, hidden, 1) | conv(f"{block}.mlp.fc2", hidden, dim, 1)
    # A profiler left its counts of operations in the released files.
    counts = {"total_ops": (1,), "network.0.0.mlp.fc1.total_params": (1,)}
    return names | normed("norm", dims[-1]) | linear("head", dims[-1], config.num_classes) | counts


CASE = FamilyCase(
    family="wavemlp",
    model="wavemlp_t",
    small={"embed_dims": (8, 9, 12, 16), "depths": (1, 2, 1, 1), "mlp_ratios": (2, 2, 2, 2)},
    shallow={"embed_dims": (8, 12), "depths": (1, 1), "mlp_ratios": (1, 2)},
    settings=(
        {"phase": "depthwise", "feature_norms": True, "patch_size": 4, "window_size": 3},
        {"norm": "group", "embed_norm": False},
    ),
    key_lists=(wavemlp,),
    wrapper="state_dict",
    conformance=(
        Case("wavemlp_t", "wavemlp_t", slow=True),
        Case("wavemlp_t_250x190", "wavemlp_t"),
        Case("wavemlp_t_dw", "wavemlp_t_dw", slow=True),
        Case("wavemlp_s", "wavemlp_s", slow=True),
        Case("wavemlp_m", "wavemlp_m", slow=True),
    ),
    parameters={
        "wavemlp_t_dw": 15_286_472,
        "wavemlp_t": 17_193_160,
        "wavemlp_s": 30_708_040,
        "wavemlp_m": 44_056_632,
        "wavemlp_b": 63_586_360,
    },
)

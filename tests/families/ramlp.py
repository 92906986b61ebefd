"""RaMLP for the tests."""

from cases import Case

from families import FamilyCase
from families._lists import batch_norm, conv, linear, norm


def ramlp(config):
    dims = config.embed_dims
    names = conv("down_0.conv", 3, dims[0], 7) | norm("down_0.post_norm", dims[0])
    for stage, (dim, depth) in enumerate(zip(dims, config.depths, strict=True)):
        if stage:
            names |= norm(f"down_{stage}.pre_norm", dims[stage - 1]) | conv(
                f"down_{stage}.conv", dims[stage - 1], dim, 3
            )
        mixed, hidden = int(dim * config.token_ratios[stage]), int(dim * config.mlp_ratios[stage])
        size = config.bands[stage] ** 2 * config.head_dims[stage]
        for i in range(depth):
            block, mixer = f"stages.{stage}.{i}", f"stages.{stage}.{i}.token_mixer"
            names |= {f"{block}.cpe.weight": (dim, 1, 3, 3)} | norm(f"{block}.norm1", dim) | norm(f"{block}.norm2", dim)
            names |= linear(f"{mixer}.pwconv1", dim, mixed, bias=False) | {f"{mixer}.dwconv1.weight": (mixed, 1, 5, 5)}
            names |= linear(f"{mixer}.sfc", size, size, bias=False) | batch_norm(f"{mixer}.bn1", mixed)
            names |= linear(f"{mixer}.pwconv2", dim, mixed, bias=False) | batch_norm(f"{mixer}.bn2", mixed)
            names |= linear(f"{mixer}.proj", mixed, dim, bias=False)
            names |= linear(f"{block}.mlp.fc1", dim, hidden, bias=False) | {f"{block}.mlp.act.bias": (1,)}
            names |= linear(f"{block}.mlp.fc2", hidden, dim, bias=False)
            if config.scaled_skips[stage]:
                names |= {f"{block}.res_scale{i}.scale": (dim,) for i in (1, 2)}
    names |= norm("norm", dims[-1]) | linear("head.fc1", dims[-1], 4 * dims[-1]) | norm("head.norm", 4 * dims[-1])
    return names | linear("head.fc2", 4 * dims[-1], config.num_classes)


CASE = FamilyCase(
    family="ramlp",
    model="ramlp_t",
    small={"embed_dims": (8, 12, 16, 32), "depths": (1, 2, 1, 1), "drop_path_rate": 0.0},
    shallow={
        "embed_dims": (8,),
        "depths": (1,),
        "mlp_ratios": (2,),
        "token_ratios": (3,),
        "bands": (2,),
        "head_dims": (4,),
        "scaled_skips": (True,),
    },
    another_size=(96, 64),
    key_lists=(ramlp,),
    wrapper="model",
    conformance=(
        Case("ramlp_t", "ramlp_t", slow_in_float64=True),
        Case("ramlp_s", "ramlp_s", slow_in_float64=True),
        Case("ramlp_t_256x192", "ramlp_t", slow_in_float64=True),
    ),
    parameters={"ramlp_t": 25_063_293, "ramlp_s": 38_678_673, "ramlp_b": 68_497_736},
)

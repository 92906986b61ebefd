"""Scaling MLPs for the tests."""

from cases import Case
from timm.layers import to_2tuple

from families import FamilyCase
from families._lists import linear, norm


def scaling_mlp(config):
    height, width = to_2tuple(config.img_size)
    dim = config.embed_dim
    names = linear("linear_in", 3 * height * width, dim) | linear("linear_out", dim, config.num_classes)
    for i in range(config.depth):
        names |= linear(f"blocks.{i}.block.0", dim, 4 * dim) | linear(f"blocks.{i}.block.2", 4 * dim, dim)
        names |= norm(f"layernorms.{i}", dim)
    return names


CASE = FamilyCase(
    family="scaling_mlp",
    model="scaling_mlp_b6_wi512",
    # The authors' files hold nothing that tells height from width: square here.
    small={"img_size": (32, 32), "embed_dim": 12, "depth": 3},
    key_lists=(scaling_mlp,),
    conformance=(
        Case("scaling_mlp_b6_wi512", "scaling_mlp_b6_wi512"),
        Case("scaling_mlp_b12_wi512", "scaling_mlp_b12_wi512", slow=True),
    ),
    parameters={
        "scaling_mlp_b6_wi512": 19_409_384,
        "scaling_mlp_b12_wi512": 32_013_800,
        "scaling_mlp_b6_wi1024": 63_983_592,
        "scaling_mlp_b12_wi1024": 114_358_248,
    },
    slow_to_compile=False,
)

"""ConvMixer for the tests."""

import timm
from cases import Case

from families import FamilyCase, TimmTwin
from families._lists import batch_norm, conv, linear


def convmixer(config):
    """Places in one list."""
    dim = config.embed_dim
    names = conv("0", 3, dim, config.patch_size) | batch_norm("2", dim)
    for i in range(3, 3 + config.depth):
        names |= conv(f"{i}.0.fn.0", 1, dim, config.kernel_size) | batch_norm(f"{i}.0.fn.2", dim)
        names |= conv(f"{i}.1", dim, dim, 1) | batch_norm(f"{i}.3", dim)
    return names | linear(f"{config.depth + 5}", dim, config.num_classes)


CASE = FamilyCase(
    family="convmixer",
    model="convmixer_d768_32",
    small={"embed_dim": 16, "depth": 4, "kernel_size": 5},
    key_lists=(convmixer,),
    wrapper="state_dict",
    conformance=(
        # PyTorch has no fast depthwise convolution for float64 with the channels last.
        Case("convmixer_768_32", "convmixer_d768_32", slow_in_float64=True),
        Case("convmixer_1024_20", "convmixer_d1024_20"),
    ),
    parameters={
        "convmixer_d1536_20": 51_625_960,
        "convmixer_d768_32": 21_110_248,
        "convmixer_d1024_20": 24_383_464,
    },
    twins=(
        TimmTwin(
            name="convmixer",
            build=lambda: timm.models.ConvMixer(8, 3, kernel_size=5, patch_size=7, num_classes=5),
            model="convmixer_d768_32",
            options={"embed_dim": 8, "depth": 3, "kernel_size": 5, "num_classes": 5},
        ),
    ),
    slow_to_compile=False,
)

"""The small network of each family, and a pyramid that exists only here, for tests that run over all of them."""

from typing import Any

import families
from families import FamilyCase
from timm.layers import DropPath
from torch import Tensor, nn

from mlpzoo.models import PyramidBackbone, PyramidConfig

NAMES = [*families.names(), "test_pyramid"]
"""What `create` takes."""

PYRAMID = FamilyCase(
    family="test_pyramid",
    small={"embed_dims": (8, 12, 16, 24), "depths": (1, 2, 1, 1), "mlp_ratios": (1, 1, 1, 1)},
    shallow={"embed_dims": (8, 12), "depths": (1, 1), "mlp_ratios": (1, 1)},
)


def case(family: str) -> FamilyCase:
    """What the tests know of a family, or of the pyramid."""
    return PYRAMID if family == "test_pyramid" else families.CASES[family]


def create(family: str, **options: Any) -> nn.Module:
    """The small network of a family."""
    if family == "test_pyramid":
        device, dtype = options.pop("device", None), options.pop("dtype", None)
        config = PyramidConfig(**{"num_classes": 7, **PYRAMID.small, **options})
        return TinyPyramid(config, device=device, dtype=dtype)
    return families.CASES[family].create(**options)


class ConvNHWC(nn.Module):
    """A strided convolution, NHWC to NHWC unless it is the stem."""

    def __init__(self, dim: int, out_dim: int, stride: int, *, stem: bool = False, **dd: Any) -> None:
        super().__init__()
        self.stride = stride
        self.stem = stem
        self.proj = nn.Conv2d(dim, out_dim, stride, stride, **dd)

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.stem else x.permute(0, 3, 1, 2)
        return self.proj(x).permute(0, 2, 3, 1).contiguous()


class ResidualLinear(nn.Module):
    """The least a block can be."""

    def __init__(self, dim: int, drop_path: float, **dd: Any) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, **dd)
        self.fc = nn.Linear(dim, dim, **dd)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop_path(self.fc(self.norm(x)))


class TinyPyramid(PyramidBackbone):
    """Convolutions between stages, linears inside."""

    family = "test_pyramid"

    def build_stem(self, **dd: Any) -> nn.Module:
        return ConvNHWC(self.config.in_chans, self.config.embed_dims[0], 4, stem=True, **dd)

    def build_downsample(self, stage: int, **dd: Any) -> nn.Module:
        return ConvNHWC(self.config.embed_dims[stage - 1], self.config.embed_dims[stage], 2, **dd)

    def build_block(self, stage: int, number: int, *, drop_path: float, **dd: Any) -> nn.Module:
        return ResidualLinear(self.config.embed_dims[stage], drop_path, **dd)

    def reset_parameters(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear | nn.LayerNorm):
                module.reset_parameters()

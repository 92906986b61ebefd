"""One small network a family, and a pyramid that exists only here, for tests that run over all of them."""

from typing import Any

from timm.layers import DropPath
from torch import Tensor, nn

import mlpzoo
from mlpzoo.models import PyramidBackbone, PyramidConfig

TINY: dict[str, tuple[str, dict[str, Any]]] = {
    "mixer": (
        "mixer_s16",
        {"img_size": (48, 64), "embed_dim": 16, "depth": 4, "tokens_mlp_dim": 8, "channels_mlp_dim": 24},
    ),
    # Scales of 1e-5 would hide the blocks.
    "resmlp": ("resmlp_s24", {"img_size": (48, 64), "embed_dim": 16, "depth": 4, "layer_scale_init": 0.5}),
    "cyclemlp": ("cyclemlp_b1", {"embed_dims": (8, 12, 16, 24), "depths": (1, 2, 1, 1)}),
    "vip": ("vip_s7", {"img_size": (56, 112), "embed_dims": (16, 32, 32, 48), "depths": (1, 2, 1, 1)}),
    "vit": ("vit_s16", {"img_size": (48, 64), "embed_dim": 16, "depth": 4, "num_heads": 2, "mlp_dim": 24}),
    "gmlp": ("gmlp_ti16", {"img_size": (48, 64), "embed_dim": 16, "depth": 4, "mlp_dim": 24, "attn_dim": 4}),
    "convmixer": ("convmixer_d768_32", {"embed_dim": 16, "depth": 4, "kernel_size": 5}),
}
"""Family to a name and the options that make it small."""


def create(family: str, **options: Any) -> nn.Module:
    """The small network of a family."""
    if family == "test_pyramid":
        device, dtype = options.pop("device", None), options.pop("dtype", None)
        small = {"embed_dims": (8, 12, 16, 24), "depths": (1, 2, 1, 1), "mlp_ratios": (1, 1, 1, 1), "num_classes": 7}
        config = PyramidConfig(**{**small, **options})
        return TinyPyramid(config, device=device, dtype=dtype)
    name, small = TINY[family]
    return mlpzoo.create_model(name, **{"num_classes": 7, **small, **options})


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

"""CycleMLP: a MLP-like architecture for dense prediction (Chen et al., 2022, https://arxiv.org/abs/2107.10224).

Authors' code: ShoufaChen/CycleMLP, `cycle_mlp.py` at 4e062a0 (MIT).
What differs: image channels and the stem's patches are free, where the authors fix them; Cycle FC runs as an exact
shift and a linear layer, where they run a deformable convolution; where its channels read can be changed, for the
paper's ablations. Any image size goes, as theirs.
"""

import dataclasses
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn

from mlpzoo.layers import ConvEmbed, CycleMLP, Downsample
from mlpzoo.models._family import Family, Weights
from mlpzoo.models._pyramid import PyramidBackbone, PyramidConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class CycleMlpConfig(PyramidConfig):
    """Settings of a CycleMLP.

    Attributes:
        patch_size: side of the stem's patches in pixels; they overlap where it exceeds `patch_stride`.
        patch_stride: pixels from one patch to the next.
        step_size: step size of the Cycle FCs, odd.
        sampling: where the channels of a Cycle FC read: `"cycle"`, or `"random"`, `"dilated"` or `"dense"` to compare
            against; see `mlpzoo.layers.CycleFC`.
        dilation: what the offsets are multiplied by where `sampling` is `"dilated"`.
        seed: seed of the offsets where `sampling` is `"random"`; every layer draws its own.
    """

    mlp_ratios: tuple[float, ...] = (4, 4, 4, 4)
    patch_size: int = 7
    patch_stride: int = 4
    step_size: int = 3
    sampling: str = "cycle"
    dilation: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        self._require("patch_stride", self.patch_stride >= 1, "1 or more")
        self._require("patch_size", self.patch_size >= self.patch_stride, f"patch_stride {self.patch_stride} or more")


class CycleNet(PyramidBackbone):
    """Overlapping patches, stages of CycleMLP blocks with convolutions of stride 2 between, LayerNorm, mean, head."""

    family = "cyclemlp"
    config: CycleMlpConfig

    def build_stem(self, **dd: Any) -> nn.Module:
        """The overlapping patches, padded so that the map is as large as the image divided by the stride."""
        config = self.config
        padding = (config.patch_size - config.patch_stride + 1) // 2
        return ConvEmbed(config.in_chans, config.embed_dims[0], config.patch_size, config.patch_stride, padding, **dd)

    def build_downsample(self, stage: int, **dd: Any) -> nn.Module:
        """A 3×3 convolution of stride 2."""
        before, after = self.config.embed_dims[stage - 1 : stage + 1]
        return Downsample(before, after, 3, 2, 1, **dd)

    def build_mixing(self, stage: int, number: int, **dd: Any) -> nn.Module:
        """A `CycleMLP`."""
        config = self.config
        return CycleMLP(
            config.embed_dims[stage],
            proj_drop=config.proj_drop_rate,
            step_size=config.step_size,
            sampling=config.sampling,
            dilation=config.dilation,
            seed=config.seed + number,
            impl=config.impl,
            **dd,
        )


# Sizes are those of `CycleMLP_B1` to `CycleMLP_B5` in the authors' code.
DIMS = (64, 128, 320, 512)

DATA: dict[str, Any] = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD, "pool_size": (7, 7)}
README = "README.md of ShoufaChen/CycleMLP at 4e062a0, whose main.py crops 0.875"


def _file(name: str, top1: float, crop_pct: float) -> Weights:
    url = f"https://github.com/ShoufaChen/CycleMLP/releases/download/v0.1/CycleMLP_{name}.pth"
    return Weights(
        url=url,
        license="MIT",
        top1=top1,
        top1_source=README,
        mean=IMAGENET_DEFAULT_MEAN,
        std=IMAGENET_DEFAULT_STD,
        crop_pct=crop_pct,
    )


FAMILY = Family(
    name="cyclemlp",
    title="CycleMLP",
    paper="https://arxiv.org/abs/2107.10224",
    code="https://github.com/ShoufaChen/CycleMLP/blob/4e062a0/cycle_mlp.py",
    license="MIT",
    model=CycleNet,
    data=DATA,
    variants={
        "cyclemlp_b1": CycleMlpConfig(depths=(2, 2, 4, 2), embed_dims=DIMS),
        "cyclemlp_b2": CycleMlpConfig(depths=(2, 3, 10, 3), embed_dims=DIMS),
        "cyclemlp_b3": CycleMlpConfig(depths=(3, 4, 18, 3), embed_dims=DIMS, mlp_ratios=(8, 8, 4, 4)),
        "cyclemlp_b4": CycleMlpConfig(depths=(3, 8, 27, 3), embed_dims=DIMS, mlp_ratios=(8, 8, 4, 4)),
        "cyclemlp_b5": CycleMlpConfig(depths=(3, 4, 24, 3), embed_dims=(96, 192, 384, 768)),
    },
    weights={
        # The crops are those of the default_cfgs in the authors' code.
        "cyclemlp_b1.in1k": _file("B1", 78.9, 0.9),
        "cyclemlp_b2.in1k": _file("B2", 81.6, 0.9),
        "cyclemlp_b3.in1k": _file("B3", 82.4, 0.9),
        "cyclemlp_b4.in1k": _file("B4", 83.0, 0.875),
        "cyclemlp_b5.in1k": _file("B5", 83.2, 0.875),
    },
)

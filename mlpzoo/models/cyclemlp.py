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
from mlpzoo.models._keymap import KeyMap, Rule
from mlpzoo.models._pyramid import PyramidBackbone, PyramidConfig
from mlpzoo.models._pyramid_files import number_stages, stage_rules


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
        output_stride: pixels for one position of the coarsest map: that of a stage; None for the last stage's. Stages
            that would be coarser no longer shrink the map, and what follows reads as many positions further (dilation):
            every second position of such a map holds what it would without, but for the means over the whole map in the
            mixing, which are over more positions.
    """

    mlp_ratios: tuple[float, ...] = (4, 4, 4, 4)
    patch_size: int = 7
    patch_stride: int = 4
    step_size: int = 3
    sampling: str = "cycle"
    dilation: int = 2
    seed: int = 0
    output_stride: int | None = None

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        self._require("patch_stride", self.patch_stride >= 1, "1 or more")
        self._require("patch_size", self.patch_size >= self.patch_stride, f"patch_stride {self.patch_stride} or more")
        if self.output_stride is not None:
            strides = [self.patch_stride * 2**stage for stage in range(len(self.depths))]
            named = ", ".join(map(str, strides))
            self._require("output_stride", self.output_stride in strides, f"the stride of a stage, one of {named}")
            holds = self.sampling in ("cycle", "dilated") or self.output_stride == strides[-1]
            self._require("sampling", holds, f"'cycle' or 'dilated' for output_stride {self.output_stride}")

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """Those of the stages, as coarse as `output_stride` lets them be."""
        strides = [self.patch_stride * 2**stage for stage in range(len(self.depths))]
        return tuple(min(stride, self.output_stride or stride) for stride in strides)

    def density(self, stage: int) -> int:
        """How many positions of a stage's map stand where one would if every stage shrank it."""
        return max(1, self.patch_stride * 2**stage // self.output_stride) if self.output_stride else 1


class CycleNet(PyramidBackbone):
    """Overlapping patches, stages of CycleMLP blocks with convolutions of stride 2 between, LayerNorm, mean, head."""

    family = "cyclemlp"
    config: CycleMlpConfig
    # Dense prediction fills memories: a twentieth of a step's time buys a third of what it keeps.
    recompute_mlp = True

    def build_stem(self, **dd: Any) -> nn.Module:
        """The overlapping patches, padded so that the map is as large as the image divided by the stride."""
        config = self.config
        padding = (config.patch_size - config.patch_stride + 1) // 2
        return ConvEmbed(config.in_chans, config.embed_dims[0], config.patch_size, config.patch_stride, padding, **dd)

    def build_downsample(self, stage: int, **dd: Any) -> nn.Module:
        """A 3×3 convolution of stride 2, or of stride 1 where the map is as coarse as it may be."""
        before, after = self.config.embed_dims[stage - 1 : stage + 1]
        density = self.config.density(stage - 1)
        stride = 2 if self.config.density(stage) == density else 1
        return Downsample(before, after, 3, stride, density, dilation=density, **dd)

    def build_mixing(self, stage: int, number: int, **dd: Any) -> nn.Module:
        """A `CycleMLP`."""
        config = self.config
        density = config.density(stage)
        dilated = config.sampling == "dilated"
        return CycleMLP(
            config.embed_dims[stage],
            proj_drop=config.proj_drop_rate,
            step_size=config.step_size,
            sampling="dilated" if density > 1 else config.sampling,
            dilation=density * config.dilation if dilated else density,
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


FORMATS = (
    KeyMap(
        "the authors' .pth",
        (
            # Offsets are fixed by the architecture: we compute them where they are needed.
            Rule(r"network\.\d+\.\d+\.attn\.sfc_[hw]\.offset", None),
            *stage_rules(r"mlp_c|sfc_[hw]"),
        ),
        rename=number_stages,
    ),
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
    formats=FORMATS,
)

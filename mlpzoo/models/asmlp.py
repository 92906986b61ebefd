"""AS-MLP: an axial shifted MLP architecture for vision (Lian et al., 2022, https://arxiv.org/abs/2107.08391).

Authors' code: svip-lab/AS-MLP, `models/as_mlp.py` at dd1eb4f (MIT), and for dense prediction
svip-lab/AS-MLP-Object-Detection, `mmdet/models/backbones/asmlp.py` at f80ff38f (Apache-2.0).
What differs: images whose sides are no multiples of the patch are padded with zeros on the right and below, as in the
dense code; so are maps with an odd side, where the authors' patch merging fails. Any image size goes.
"""

import dataclasses
import functools
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from mlpzoo.layers import GroupNorm1, PaddedEmbed, PatchMerging, ResidualBlock, create_activation, pointwise
from mlpzoo.layers.linear import apply_linear, apply_linear_to, rest
from mlpzoo.models._family import Family, Weights
from mlpzoo.models._keymap import KeyMap, Rule, pointwise_kernel
from mlpzoo.models._pyramid import PyramidBackbone, PyramidConfig
from mlpzoo.models._pyramid_files import downsample_first
from mlpzoo.ops import axial_shift
from mlpzoo.ops.axial_shift import Run


@dataclasses.dataclass(frozen=True, kw_only=True)
class AsMlpConfig(PyramidConfig):
    """Settings of an AS-MLP.

    Attributes:
        patch_size: side of the stem's patches in pixels, which do not overlap.
        shift_size: groups of channels that are shifted apart, odd; the first and the last by half as many positions.
    """

    mlp_ratios: tuple[float, ...] = (4, 4, 4, 4)
    patch_size: int = 4
    shift_size: int = 5

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        self._require("patch_size", self.patch_size >= 1, "1 or more")
        self._require("shift_size", self.shift_size >= 1 and self.shift_size % 2 == 1, "odd, and 1 or more")

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """The patch's side, and twice as much for each stage that follows."""
        return tuple(self.patch_size * 2**stage for stage in range(len(self.depths)))


def shift_runs(dim: int, shift_size: int) -> dict[int, list[Run]]:
    """Axis to what each group of channels reads along it: group g of s, the position s // 2 − g ahead."""
    group = -(-dim // shift_size)
    sizes = [min(group, dim - first) for first in range(0, dim, group)]
    ahead = [shift_size // 2 - g for g in range(len(sizes))]
    return {
        1: [(size, offset, 0) for size, offset in zip(sizes, ahead, strict=True)],
        2: [(size, 0, offset) for size, offset in zip(sizes, ahead, strict=True)],
    }


class AxialShift(nn.Module):
    """A linear layer, shifts along both axes with a linear layer after each, their sum, and a linear layer.

    Source: `AxialShift` of the authors. Its names are kept, so `conv2_1` sees the shift along the width.

    Args:
        dim: channels.
        shift_size: groups of channels.
        act_layer: name of the activation.
        norm_eps: epsilon of the norms.
        impl: which implementation of `mlpzoo.ops.axial_shift` runs; if `"reference"`, of every op inside.
        dd: `device` and `dtype` of the parameters.

    Shape:
        `(batch, height, width, dim)` to the same.
    """

    def __init__(self, dim: int, shift_size: int, act_layer: str, norm_eps: float, impl: str, **dd: Any) -> None:
        super().__init__()
        self.impl = rest(impl)
        layer = pointwise(impl)
        self.conv1 = layer(dim, dim, **dd)
        self.norm1 = GroupNorm1(dim, norm_eps, impl=self.impl, **dd)
        self.conv2_1 = layer(dim, dim, **dd)
        self.conv2_2 = layer(dim, dim, **dd)
        self.norm2 = GroupNorm1(dim, norm_eps, impl=self.impl, **dd)
        self.conv3 = layer(dim, dim, **dd)
        self.act = create_activation(act_layer)
        self.runs = shift_runs(dim, shift_size)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        y_BHWC = self.act(self.norm1(apply_linear(self.conv1, x_BHWC, impl=self.impl)))
        shift_w, shift_h = (functools.partial(axial_shift, runs=self.runs[axis], impl=self.impl) for axis in (2, 1))
        # Shifted maps are not saved for the backward pass: the one map that both are made of is.
        w_BHWC = self.act(apply_linear_to(self.conv2_1, shift_w, y_BHWC, impl=self.impl))
        h_BHWC = self.act(apply_linear_to(self.conv2_2, shift_h, y_BHWC, impl=self.impl))
        return apply_linear(self.conv3, self.norm2(w_BHWC + h_BHWC), impl=self.impl)


class AsMlp(PyramidBackbone):
    """Patches, stages of axial shift blocks with patch merging between, GroupNorm, mean, head."""

    family = "asmlp"
    config: AsMlpConfig

    def build_stem(self, **dd: Any) -> nn.Module:
        """Patches and a norm."""
        config = self.config
        dim, patch = config.embed_dims[0], config.patch_size
        norm = self.build_norm(dim, **dd)
        return PaddedEmbed(config.in_chans, dim, patch, patch, norm=norm, impl=rest(config.impl), **dd)

    def build_downsample(self, stage: int, **dd: Any) -> nn.Module:
        """A `PatchMerging`."""
        before, after = self.config.embed_dims[stage - 1 : stage + 1]
        impl = self.config.impl
        norm = self.build_norm(4 * before, **dd)
        return PatchMerging(before, after, norm, linear_layer=pointwise(impl), impl=rest(impl), **dd)

    def build_norm(self, dim: int, **dd: Any) -> nn.Module:
        """A GroupNorm of one group."""
        return GroupNorm1(dim, self.config.norm_eps, impl=rest(self.config.impl), **dd)

    def build_block(self, stage: int, number: int, *, drop_path: float, **dd: Any) -> nn.Module:
        """Axial shift and an MLP."""
        config = self.config
        dim = config.embed_dims[stage]
        return ResidualBlock(
            dim,
            AxialShift(dim, config.shift_size, config.act_layer, config.norm_eps, config.impl, **dd),
            int(dim * config.mlp_ratios[stage]),
            act_layer=config.act_layer,
            norm_layer=functools.partial(GroupNorm1, impl=rest(config.impl)),
            norm_eps=config.norm_eps,
            drop=config.proj_drop_rate,
            drop_path=drop_path,
            recompute=self.recompute_mlp,
            linear_layer=pointwise(config.impl),
            impl=config.impl,
            **dd,
        )

    def reset_parameters(self) -> None:
        """Draw the head as the authors do (`_init_weights`), and all that is a convolution to them as PyTorch does."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear | nn.GroupNorm):
                module.reset_parameters()
        self.reset_classifier_parameters()


ONEDRIVE = "https://shanghaitecheducn-my.sharepoint.com/:u:/g/personal/liandz_shanghaitech_edu_cn"
IMAGENET: dict[str, Any] = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
README = "README.md of svip-lab/AS-MLP at dd1eb4f"


def _file(token: str, top1: float) -> Weights:
    where = f"It is on OneDrive, at {ONEDRIVE}/{token}: fetch it with a browser and pass checkpoint_path="
    return Weights(where=where, license="MIT", top1=top1, top1_source=README, crop_pct=0.875, **IMAGENET)


FORMATS = (
    KeyMap(
        "the authors' .pth",
        (
            Rule(r"patch_embed\.(proj|norm)\.(weight|bias)", r"stem.\1.\2"),
            Rule(
                r"layers\.(\d+)\.blocks\.(\d+)\.(norm[12]|mlp\.fc[12])\.(weight|bias)",
                r"stages.\1.blocks.\2.\3.\4",
                pointwise_kernel,
            ),
            Rule(
                r"layers\.(\d+)\.blocks\.(\d+)\.axial_shift\.(conv1|conv2_[12]|conv3|norm[12])\.(weight|bias)",
                r"stages.\1.blocks.\2.attn.\3.\4",
                pointwise_kernel,
            ),
            Rule(
                r"layers\.(\d+)\.downsample\.(norm|reduction)\.(weight|bias)",
                r"stages.\1.downsample.\2.\3",
                pointwise_kernel,
            ),
            Rule(r"norm(\d+)\.(weight|bias)", r"feature_norms.\1.\2"),
            Rule(r"(norm|head)\.(weight|bias)", r"\1.\2"),
        ),
        rename=downsample_first,
    ),
)


FAMILY = Family(
    name="asmlp",
    title="AS-MLP",
    paper="https://arxiv.org/abs/2107.08391",
    code="https://github.com/svip-lab/AS-MLP/blob/dd1eb4f/models/as_mlp.py",
    license="MIT",
    model=AsMlp,
    data={**IMAGENET, "pool_size": (7, 7)},
    # The sizes are those of the authors' configs, whose drop path rates are 0.2 for tiny, 0.3 for small, 0.5 for base.
    variants={
        "asmlp_tiny": AsMlpConfig(depths=(2, 2, 6, 2), embed_dims=(96, 192, 384, 768)),
        "asmlp_small": AsMlpConfig(depths=(2, 2, 18, 2), embed_dims=(96, 192, 384, 768)),
        "asmlp_base": AsMlpConfig(depths=(2, 2, 18, 2), embed_dims=(128, 256, 512, 1024)),
    },
    weights={
        "asmlp_tiny.in1k": _file("Eb2lPJI2BshEjJxf9CmRkCUBnB63Wj25-FVVc6zJvgRg6w", 81.3),
        "asmlp_small.in1k": _file("EVIbw8xHKk1Aq9MBQL-cRbIBVJA_hJE-HEVNf_GVgkw2iQ", 83.1),
        "asmlp_base.in1k": _file("EZVBFW_LKctLqgrnnINy88wBRtGFava9wp_65emsvVW2KQ", 83.3),
    },
    formats=FORMATS,
)

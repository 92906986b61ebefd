"""SNN-MLP: brain-inspired multilayer perceptron with spiking neurons (Li et al., 2022, https://arxiv.org/abs/2203.14679).

Authors' code: huawei-noah/Efficient-AI-Backbones, `snnmlp_pytorch/models/snn_mlp.py` at f90e129 (Apache-2.0).
What differs: images whose sides are no multiples of the patch are padded with zeros on the right and below, and so are
maps with an odd side, where the authors' patch merging fails. Any image size goes. Thresholds start at 0.1, as the
authors' training script has it, and not at the -1 of their class.
"""

import dataclasses
import functools
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from mlpzoo.layers import GroupNorm1, PaddedEmbed, PatchMerging, ResidualBlock, create_activation, pointwise
from mlpzoo.layers.linear import apply_linear, rest
from mlpzoo.models._family import Family, Weights
from mlpzoo.models._keymap import KeyMap, Rule, pointwise_kernel
from mlpzoo.models._pyramid import PyramidBackbone, PyramidConfig
from mlpzoo.models._pyramid_files import downsample_first
from mlpzoo.ops.leaky_fire import leaky_fire


@dataclasses.dataclass(frozen=True, kw_only=True)
class SnnMlpConfig(PyramidConfig):
    """Settings of an SNN-MLP.

    Attributes:
        patch_size: side of the stem's patches in pixels, which do not overlap.
        run_length: positions after which a neuron starts anew.
        tau_init: what the leaks start at.
        threshold_init: what the thresholds start at.
    """

    mlp_ratios: tuple[float, ...] = (4, 4, 4, 4)
    patch_size: int = 4
    run_length: int = 4
    tau_init: float = 0.25
    threshold_init: float = 0.1

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        self._require("patch_size", self.patch_size >= 1, "1 or more")
        self._require("run_length", self.run_length >= 1, "1 or more")

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """The patch's side, and twice as much for each stage that follows."""
        return tuple(self.patch_size * 2**stage for stage in range(len(self.depths)))


class LeakyFire(nn.Module):
    """`mlpzoo.ops.leaky_fire` with a leak and a threshold that are learned.

    Args:
        axis: 1 to go along the height, 2 along the width.
        run: positions of a run.
        tau_init: what the leak starts at.
        threshold_init: what the threshold starts at.
        impl: which implementation runs.
        dd: `device` and `dtype` of the parameters.

    Shape:
        `(batch, height, width, channels)` to the same.
    """

    def __init__(self, axis: int, run: int, tau_init: float, threshold_init: float, impl: str, **dd: Any) -> None:
        super().__init__()
        self.axis, self.run, self.impl = axis, run, impl
        self.tau_init, self.threshold_init = tau_init, threshold_init
        self.tau = nn.Parameter(torch.empty(1, **dd))
        self.threshold = nn.Parameter(torch.empty(1, **dd))

    def reset_parameters(self) -> None:
        """Start at the initial values."""
        nn.init.constant_(self.tau, self.tau_init)
        nn.init.constant_(self.threshold, self.threshold_init)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, channels)` to the same."""
        return leaky_fire(x_BHWC, self.tau, self.threshold, self.run, self.axis, self.impl)


class SpikingMixing(nn.Module):
    """Local mixing, neurons along both axes with a linear layer after each, their sum, and a linear layer.

    Source: `LIFModule` of the authors. Its names are kept: `lif1` goes along the height, and `conv2_1` reads it.

    Args:
        dim: channels.
        config: settings of the network.
        dd: `device` and `dtype` of the parameters.

    Shape:
        `(batch, height, width, dim)` to the same.
    """

    def __init__(self, dim: int, config: SnnMlpConfig, **dd: Any) -> None:
        super().__init__()
        self.impl = rest(config.impl)
        layer = pointwise(self.impl)
        norm = functools.partial(GroupNorm1, dim, config.norm_eps, impl=self.impl, **dd)
        fire = functools.partial(
            LeakyFire,
            run=config.run_length,
            tau_init=config.tau_init,
            threshold_init=config.threshold_init,
            impl=self.impl,
            **dd,
        )
        self.conv1 = layer(dim, dim, **dd)
        self.norm1 = norm()
        self.dw1 = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, **dd)
        self.norm2 = norm()
        self.lif1 = fire(axis=1)
        self.lif2 = fire(axis=2)
        self.conv2_1 = layer(dim, dim, **dd)
        self.conv2_2 = layer(dim, dim, **dd)
        self.norm3 = norm()
        self.conv3 = layer(dim, dim, **dd)
        self.act = create_activation(config.act_layer)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        x_BHWC = self.act(self.norm1(apply_linear(self.conv1, x_BHWC, impl=self.impl)))
        x_BHWC = self.dw1(x_BHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x_BHWC = self.act(self.norm2(x_BHWC))
        h_BHWC = self.act(apply_linear(self.conv2_1, self.lif1(x_BHWC), impl=self.impl))
        w_BHWC = self.act(apply_linear(self.conv2_2, self.lif2(x_BHWC), impl=self.impl))
        return apply_linear(self.conv3, self.norm3(h_BHWC + w_BHWC), impl=self.impl)


class SnnMlp(PyramidBackbone):
    """Patches, stages of spiking blocks with patch merging between, GroupNorm, mean, head."""

    family = "snnmlp"
    config: SnnMlpConfig

    def build_stem(self, **dd: Any) -> nn.Module:
        """Patches and a norm."""
        config = self.config
        dim, patch = config.embed_dims[0], config.patch_size
        norm = self.build_norm(dim, **dd)
        return PaddedEmbed(config.in_chans, dim, patch, patch, norm=norm, impl=rest(config.impl), **dd)

    def build_downsample(self, stage: int, **dd: Any) -> nn.Module:
        """A `PatchMerging`."""
        before, after = self.config.embed_dims[stage - 1 : stage + 1]
        impl = rest(self.config.impl)
        norm = self.build_norm(4 * before, **dd)
        return PatchMerging(before, after, norm, linear_layer=pointwise(impl), impl=impl, **dd)

    def build_norm(self, dim: int, **dd: Any) -> nn.Module:
        """A GroupNorm of one group."""
        return GroupNorm1(dim, self.config.norm_eps, impl=rest(self.config.impl), **dd)

    def build_block(self, stage: int, number: int, *, drop_path: float, **dd: Any) -> nn.Module:
        """`SpikingMixing` and an MLP."""
        config = self.config
        dim, impl = config.embed_dims[stage], rest(config.impl)
        return ResidualBlock(
            dim,
            SpikingMixing(dim, config, **dd),
            int(dim * config.mlp_ratios[stage]),
            act_layer=config.act_layer,
            norm_layer=functools.partial(GroupNorm1, impl=impl),
            norm_eps=config.norm_eps,
            drop=config.proj_drop_rate,
            drop_path=drop_path,
            recompute=self.recompute_mlp,
            linear_layer=pointwise(impl),
            impl=impl,
            **dd,
        )

    def reset_parameters(self) -> None:
        """Draw the head as the authors do (`_init_weights`), all that is a convolution to them as PyTorch does."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear | nn.GroupNorm | LeakyFire):
                module.reset_parameters()
        self.reset_classifier_parameters()


RELEASES = "https://github.com/huawei-noah/Efficient-AI-Backbones/releases/download/snnmlp"
IMAGENET: dict[str, Any] = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}


def _file(size: str, top1: str) -> Weights:
    url = f"{RELEASES}/snnmlp_{size}_{top1}.pt"
    source = "the file's name; readme.md of snnmlp_pytorch in huawei-noah/Efficient-AI-Backbones at f90e129 rounds it"
    return Weights(url=url, license="Apache-2.0", top1=float(top1), top1_source=source, crop_pct=0.875, **IMAGENET)


BLOCK = r"layers\.(\d+)\.blocks\.(\d+)\."
OURS = r"stages.\1.blocks.\2."

FORMATS = (
    KeyMap(
        "the authors' .pt",
        (
            Rule(r"patch_embed\.(proj|norm)\.(weight|bias)", r"stem.\1.\2"),
            Rule(rf"{BLOCK}(norm[12]|mlp\.fc[12])\.(weight|bias)", rf"{OURS}\3.\4", pointwise_kernel),
            Rule(rf"{BLOCK}lif_module\.dw1\.(weight|bias)", rf"{OURS}attn.dw1.\3"),
            Rule(rf"{BLOCK}lif_module\.(lif[12])\.tau", rf"{OURS}attn.\3.tau"),
            Rule(rf"{BLOCK}lif_module\.(lif[12])\.Vth", rf"{OURS}attn.\3.threshold"),
            Rule(
                rf"{BLOCK}lif_module\.(conv1|conv2_[12]|conv3|norm[123])\.(weight|bias)",
                rf"{OURS}attn.\3.\4",
                pointwise_kernel,
            ),
            Rule(
                r"layers\.(\d+)\.downsample\.(norm|reduction)\.(weight|bias)",
                r"stages.\1.downsample.\2.\3",
                pointwise_kernel,
            ),
            Rule(r"(norm|head)\.(weight|bias)", r"\1.\2"),
        ),
        rename=downsample_first,
    ),
)


FAMILY = Family(
    name="snnmlp",
    title="SNN-MLP",
    paper="https://arxiv.org/abs/2203.14679",
    code="https://github.com/huawei-noah/Efficient-AI-Backbones/blob/f90e129/snnmlp_pytorch/models/snn_mlp.py",
    license="Apache-2.0",
    model=SnnMlp,
    data={**IMAGENET, "pool_size": (7, 7)},
    # The sizes are those of the authors' configs, whose drop path rates are 0.2 for tiny, 0.3 for small, 0.5 for base.
    variants={
        "snnmlp_tiny": SnnMlpConfig(depths=(2, 2, 6, 2), embed_dims=(96, 192, 384, 768)),
        "snnmlp_small": SnnMlpConfig(depths=(2, 2, 18, 2), embed_dims=(96, 192, 384, 768)),
        "snnmlp_base": SnnMlpConfig(depths=(2, 2, 18, 2), embed_dims=(128, 256, 512, 1024)),
    },
    weights={
        "snnmlp_tiny.in1k": _file("tiny", "81.88"),
        "snnmlp_small.in1k": _file("small", "83.30"),
        "snnmlp_base.in1k": _file("base", "83.59"),
    },
    formats=FORMATS,
)

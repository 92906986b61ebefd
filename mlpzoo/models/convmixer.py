"""ConvMixer: Patches Are All You Need? (Trockman and Kolter, 2022, https://arxiv.org/abs/2201.09792).

Authors' code: locuslab/convmixer, `convmixer.py` at 4704811 (MIT).
What differs: maps keep their channels last in memory; dropout and stochastic depth are there, off as in the authors'
code. The authors' builder has GELU everywhere, yet the file they released for 768/32 was trained with ReLU: its tag
says so. The names are not timm's, which has ReLU in its `convmixer_768_32`.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn

from mlpzoo.layers import ConvMixerBlock, ConvMixerStem
from mlpzoo.models._family import Family, Weights
from mlpzoo.models._isotropic import IsotropicMapBackbone, IsotropicMapConfig
from mlpzoo.models._keymap import Pair, reader, same, writer


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvMixerConfig(IsotropicMapConfig):
    """Settings of a ConvMixer. It has no ops of which there are two versions, so `impl` has no effect.

    Attributes:
        kernel_size: side of the depthwise convolutions.
        norm_eps: epsilon of the BatchNorms.
    """

    kernel_size: int = 9
    patch_size: int = 7
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        self._require("kernel_size", self.kernel_size >= 1, "1 or more")


class ConvMixer(IsotropicMapBackbone):
    """Patches, `depth` ConvMixer blocks at one resolution, mean over positions, linear head; images of any size."""

    family = "convmixer"
    config: ConvMixerConfig

    def build_embedding(self, **dd: Any) -> None:
        """Create `stem`."""
        config = self.config
        self.stem = ConvMixerStem(
            config.in_chans,
            config.embed_dim,
            config.patch_size,
            act_layer=config.act_layer,
            norm_eps=config.norm_eps,
            **dd,
        )

    def build_block(self, *, drop_path: float, **dd: Any) -> nn.Module:
        """One `ConvMixerBlock`."""
        config = self.config
        return ConvMixerBlock(
            config.embed_dim,
            config.kernel_size,
            drop=config.proj_drop_rate,
            drop_path=drop_path,
            act_layer=config.act_layer,
            norm_eps=config.norm_eps,
            **dd,
        )

    def build_norm(self, dim: int, **dd: Any) -> nn.Module:
        """None: every block ends in a norm of its own."""
        return nn.Identity()

    def reset_parameters(self) -> None:
        """Draw as PyTorch draws convolutions, norms and linears: the authors leave it at that."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
                module.reset_parameters()
        self.reset_classifier_parameters()

    def reset_classifier_parameters(self) -> None:
        """Draw the head as PyTorch does."""
        if isinstance(self.head, nn.Linear):
            self.head.reset_parameters()


RELEASES = "https://github.com/tmp-iclr/convmixer/releases/download/v1.0"
TIMM = "timm's results-imagenet.csv at aa4b585"
IMAGENET: dict[str, Any] = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD, "crop_pct": 0.96}


def _file(name: str, top1: float, **options: Any) -> Weights:
    return Weights(url=f"{RELEASES}/{name}.pth.tar", license="MIT", top1=top1, top1_source=TIMM, **IMAGENET, **options)


FIRST_BLOCK = 3
"""Place of the first block in the authors' list, after patches, activation and norm."""

TIMM_PAIRS = (
    Pair("stem.0.*", "stem.proj.*"),
    Pair("stem.2.*", "stem.norm.*"),
    Pair("blocks.*.0.fn.0.*", "blocks.*.depthwise.proj.*"),
    Pair("blocks.*.0.fn.2.*", "blocks.*.depthwise.norm.*"),
    Pair("blocks.*.1.*", "blocks.*.pointwise.proj.*"),
    Pair("blocks.*.3.*", "blocks.*.pointwise.norm.*"),
    *same("head.*"),
)


def name_places(names: Sequence[str]) -> list[str]:
    """From the authors' names, which are places in one list, to timm's.

    `0.` and `2.` are the stem; what has places of its own inside is a block; the linear layer after the blocks, pooling
    and flattening is the head.
    """
    blocks = {int(place) for name in names for place in re.findall(r"^(\d{1,4})\.\d", name)}
    head = max(blocks, default=0) + 3

    def renamed(match: re.Match[str]) -> str:
        place = int(match[1])
        if place in blocks and place >= FIRST_BLOCK:
            return f"blocks.{place - FIRST_BLOCK}."
        return "head." if place == head else f"stem.{place}."

    return [re.sub(r"^(\d{1,4})\.", renamed, name) for name in names]


FORMATS = (
    reader("timm's layout", TIMM_PAIRS),
    reader("the authors' .pth.tar", TIMM_PAIRS, name_places),
)
TO_TIMM = writer("timm's layout", TIMM_PAIRS)


FAMILY = Family(
    name="convmixer",
    title="ConvMixer",
    paper="https://arxiv.org/abs/2201.09792",
    code="https://github.com/locuslab/convmixer/blob/4704811/convmixer.py",
    license="MIT",
    model=ConvMixer,
    data=IMAGENET,
    # The paper's Table 1, by width and depth.
    variants={
        "convmixer_d1536_20": ConvMixerConfig(embed_dim=1536, depth=20),
        "convmixer_d768_32": ConvMixerConfig(embed_dim=768, depth=32, kernel_size=7),
        "convmixer_d1024_20": ConvMixerConfig(embed_dim=1024, depth=20, patch_size=14),
    },
    weights={
        "convmixer_d1536_20.in1k": _file("convmixer_1536_20_ks9_p7", 81.38),
        "convmixer_d768_32.relu_in1k": _file("convmixer_768_32_ks7_p7_relu", 80.16, overrides={"act_layer": "relu"}),
        "convmixer_d1024_20.in1k": _file("convmixer_1024_20_ks9_p14", 76.94),
    },
    formats=FORMATS,
    to_timm=TO_TIMM,
)

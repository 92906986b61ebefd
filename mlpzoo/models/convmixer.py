"""ConvMixer: Patches Are All You Need? (Trockman and Kolter, 2022, https://arxiv.org/abs/2201.09792).

Authors' code: locuslab/convmixer, `convmixer.py` at 4704811 (MIT).
What differs: maps keep their channels last in memory; dropout and stochastic depth are there, off as in the authors'
code. The authors' builder has GELU everywhere, yet the file they released for 768/32 was trained with ReLU: its tag
says so. The names are not timm's, which has ReLU in its `convmixer_768_32`.
"""

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import checkpoint
from torch import Tensor, nn

from mlpzoo.layers import ConvMixerBlock, ConvMixerStem
from mlpzoo.models._base import BackboneConfig, LayerwisePattern
from mlpzoo.models._family import Family, Weights
from mlpzoo.models._keymap import Pair, reader, same, writer
from mlpzoo.models._maps import MapBackbone


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvMixerConfig(BackboneConfig):
    """Settings of a ConvMixer. It has no ops of which there are two versions, so `impl` has no effect.

    Attributes:
        embed_dim: channels of the map.
        depth: blocks.
        kernel_size: side of the depthwise convolutions.
        patch_size: side of a patch in pixels, and so the stride of every feature map.
        norm_eps: epsilon of the BatchNorms.
    """

    embed_dim: int
    depth: int
    kernel_size: int = 9
    patch_size: int = 7
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        for name in ("embed_dim", "depth", "kernel_size", "patch_size"):
            self._require(name, getattr(self, name) >= 1, "1 or more")


@contextlib.contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Keep the BatchNorms inside from learning of a batch; in training they still normalize by it."""
    kept = [
        (norm, norm.momentum, norm.num_batches_tracked) for norm in module.modules() if isinstance(norm, nn.BatchNorm2d)
    ]
    for norm, _, _ in kept:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, momentum, count in kept:
            norm.momentum, norm.num_batches_tracked = momentum, count


class ConvMixer(MapBackbone):
    """Patches, `depth` ConvMixer blocks at one resolution, mean over positions, linear head; images of any size.

    Args:
        config: what to build.
        device: where the parameters live; `"meta"` allocates none.
        dtype: their type.
    """

    family = "convmixer"
    feature_stack = "blocks"
    config: ConvMixerConfig

    def __init__(
        self,
        config: ConvMixerConfig,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(config)
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        style: dict[str, Any] = {"act_layer": config.act_layer, "norm_eps": config.norm_eps}
        self.embed_dim = self.num_features = self.head_hidden_size = config.embed_dim
        self.stem = ConvMixerStem(config.in_chans, config.embed_dim, config.patch_size, **style, **dd)
        self.blocks = nn.Sequential(
            *(
                ConvMixerBlock(
                    config.embed_dim, config.kernel_size, drop=config.proj_drop_rate, drop_path=rate, **style, **dd
                )
                for rate in config.drop_path_rates(config.depth)
            )
        )
        # Every block ends in a norm of its own.
        self.norm = nn.Identity()
        self.feature_info = [
            {"module": f"blocks.{i}", "num_chs": config.embed_dim, "reduction": config.patch_size}
            for i in range(config.depth)
        ]
        self.build_head(**dd)
        self.reset_parameters()

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

    def forward_features(self, x: Tensor) -> Tensor:
        """An image batch `(B, I, H, W)` to the last block's map `(B, H', W', C)`."""
        x_BHWC = self.stem(x)
        if self.grad_checkpointing:
            for block in self.blocks:
                x_BHWC = self.run_part(block, x_BHWC)
        else:
            x_BHWC = self.blocks(x_BHWC)
        return self.norm(x_BHWC)

    def run_part(self, part: nn.Module, x: Tensor) -> Tensor:
        """One block, recomputed in the backward pass if so set, in which its norms do not count the batch again."""
        if not self.grad_checkpointing:
            return part(x)
        if torch.compiler.is_compiling():
            # The compiler recomputes activations alone, and takes no contexts.
            return checkpoint(part, x)
        return checkpoint(part, x, context_fn=lambda: (contextlib.nullcontext(), frozen_statistics(part)))

    def finish(self, x: Tensor, index: int) -> Tensor:
        """What leaves a block is normalized already."""
        return self.norm(x)

    def group_matcher(self, coarse: bool = False) -> dict[str, LayerwisePattern]:
        """Patterns that group the parameters by depth, for layer-wise learning rates."""
        return {"stem": r"^stem", "blocks": r"^blocks\.(\d+)"}


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

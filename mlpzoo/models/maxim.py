"""MAXIM: Multi-Axis MLP for Image Processing (Tu et al., 2022, https://arxiv.org/abs/2201.02973).

Authors' code: google-research/maxim, `maxim/models/maxim.py` at 3c82651 (Apache-2.0).
What differs: 1×1 convolutions are linear layers over maps with the channels last, and follow an enlargement's resizing
by going before it; dropout, which no released configuration uses, and the ablations without cross gating or multi-axis
blocks are left out. The authors' `grid_size_lr` does not exist here because their code never reads it: at low
resolution the block's size is the grid's as well.

Shape suffixes: B batch, I image channels, H × W positions, C channels.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mlpzoo.layers import (
    ConvAttentionBlock,
    ConvNHWC,
    CrossGating,
    GatherLevels,
    MlpAttentionBlock,
    MultiAxisMlp,
    SupervisedAttention,
    UpsampleNHWC,
)
from mlpzoo.layers.init import flax_default_
from mlpzoo.layers.linear import apply_linear
from mlpzoo.models._family import RESTORATION, Family
from mlpzoo.models._network import Network
from mlpzoo.models.maxim_files import FORMATS, WEIGHTS
from mlpzoo.ops import resize_nearest


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaximConfig:
    """Settings of a MAXIM network. Level i works on the image halved i times, with `embed_dim` · 2^i channels.

    Attributes:
        embed_dim: channels of level 0, the authors' `features`.
        depth: levels of each U-Net.
        num_stages: U-Nets one after another.
        num_groups: multi-axis blocks, each with a channel attention block, in every part of a U-Net.
        num_bottleneck_blocks: blocks below the last level.
        num_supervision_scales: levels that see the image and give one. The released checkpoints have 3, as
            `run_eval.py` sets; the figures in the authors' table of variants are for 1.
        high_res_stages: how many levels, from the top, have the large blocks and grids.
        block_size_hr: side of their blocks, in positions.
        grid_size_hr: side of their grids, in cells.
        block_size_lr: side of the other levels' blocks, and of their grids.
        block_gmlp_factor: widening of the gMLP inside blocks.
        grid_gmlp_factor: widening of the gMLP across the grid.
        input_proj_factor: widening before the channels are halved.
        channels_reduction: of the channel attention.
        lrelu_slope: of the leaky ReLUs below zero.
        in_chans: channels of the image, in and out.
        act_layer: name of the activation; flax's GELU is the tanh form.
        norm_eps: epsilon of the LayerNorms; flax's default.
    """

    embed_dim: int = 32
    depth: int = 3
    num_stages: int = 1
    num_groups: int = 2
    num_bottleneck_blocks: int = 2
    num_supervision_scales: int = 3
    high_res_stages: int = 2
    block_size_hr: int = 16
    grid_size_hr: int = 16
    block_size_lr: int = 8
    block_gmlp_factor: int = 2
    grid_gmlp_factor: int = 2
    input_proj_factor: int = 2
    channels_reduction: int = 4
    lrelu_slope: float = 0.2
    in_chans: int = 3
    act_layer: str = "gelu_tanh"
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type is int or field.type == "int":
                least = 0 if field.name in ("high_res_stages", "num_bottleneck_blocks") else 1
                if not isinstance(value, int) or value < least:
                    raise ValueError(f"{field.name} must be an integer of {least} or more, got {value!r}")
        if self.num_supervision_scales > self.depth:
            raise ValueError(
                f"num_supervision_scales must be at most depth, got {self.num_supervision_scales} of {self.depth}"
            )

    def dim(self, level: int) -> int:
        """Channels of a level."""
        return self.embed_dim * 2**level

    @property
    def first_conv(self) -> str:
        """Empty: the image's channels come out as well, so no convolution alone can adapt to another number of them."""
        return ""

    @property
    def dense_prefixes(self) -> tuple[str, ...]:
        """There are no files of dense prediction."""
        return ()

    @property
    def optional_prefixes(self) -> tuple[str, ...]:
        """None: a file must hold every parameter."""
        return ()

    def sizes(self, level: int) -> dict[str, Any]:
        """Sides of a level's blocks and grid; the bottleneck's are the low-resolution ones whatever the depth."""
        if level < min(self.high_res_stages, self.depth):
            return {"block_size": self.block_size_hr, "grid_size": self.grid_size_hr}
        return {"block_size": self.block_size_lr, "grid_size": self.block_size_lr}

    def cross_gating_options(self, level: int) -> dict[str, Any]:
        """Keyword arguments of every `CrossGating` of a level."""
        shared = {"factor": self.input_proj_factor, "act_layer": self.act_layer, "norm_eps": self.norm_eps}
        return {**self.sizes(level), **shared}

    @property
    def size_multiple(self) -> int:
        """What divides the sides of every image the network takes, in pixels; 64 for the published variants."""
        levels = (*range(self.depth), *((self.depth,) if self.num_bottleneck_blocks else ()))
        return math.lcm(2**self.depth, *(side * 2**level for level in levels for side in self.sizes(level).values()))


class MaximBlock(nn.Module):
    """A projection, then groups of multi-axis MLP and channel attention under one long skip.

    Args:
        in_dim: channels in.
        level: the level, whose channels come out; the bottleneck's is `depth`, with the channels of the last.
        config: of the network.
        cross_gating: whether the result is gated with maps of the stage before.
        dd: `device` and `dtype`.

    Shape:
        `(batch, height, width, in_dim)` to `(batch, height, width, dim)`.
    """

    def __init__(self, in_dim: int, level: int, config: MaximConfig, *, cross_gating: bool = False, **dd: Any) -> None:
        super().__init__()
        dim = config.dim(min(level, config.depth - 1))
        shared: dict[str, Any] = {"act_layer": config.act_layer, "norm_eps": config.norm_eps, **dd}
        self.proj = nn.Linear(in_dim, dim, **dd)
        self.mixings = nn.ModuleList(
            MultiAxisMlp(
                dim,
                **config.sizes(level),
                factor=config.input_proj_factor,
                block_factor=config.block_gmlp_factor,
                grid_factor=config.grid_gmlp_factor,
                **shared,
            )
            for _ in range(config.num_groups)
        )
        reduction = config.channels_reduction
        self.attns = nn.ModuleList(
            MlpAttentionBlock(dim, reduction=reduction, **shared)
            if level == config.depth
            else ConvAttentionBlock(dim, reduction=reduction, slope=config.lrelu_slope, norm_eps=config.norm_eps, **dd)
            for _ in range(config.num_groups)
        )
        self.cross_gating = (
            CrossGating(dim, dim, dim, upsample_y=False, **config.cross_gating_options(level), **dd)
            if cross_gating
            else None
        )
        self.reset_parameters()

    def forward(self, x_BHWC: Tensor, earlier_BHWC: Tensor | None = None) -> Tensor:
        """A map, and what the stage before made at this level, to a map."""
        shortcut = x_BHWC = apply_linear(self.proj, x_BHWC)
        for mixing, attn in zip(self.mixings, self.attns, strict=True):
            x_BHWC = attn(mixing(x_BHWC))
        x_BHWC = x_BHWC + shortcut
        if self.cross_gating is not None and earlier_BHWC is not None:
            x_BHWC, _ = self.cross_gating(x_BHWC, earlier_BHWC)
        return x_BHWC

    def reset_parameters(self) -> None:
        """flax's defaults for the projection."""
        flax_default_(self.proj)


class MaximStage(nn.Module):
    """One U-Net: encoders, bottleneck, cross-gated skips, decoders, and an image at every supervised level.

    Args:
        config: of the network.
        first: whether no stage comes before.
        last: whether none comes after.
        dd: `device` and `dtype`.
    """

    def __init__(self, config: MaximConfig, *, first: bool, last: bool, **dd: Any) -> None:
        super().__init__()
        levels, scales = range(config.depth), range(config.num_supervision_scales)
        dims = [config.dim(i) for i in levels]
        below = [*dims[1:], dims[-1]]

        def crossing(in_dim: int, y_dim: int, level: int, upsample_y: bool) -> CrossGating:
            return CrossGating(
                in_dim, y_dim, dims[level], upsample_y=upsample_y, **config.cross_gating_options(level), **dd
            )

        self.input_convs = nn.ModuleList(ConvNHWC(config.in_chans, dims[i], 3, padding=1, **dd) for i in scales)
        self.input_fusions = nn.ModuleList(() if first else (crossing(dims[i], dims[i], i, False) for i in scales))
        # At the top the authors join the input with itself.
        self.encoders = nn.ModuleList(
            MaximBlock(dims[max(i - 1, 0)] + (dims[i] if i in scales else 0), i, config, cross_gating=not first, **dd)
            for i in levels
        )
        self.downs = nn.ModuleList(ConvNHWC(dim, dim, 4, 2, padding=1, **dd) for dim in dims)
        self.bottleneck = nn.Sequential(
            *(MaximBlock(dims[-1], config.depth, config, **dd) for _ in range(config.num_bottleneck_blocks))
        )
        self.to_skips = nn.ModuleList(GatherLevels(dims, i, **dd) for i in levels)
        self.skips = nn.ModuleList(crossing(config.depth * dims[i], below[i], i, True) for i in levels)
        self.to_decoders = nn.ModuleList(GatherLevels(dims, i, lowest_first=True, **dd) for i in levels)
        self.ups = nn.ModuleList(UpsampleNHWC(below[i], dims[i], **dd) for i in levels)
        self.decoders = nn.ModuleList(MaximBlock((config.depth + 1) * dims[i], i, config, **dd) for i in levels)
        self.last = last
        self.outputs = nn.ModuleList(
            ConvNHWC(dims[i], config.in_chans, 3, padding=1, **dd)
            if last
            else SupervisedAttention(dims[i], config.in_chans, **dd)
            for i in scales
        )

    def forward(
        self, images: list[Tensor], attended: list[Tensor], earlier: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Run the stage; every list is by level, from the top.

        Args:
            images: the image at every supervised level, `(B, H, W, I)`.
            attended: features of the stage before at every supervised level; empty for the first stage.
            earlier: sum of its encoders' and decoders' maps at every level; empty for the first stage.

        Returns:
            The images made, and the next stage's `attended`, empty in the last, and `earlier`.
        """
        inputs = [conv(image) for conv, image in zip(self.input_convs, images, strict=True)]
        if attended:
            inputs = [fusion(x, y)[0] for fusion, x, y in zip(self.input_fusions, inputs, attended, strict=True)]
        x_BHWC, encoded = inputs[0], []
        for i, (encoder, down) in enumerate(zip(self.encoders, self.downs, strict=True)):
            if i < len(inputs):
                x_BHWC = torch.cat([x_BHWC, inputs[i]], dim=-1)
            encoded.append(encoder(x_BHWC, earlier[i] if earlier else None))
            x_BHWC = down(encoded[-1])
        del inputs
        x_BHWC = self.bottleneck(x_BHWC)

        signal_BHWC = x_BHWC
        skips: list[Tensor] = []
        for gather, skip in zip(reversed(self.to_skips), reversed(self.skips), strict=True):
            fused, signal_BHWC = skip(gather(encoded), signal_BHWC)
            skips.insert(0, fused)

        made: list[Tensor] = []
        attention: list[Tensor] = []
        decoded: list[Tensor] = []
        for i in reversed(range(len(self.decoders))):
            x_BHWC = torch.cat([self.ups[i](x_BHWC), self.to_decoders[i](skips)], dim=-1)
            x_BHWC = self.decoders[i](x_BHWC)
            decoded.insert(0, x_BHWC)
            if i < len(images) and self.last:
                made.insert(0, self.outputs[i](x_BHWC) + images[i])
            elif i < len(images):
                features, image = self.outputs[i](x_BHWC, images[i])
                attention.insert(0, features)
                made.insert(0, image)
        return made, attention, [] if self.last else [x + y for x, y in zip(encoded, decoded, strict=True)]


class MAXIM(Network):
    """From an image to the image restored, by every stage and at every supervised scale.

    Args:
        config: what to build.
        device: where the parameters live; `"meta"` allocates none.
        dtype: their type.

    Shape:
        `(batch, in_chans, height, width)`, of pixels in [0, 1] and sides that `size_multiple` divides, to a list by
        stage of lists by scale, from the smallest: the restored image is `[-1][-1]`.
    """

    family = "maxim"
    config: MaximConfig

    def __init__(
        self, config: MaximConfig, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.in_chans = config.in_chans
        self.size_multiple = config.size_multiple
        last = config.num_stages - 1
        self.stages = nn.ModuleList(
            MaximStage(config, first=i == 0, last=i == last, device=device, dtype=dtype)
            for i in range(config.num_stages)
        )

    def forward(self, x_BIHW: Tensor) -> list[list[Tensor]]:
        """An image batch to the images that each stage makes of it, the smallest scale first.

        Raises:
            ValueError: when the batch is of another shape than the network takes.
        """
        multiple = self.size_multiple
        if x_BIHW.ndim != 4 or x_BIHW.shape[1] != self.in_chans:
            raise ValueError(f"expected images (batch, {self.in_chans}, height, width), got {tuple(x_BIHW.shape)}")
        height, width = x_BIHW.shape[2:]
        if height % multiple or width % multiple or not height * width:
            raise ValueError(
                f"this network takes images whose sides {multiple} divides, got {height}×{width}: "
                "mlpzoo.restoration.restore pads and crops"
            )
        images = [
            resize_nearest(x_BIHW, height >> i, width >> i).permute(0, 2, 3, 1).contiguous()
            for i in range(self.config.num_supervision_scales)
        ]
        outputs: list[list[Tensor]] = []
        attended: list[Tensor] = []
        earlier: list[Tensor] = []
        for stage in self.stages:
            made, attended, earlier = stage(images, attended, earlier)
            outputs.append([image.permute(0, 3, 1, 2) for image in reversed(made)])
        return outputs

    def reset_parameters(self) -> None:
        """Draw every parameter as the authors' code does."""
        # What stands inside a layer comes first, for the layer may draw it in its own way.
        for module in reversed(list(self.modules())):
            reset = getattr(module, "reset_parameters", None)
            if module is not self and reset is not None:
                reset()

    def explain_misfit(self, shapes: Mapping[str, tuple[int, ...]]) -> str:
        """What to do about a checkpoint that does not fit: the variants differ in stages, channels and scales."""
        return "Is it of another variant (maxim_s1 to maxim_m3) or number of supervision scales?"


FAMILY = Family(
    name="maxim",
    title="MAXIM",
    paper="https://arxiv.org/abs/2201.02973",
    code="https://github.com/google-research/maxim/tree/3c82651",
    license="Apache-2.0",
    task=RESTORATION,
    model=MAXIM,
    # The authors' table in `Model()`; the paper's MAXIM-2S and -3S are S-2 and S-3.
    variants={
        f"maxim_{size}{stages}": MaximConfig(embed_dim=embed_dim, num_stages=stages)
        for size, embed_dim in (("s", 32), ("m", 64))
        for stages in (1, 2, 3)
    },
    weights=WEIGHTS,
    formats=FORMATS,
)

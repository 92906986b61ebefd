"""PosMLP: cross-token relations of vision MLPs, parameterized by relative positions (Wang et al., 2022).

Paper: https://arxiv.org/abs/2207.07284.
Authors' code: Zhicaiwww/PosMLP, `models/posmlp.py` at 654f020 (MIT).
What differs: images of any size go in where `dynamic_img_size` says so, with windows that reach beyond the border of a
map, whose positions there are left out. What gates does not depend on the image: it is computed once while its
parameters stay, and `mlpzoo.deploy.fold` computes it for good. `posmlp_b` is no config of the authors: it is
`posmlp_s` with the channels that give the size in their README.

Shape suffixes: B batch, I image channels, H × W positions, C channels.
"""

import dataclasses
import itertools
from typing import Any, ClassVar

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import DropPath
from torch import Tensor, nn

from mlpzoo.layers import Downsample, create_activation
from mlpzoo.layers.folding import rounded
from mlpzoo.layers.linear import apply_linear, apply_linear_to, rest
from mlpzoo.models._family import Family, Weights
from mlpzoo.models._keymap import KeyMap, Rule, flat
from mlpzoo.models._windows import WindowedBackbone, WindowedConfig
from mlpzoo.ops import channels_last
from mlpzoo.ops.positional_mixing import positional_map, positional_mixing
from mlpzoo.ops.resize import Grid


@dataclasses.dataclass(frozen=True, kw_only=True)
class PosMLPConfig(WindowedConfig):
    """Settings of a PosMLP.

    Attributes:
        mlp_ratios: channels of each stage's blocks, both halves together, for every channel of the map.
        gammas: groups of channels of each stage that have a map of positions of their own.
    """

    mlp_ratios: tuple[float, ...] = (4, 4, 4, 2)
    window_sizes: tuple[int, ...] = (14, 14, 14, 7)
    gammas: tuple[int, ...] = (8, 16, 32, 64)
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        self._require_for_each_stage("gammas")
        self._require("embed_dims", self.embed_dims[0] % 2 == 0, "even in the first stage")
        grows = all(after % before == 0 for before, after in itertools.pairwise(self.embed_dims))
        self._require("embed_dims", grows, "each a multiple of the one before, which convolutions spread over it")
        halves = [int(dim * ratio) / 2 for dim, ratio in zip(self.embed_dims, self.mlp_ratios, strict=True)]
        holds = all(half % gamma == 0 for half, gamma in zip(halves, self.gammas, strict=True))
        self._require("gammas", holds, f"divisors of half of each stage's channels in a block, {tuple(halves)}")

    @property
    def stem_width(self) -> int:
        """Channels that leave the first convolution."""
        return self.embed_dims[0] // 2


class ConvStem(nn.Module):
    """Two 3×3 convolutions of stride 2 and a linear map, a BatchNorm after each, activations between.

    Shape:
        `(batch, in_chans, height, width)` to `(batch, ⌈height / 4⌉, ⌈width / 4⌉, dim)`.
    """

    stride = 4
    norm_after: ClassVar = {"proj": "norm1", "conv2": "norm2", "conv3": "norm3"}

    def __init__(self, in_chans: int, dim: int, act_layer: str, norm_eps: float, impl: str, **dd: Any) -> None:
        super().__init__()
        self.impl = impl
        self.proj = nn.Conv2d(in_chans, dim // 2, 3, 2, 1, **dd)
        self.norm1 = nn.BatchNorm2d(dim // 2, eps=norm_eps, **dd)
        self.act = create_activation(act_layer)
        self.conv2 = nn.Conv2d(dim // 2, dim, 3, 2, 1, **dd)
        self.norm2 = nn.BatchNorm2d(dim, eps=norm_eps, **dd)
        self.conv3 = nn.Conv2d(dim, dim, 1, **dd)
        self.norm3 = nn.BatchNorm2d(dim, eps=norm_eps, **dd)

    def forward(self, x_BIHW: Tensor) -> Tensor:
        """`(batch, in_chans, height, width)` to the map."""
        if self.impl != "reference":
            x_BIHW = channels_last(x_BIHW)
        x_BCHW = self.act(self.norm1(self.proj(x_BIHW)))
        x_BCHW = self.act(self.norm2(self.conv2(x_BCHW)))
        return self.norm3(self.conv3(x_BCHW)).permute(0, 2, 3, 1).contiguous()

    def grid_after(self, grid: Grid) -> Grid:
        """Height and width of the map for those of an image."""
        return -(-grid[0] // 4), -(-grid[1] // 4)


class FixedPositionalMixing(nn.Module):
    """`PositionalMixing` whose map is computed: `(B, H, W, C)` to the same."""

    def __init__(self, positions: Tensor, bias: nn.Parameter, window: int) -> None:
        super().__init__()
        self.window = window
        self.positions = rounded(positions, bias)
        self.bias = bias

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, channels)` to the same."""
        return positional_mixing(x_BHWC, self.positions, self.bias, self.window)


class PositionalMixing(nn.Module):
    """Mix each window by maps of how far positions are from each other, see `positional_map` and `positional_mixing`.

    Args:
        groups: groups of channels with a map of their own.
        window: side of a window in positions.
        impl: which implementations of the ops run.
        dd: `device` and `dtype` of the parameters.

    Shape:
        `(batch, height, width, channels)` to the same.
    """

    def __init__(self, groups: int, window: int, impl: str, **dd: Any) -> None:
        super().__init__()
        self.window, self.impl = window, impl
        self.centers = nn.Parameter(torch.empty(groups, 2, **dd))
        self.spreads = nn.Parameter(torch.empty(groups, 2, 2, **dd))
        self.bias = nn.Parameter(torch.empty(window**2, **dd))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw as the authors do: centres near the position itself, spreads near the identity, no bias."""
        nn.init.normal_(self.centers, std=0.01)
        nn.init.normal_(self.spreads, std=0.01)
        with torch.no_grad():
            self.spreads.diagonal(dim1=1, dim2=2).add_(1)
        nn.init.zeros_(self.bias)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, channels)` to the same."""
        positions_ZMN = positional_map(self.centers, self.spreads, self.window, self.impl)
        return positional_mixing(x_BHWC, positions_ZMN, self.bias, self.window, self.impl)

    def folded(self) -> nn.Module:
        """Its map, computed in float64."""
        if self.impl == "reference":
            return self
        positions = positional_map(self.centers.double(), self.spreads.double(), self.window)
        return FixedPositionalMixing(positions, self.bias, self.window)


class PosMLPBlock(nn.Module):
    """LayerNorm, linear, activation, one half gated by the positional mixing of the other, linear; with a skip.

    Shape:
        `(batch, height, width, dim)` to the same.
    """

    def __init__(self, config: PosMLPConfig, stage: int, *, drop_path: float, **dd: Any) -> None:
        super().__init__()
        dim, self.impl = config.embed_dims[stage], rest(config.impl)
        hidden = int(dim * config.mlp_ratios[stage])
        self.norm = nn.LayerNorm(dim, eps=config.norm_eps, **dd)
        self.fc1 = nn.Linear(dim, hidden, **dd)
        self.act = create_activation(config.act_layer)
        self.mixing = PositionalMixing(config.gammas[stage], config.window_sizes[stage], self.impl, **dd)
        self.fc2 = nn.Linear(hidden // 2, dim, **dd)
        self.proj_drop = nn.Dropout(config.proj_drop_rate)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        hidden_BHWC = apply_linear(self.fc1, self.norm(x_BHWC), self.act, impl=self.impl)
        mixed_BHWC, gate_BHWC = hidden_BHWC.chunk(2, 3)
        # The product is not saved for the backward pass: its factors are anyhow.
        y_BHWC = apply_linear_to(self.fc2, torch.mul, self.mixing(mixed_BHWC), gate_BHWC, impl=self.impl)
        return x_BHWC + self.drop_path(self.proj_drop(y_BHWC))


class PosMLP(WindowedBackbone):
    """Convolutions, stages of PosMLP blocks with depthwise convolutions of stride 2 between, LayerNorm, mean, head."""

    family = "posmlp"
    config: PosMLPConfig
    draw_convolutions = True

    def build_stem(self, **dd: Any) -> nn.Module:
        """Two convolutions of stride 2 and a linear map."""
        config = self.config
        return ConvStem(
            config.in_chans, config.embed_dims[0], config.act_layer, config.norm_eps, rest(config.impl), **dd
        )

    def build_downsample(self, stage: int, **dd: Any) -> nn.Module:
        """A depthwise 3×3 convolution of stride 2 to more channels, and a LayerNorm."""
        before, after = self.config.embed_dims[stage - 1 : stage + 1]
        norm = self.build_norm(after, **dd)
        return Downsample(before, after, 3, 2, 1, groups=before, norm=norm, impl=rest(self.config.impl), **dd)

    def build_block(self, stage: int, number: int, *, drop_path: float, **dd: Any) -> nn.Module:
        """One `PosMLPBlock`."""
        return PosMLPBlock(self.config, stage, drop_path=drop_path, **dd)

    def reset_parameters(self) -> None:
        """Linear maps and convolutions normal with deviation 0.02, maps of positions as they draw themselves."""
        super().reset_parameters()
        for module in self.modules():
            if isinstance(module, PositionalMixing):
                module.reset_parameters()


WB = r"\.(weight|bias)"
BATCH_NORM = r"\.(weight|bias|running_mean|running_var|num_batches_tracked)"
BLOCK = r"levels\.(\d+)\.encoder\.(\d+)\."
OURS = r"stages.\1.blocks.\2"
POSITIONS = rf"{BLOCK}gate_unit\.pos\."
FORMAT = KeyMap(
    "the authors' .pth",
    (
        Rule(rf"patch_embed\.projs\.0{WB}", r"stem.proj.\1"),
        Rule(rf"patch_embed\.projs\.1{WB}", r"stem.conv2.\1"),
        Rule(rf"patch_embed\.projs\.2{WB}", r"stem.conv3.\1"),
        Rule(rf"patch_embed\.norms\.0{BATCH_NORM}", r"stem.norm1.\1"),
        Rule(rf"patch_embed\.norms\.1{BATCH_NORM}", r"stem.norm2.\1"),
        Rule(rf"patch_embed\.norms\.2{BATCH_NORM}", r"stem.norm3.\1"),
        Rule(rf"levels\.(\d+)\.pool\.conv{WB}", r"stages.\1.downsample.proj.\2"),
        Rule(rf"levels\.(\d+)\.pool\.norm{WB}", r"stages.\1.downsample.norm.\2"),
        Rule(rf"{BLOCK}norm{WB}", rf"{OURS}.norm.\3"),
        Rule(rf"{BLOCK}proj_c_e{WB}", rf"{OURS}.fc1.\3"),
        Rule(rf"{BLOCK}proj_c_s{WB}", rf"{OURS}.fc2.\3"),
        Rule(rf"{POSITIONS}attention_centers", rf"{OURS}.mixing.centers"),
        Rule(rf"{POSITIONS}attention_spreads", rf"{OURS}.mixing.spreads"),
        Rule(rf"{POSITIONS}token_proj_n_bias", rf"{OURS}.mixing.bias", flat),
        # Offsets of all pairs of positions, which the window's side tells.
        Rule(rf"{POSITIONS}rel_indices", None),
        Rule(rf"(norm|head){WB}", r"\1.\2"),
    ),
)
IMAGENET: dict[str, Any] = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD, "crop_pct": 0.9}


def _config(dim: int) -> PosMLPConfig:
    # The dropout rate is that of the authors' configs, before the head as well.
    return PosMLPConfig(
        embed_dims=(dim, 2 * dim, 4 * dim, 8 * dim),
        depths=(2, 2, 18, 2),
        drop_path_rate=0.1,
        drop_rate=0.02333,
        proj_drop_rate=0.02333,
    )


FAMILY = Family(
    name="posmlp",
    title="PosMLP",
    paper="https://arxiv.org/abs/2207.07284",
    code="https://github.com/Zhicaiwww/PosMLP/blob/654f020/models/posmlp.py",
    license="MIT",
    model=PosMLP,
    data={**IMAGENET, "pool_size": (7, 7)},
    variants={"posmlp_t": _config(96), "posmlp_s": _config(128), "posmlp_b": _config(192)},
    weights={
        "posmlp_t.in1k": Weights(
            where="It is on Google Drive, https://drive.google.com/file/d/1wl0JzFqmdbhRAp2WEgl0dVFW5jnoS6bM: fetch it "
            "with a browser and pass checkpoint_path=",
            license="MIT",
            top1=82.1,
            top1_source="README.md of Zhicaiwww/PosMLP at 654f020",
            **IMAGENET,
        )
    },
    formats=(FORMAT,),
)

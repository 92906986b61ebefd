"""RaMLP: vision MLP via region-aware mixing (Lai et al., IJCAI 2023).

Paper: https://www.ijcai.org/proceedings/2023/111.
Authors' code: xiaolai-sqlai/RaMLP, `models/ramlp.py` at 2852377 (MIT).
What differs: nothing that is computed. The regions grow with the image, so images of any multiple of 32 pixels go in.
The authors' README gives RaMLP-B 58M parameters, which their code does not build: `ramlp_b` is what it builds.

Shape suffixes: B batch, H × W positions, C channels, M channels of the token mixing.
"""

import dataclasses
import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import DropPath
from torch import Tensor, nn

from mlpzoo.layers import ConvEmbed, Downsample, MlpBlock, create_activation
from mlpzoo.layers.folding import channel_scale, is_fixed
from mlpzoo.layers.linear import apply_linear, apply_linear_to, rest
from mlpzoo.layers.squared_relu_mlp import SquaredReluMlp
from mlpzoo.models._family import Family, Weights
from mlpzoo.models._keymap import KeyMap, Rule
from mlpzoo.models._pyramid import PyramidBackbone, PyramidConfig, reset_linear
from mlpzoo.ops import channels_second
from mlpzoo.ops.region_mixing import region_mixing
from mlpzoo.ops.resize import Grid


@dataclasses.dataclass(frozen=True, kw_only=True)
class RaMLPConfig(PyramidConfig):
    """Settings of a RaMLP.

    Attributes:
        act_layer: activation of the blocks' MLPs: `"squared_relu"`, which is the authors' and has a learned number
            added, or the name of any other.
        token_ratios: channels of each stage's token mixing for every channel of the map.
        bands: bands that the rows, and the columns, of each stage's map are cut into.
        head_dims: channels of a head of each stage; bands² × head_dims numbers are mixed at once.
        scaled_skips: whether each stage's skips have a learned factor for each channel.
    """

    mlp_ratios: tuple[float, ...] = (4, 4, 3, 3)
    token_ratios: tuple[float, ...] = (3, 3, 2, 2)
    bands: tuple[int, ...] = (8, 4, 2, 1)
    head_dims: tuple[int, ...] = (1, 4, 16, 64)
    scaled_skips: tuple[bool, ...] = (False, False, True, True)
    act_layer: str = "squared_relu"
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        for name in ("token_ratios", "bands", "head_dims"):
            self._require_for_each_stage(name)
        object.__setattr__(self, "scaled_skips", tuple(self.scaled_skips))
        self._require("scaled_skips", len(self.scaled_skips) == len(self.embed_dims), "one of each stage")
        widths = [int(dim * ratio) for dim, ratio in zip(self.embed_dims, self.token_ratios, strict=True)]
        holds = all(width % head == 0 for width, head in zip(widths, self.head_dims, strict=True))
        self._require("head_dims", holds, f"divisors of the channels of the token mixing, {tuple(widths)}")


class NormedDownsample(Downsample):
    """A LayerNorm and a 3×3 convolution of stride 2: `(B, H, W, C)` to `(B, H', W', C')`."""

    def __init__(self, before: int, after: int, norm_eps: float, impl: str, **dd: Any) -> None:
        super().__init__(before, after, 3, 2, 1, impl=impl, **dd)
        self.norm_before = nn.LayerNorm(before, eps=norm_eps, **dd)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, before)` to `(batch, height', width', after)`."""
        return super().forward(self.norm_before(x_BHWC))


class RegionMixing(nn.Module):
    """A linear map without bias over positions of all bands and the channels of a head, see `region_mixing`."""

    def __init__(self, bands: int, head_dim: int, impl: str, **dd: Any) -> None:
        super().__init__()
        self.bands = bands
        self.impl = impl
        size = bands**2 * head_dim
        self.weight = nn.Parameter(torch.empty(size, size, **dd))
        self.bias = None

    def forward(self, x_BHWM: Tensor) -> Tensor:
        """`(batch, height, width, channels)` to the same."""
        return region_mixing(x_BHWM, self.weight, self.bands, self.impl)


class RegionAwareMixing(nn.Module):
    """One branch of neighbourhoods and regions times one of plain channels, projected: `(B, H, W, C)` to the same."""

    norm_after: ClassVar = {"pwconv2": "norm2"}

    def __init__(self, dim: int, mixed_dim: int, bands: int, head_dim: int, impl: str, **dd: Any) -> None:
        super().__init__()
        self.impl = impl
        self.pwconv1 = nn.Linear(dim, mixed_dim, bias=False, **dd)
        self.dwconv = nn.Conv2d(mixed_dim, mixed_dim, 5, padding=2, groups=mixed_dim, bias=False, **dd)
        self.region = RegionMixing(bands, head_dim, impl, **dd)
        self.norm1: nn.Module = nn.BatchNorm2d(mixed_dim, **dd)
        self.pwconv2 = nn.Linear(dim, mixed_dim, bias=False, **dd)
        self.norm2: nn.Module = nn.BatchNorm2d(mixed_dim, **dd)
        self.proj = nn.Linear(mixed_dim, dim, bias=False, **dd)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        a_BMHW = self.dwconv(channels_second(apply_linear(self.pwconv1, x_BHWC, impl=self.impl)))
        a_BMHW = self.norm1(self.region(a_BMHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        b_BMHW = self.norm2(apply_linear(self.pwconv2, x_BHWC, impl=self.impl).permute(0, 3, 1, 2))
        maps = a_BMHW.permute(0, 2, 3, 1), b_BMHW.permute(0, 2, 3, 1)
        return apply_linear_to(self.proj, torch.mul, *maps, impl=self.impl)

    def folded(self) -> nn.Module:
        """Itself with its first BatchNorm fixed."""
        if is_fixed(self.norm1):
            self.register_module("norm1", channel_scale(self.norm1))
        return self


class BiasedSquaredReLU(nn.Module):
    """relu(x)² plus one learned number."""

    def __init__(self, **dd: Any) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, **dd))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same."""
        return F.relu(x).square() + self.bias


class RaMLPBlock(nn.Module):
    """A depthwise convolution, region-aware mixing and an MLP, each with a skip: `(B, H, W, C)` to the same."""

    def __init__(self, config: RaMLPConfig, stage: int, *, drop_path: float, **dd: Any) -> None:
        super().__init__()
        dim, impl = config.embed_dims[stage], rest(config.impl)
        self.pos_conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False, **dd)
        self.norm1 = nn.LayerNorm(dim, eps=config.norm_eps, **dd)
        mixed_dim = int(dim * config.token_ratios[stage])
        self.mixing = RegionAwareMixing(dim, mixed_dim, config.bands[stage], config.head_dims[stage], impl, **dd)
        self.norm2 = nn.LayerNorm(dim, eps=config.norm_eps, **dd)
        options: dict[str, Any] = {"bias": False, "drop": config.proj_drop_rate, "impl": impl}
        self.mlp = MlpBlock(dim, int(dim * config.mlp_ratios[stage]), **options, **dd)
        squared = config.act_layer == "squared_relu"
        self.mlp.act = BiasedSquaredReLU(**dd) if squared else create_activation(config.act_layer)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        scaled = config.scaled_skips[stage]
        self.skip1 = nn.Parameter(torch.ones(dim, **dd)) if scaled else None
        self.skip2 = nn.Parameter(torch.ones(dim, **dd)) if scaled else None

    def reset_parameters(self) -> None:
        """Draw the factors of the skips anew: ones."""
        if self.skip1 is not None and self.skip2 is not None:
            nn.init.ones_(self.skip1)
            nn.init.ones_(self.skip2)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        x_BHWC = x_BHWC + self.pos_conv(channels_second(x_BHWC)).permute(0, 2, 3, 1)
        x_BHWC = added(self.skip1, x_BHWC, self.drop_path(self.mixing(self.norm1(x_BHWC))))
        return added(self.skip2, x_BHWC, self.drop_path(self.mlp(self.norm2(x_BHWC))))


def added(scale_C: Tensor | None, x_BHWC: Tensor, y_BHWC: Tensor) -> Tensor:
    """A branch added to its skip, which may have a factor for each channel."""
    return x_BHWC + y_BHWC if scale_C is None else torch.addcmul(y_BHWC, x_BHWC, scale_C)


class RaMLP(PyramidBackbone):
    """Overlapping patches, stages of RaMLP blocks with 3×3 convolutions between, mean, LayerNorm, an MLP for a head."""

    family = "ramlp"
    config: RaMLPConfig
    draw_convolutions = True
    norm_after_pool = True

    def build_stem(self, **dd: Any) -> nn.Module:
        """Overlapping patches, and a LayerNorm."""
        config, dim = self.config, self.config.embed_dims[0]
        norm = nn.LayerNorm(dim, eps=config.norm_eps, **dd)
        return ConvEmbed(config.in_chans, dim, 7, 4, 2, norm=norm, impl=config.impl, **dd)

    def build_downsample(self, stage: int, **dd: Any) -> nn.Module:
        """A LayerNorm and a 3×3 convolution."""
        before, after = self.config.embed_dims[stage - 1 : stage + 1]
        return NormedDownsample(before, after, self.config.norm_eps, self.config.impl, **dd)

    def build_block(self, stage: int, number: int, *, drop_path: float, **dd: Any) -> nn.Module:
        """One `RaMLPBlock`."""
        return RaMLPBlock(self.config, stage, drop_path=drop_path, **dd)

    def build_head(self, **dd: Any) -> None:
        """Create the hidden layer of the head, and the head."""
        self.head_hidden_size = 4 * self.num_features
        super().build_head(**dd)
        self.pre_logits = SquaredReluMlp(self.num_features, **dd)

    def reset_parameters(self) -> None:
        """Linear maps and convolutions normal with deviation 0.02, skips one, norms as PyTorch starts them."""
        super().reset_parameters()
        for module in self.modules():
            if isinstance(module, RaMLPBlock):
                module.reset_parameters()
            elif isinstance(module, BiasedSquaredReLU):
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d):
                reset_linear(module)

    @property
    def size_multiple(self) -> Grid:
        """What makes the grid of every stage divide into its bands: 32 in the networks of the paper."""
        stages = zip(self.reductions, self.config.bands, strict=True)
        multiple = math.lcm(self.reductions[-1], *(reduction * bands for reduction, bands in stages))
        return multiple, multiple


WB = r"\.(weight|bias)"
BATCH_NORM = r"\.(weight|bias|running_mean|running_var|num_batches_tracked)"
BLOCK = r"stages\.(\d+)\.(\d+)\."
OURS = r"stages.\1.blocks.\2"
FORMAT = KeyMap(
    "the authors' .pth",
    (
        Rule(rf"down_0\.conv{WB}", r"stem.proj.\1"),
        Rule(rf"down_0\.post_norm{WB}", r"stem.norm.\1"),
        Rule(rf"down_(\d+)\.conv{WB}", r"stages.\1.downsample.proj.\2"),
        Rule(rf"down_(\d+)\.pre_norm{WB}", r"stages.\1.downsample.norm_before.\2"),
        Rule(rf"{BLOCK}cpe\.weight", rf"{OURS}.pos_conv.weight"),
        Rule(rf"{BLOCK}(norm[12]){WB}", rf"{OURS}.\3.\4"),
        Rule(rf"{BLOCK}token_mixer\.(pwconv[12]|proj)\.weight", rf"{OURS}.mixing.\3.weight"),
        Rule(rf"{BLOCK}token_mixer\.dwconv1\.weight", rf"{OURS}.mixing.dwconv.weight"),
        Rule(rf"{BLOCK}token_mixer\.sfc\.weight", rf"{OURS}.mixing.region.weight"),
        Rule(rf"{BLOCK}token_mixer\.bn([12]){BATCH_NORM}", rf"{OURS}.mixing.norm\3.\4"),
        Rule(rf"{BLOCK}mlp\.(fc[12])\.weight", rf"{OURS}.mlp.\3.weight"),
        Rule(rf"{BLOCK}mlp\.act\.bias", rf"{OURS}.mlp.act.bias"),
        Rule(rf"{BLOCK}res_scale([12])\.scale", rf"{OURS}.skip\3"),
        Rule(rf"norm{WB}", r"norm.\1"),
        Rule(rf"head\.(fc1|norm){WB}", r"pre_logits.\1.\2"),
        Rule(rf"head\.fc2{WB}", r"head.\1"),
    ),
)
IMAGENET: dict[str, Any] = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD, "crop_pct": 0.875}
SMALL = (64, 128, 256, 512)

FAMILY = Family(
    name="ramlp",
    title="RaMLP",
    paper="https://www.ijcai.org/proceedings/2023/111",
    code="https://github.com/xiaolai-sqlai/RaMLP/blob/2852377/models/ramlp.py",
    license="MIT",
    model=RaMLP,
    data={**IMAGENET, "pool_size": (7, 7)},
    variants={
        "ramlp_t": RaMLPConfig(embed_dims=SMALL, depths=(3, 3, 12, 3), drop_path_rate=0.2),
        "ramlp_s": RaMLPConfig(embed_dims=SMALL, depths=(3, 8, 27, 3), drop_path_rate=0.3),
        "ramlp_b": RaMLPConfig(embed_dims=(96, 192, 384, 768), depths=(3, 8, 18, 3), drop_path_rate=0.4),
    },
    weights={
        "ramlp_t.in1k": Weights(
            where="It is on Baidu, https://pan.baidu.com/s/1Ylo1DiJTHGtDYgOVmojCJQ (password c88f): fetch it with a "
            "browser and pass checkpoint_path=",
            license="MIT",
            top1=82.9,
            top1_source="README.md of xiaolai-sqlai/RaMLP at 2852377",
            **IMAGENET,
        )
    },
    formats=(FORMAT,),
)

"""Swin-MLP: Swin Transformer with linear maps inside windows in place of attention (Liu et al., 2021).

Paper: https://arxiv.org/abs/2103.14030, in its repository only.
Authors' code: microsoft/Swin-Transformer, `models/swin_mlp.py` at f82860b (MIT).
What differs: images of any size go in where `dynamic_img_size` says so, with windows that reach beyond the border of a
map, over zeros. Whether a stage shifts its windows depends on the map that comes in: the authors' code decides it once,
for the size that it is built for. Windows as small as a map that is smaller than them are not built.
"""

import dataclasses
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from mlpzoo.layers import PaddedEmbed, PatchMerging
from mlpzoo.layers.linear import rest
from mlpzoo.layers.windows import WindowMixing
from mlpzoo.models._family import Family, Weights
from mlpzoo.models._keymap import KeyMap, Rule
from mlpzoo.models._pyramid_files import downsample_first
from mlpzoo.models._windows import WindowedBackbone, WindowedConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class SwinMLPConfig(WindowedConfig):
    """Settings of a Swin-MLP.

    Attributes:
        num_heads: groups of channels of each stage, which have a linear map of their own.
        patch_size: side of the stem's patches in pixels, which do not overlap.
    """

    mlp_ratios: tuple[float, ...] = (4, 4, 4, 4)
    window_sizes: tuple[int, ...] = (8, 8, 8, 8)
    num_heads: tuple[int, ...]
    patch_size: int = 4

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        self._require_for_each_stage("num_heads")
        self._require("patch_size", self.patch_size >= 1, "1 or more")
        holds = all(dim % heads == 0 for dim, heads in zip(self.embed_dims, self.num_heads, strict=True))
        self._require("num_heads", holds, f"divisors of each stage's channels, {self.embed_dims}")

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """The patch's side, and twice as much for each stage that follows."""
        return tuple(self.patch_size * 2**stage for stage in range(len(self.depths)))


class SwinMLP(WindowedBackbone):
    """Patches, stages of Swin-MLP blocks with patch merging between, LayerNorm, mean, head."""

    family = "swin_mlp"
    config: SwinMLPConfig

    def build_stem(self, **dd: Any) -> nn.Module:
        """Patches and a norm."""
        config, dim = self.config, self.config.embed_dims[0]
        norm = self.build_norm(dim, **dd)
        return PaddedEmbed(config.in_chans, dim, config.patch_size, config.patch_size, norm=norm, **dd)

    def build_downsample(self, stage: int, **dd: Any) -> nn.Module:
        """A `PatchMerging`."""
        before, after = self.config.embed_dims[stage - 1 : stage + 1]
        return PatchMerging(before, after, self.build_norm(4 * before, **dd), impl=rest(self.config.impl), **dd)

    def build_mixing(self, stage: int, number: int, **dd: Any) -> nn.Module:
        """A `WindowMixing`; every second block of a stage shifts its windows by half of one."""
        config = self.config
        window = config.window_sizes[stage]
        shifts = (number - sum(config.depths[:stage])) % 2
        return WindowMixing(config.num_heads[stage], window, shifts * (window // 2), impl=rest(config.impl), **dd)


def by_head(weight: Tensor) -> Tensor:
    """A grouped convolution's `(heads × positions, positions, 1)` to `(heads, positions, positions)`."""
    return weight.squeeze(2).unflatten(0, (-1, weight.shape[1]))


IMAGENET: dict[str, Any] = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD, "crop_pct": 0.875}


def _tiny(heads: int) -> SwinMLPConfig:
    return SwinMLPConfig(
        img_size=256,
        embed_dims=(96, 192, 384, 768),
        depths=(2, 2, 6, 2),
        num_heads=(heads, 2 * heads, 4 * heads, 8 * heads),
        drop_path_rate=0.2,
    )


def _file(name: str, top1: float) -> Weights:
    return Weights(
        url=f"https://github.com/SwinTransformer/storage/releases/download/v1.0.5/{name}.pth",
        license="MIT",
        top1=top1,
        top1_source="README.md of microsoft/Swin-Transformer at f82860b",
        **IMAGENET,
    )


FORMAT = KeyMap(
    "the authors' .pth",
    (
        Rule(r"patch_embed\.(proj|norm)\.(weight|bias)", r"stem.\1.\2"),
        Rule(r"layers\.(\d+)\.blocks\.(\d+)\.(norm[12]|mlp\.fc[12])\.(weight|bias)", r"stages.\1.blocks.\2.\3.\4"),
        Rule(r"layers\.(\d+)\.blocks\.(\d+)\.spatial_mlp\.weight", r"stages.\1.blocks.\2.attn.weight", by_head),
        Rule(r"layers\.(\d+)\.blocks\.(\d+)\.spatial_mlp\.bias", r"stages.\1.blocks.\2.attn.bias"),
        Rule(r"layers\.(\d+)\.downsample\.(norm|reduction)\.(weight|bias)", r"stages.\1.downsample.\2.\3"),
        Rule(r"(norm|head)\.(weight|bias)", r"\1.\2"),
    ),
    rename=downsample_first,
)

BASE = SwinMLPConfig(
    embed_dims=(128, 256, 512, 1024),
    depths=(2, 2, 18, 2),
    window_sizes=(7, 7, 7, 7),
    num_heads=(4, 8, 16, 32),
    drop_path_rate=0.5,
)

FAMILY = Family(
    name="swin_mlp",
    title="Swin-MLP",
    paper="https://arxiv.org/abs/2103.14030",
    code="https://github.com/microsoft/Swin-Transformer/blob/f82860b/models/swin_mlp.py",
    license="MIT",
    model=SwinMLP,
    data=IMAGENET,
    # Named after the channels of a head.
    variants={
        "swin_mlp_tiny_c24": _tiny(4),
        "swin_mlp_tiny_c12": _tiny(8),
        "swin_mlp_tiny_c6": _tiny(16),
        "swin_mlp_base": BASE,
    },
    weights={
        "swin_mlp_tiny_c24.in1k": _file("swin_mlp_tiny_c24_patch4_window8_256", 79.4),
        "swin_mlp_tiny_c12.in1k": _file("swin_mlp_tiny_c12_patch4_window8_256", 79.6),
        "swin_mlp_tiny_c6.in1k": _file("swin_mlp_tiny_c6_patch4_window8_256", 79.7),
        "swin_mlp_base.in1k": _file("swin_mlp_base_patch4_window7_224", 81.3),
    },
    formats=(FORMAT,),
)

"""ResMLP: Feedforward networks for image classification (Touvron et al., 2021, https://arxiv.org/abs/2105.03404).

Authors' code: facebookresearch/deit, `resmlp_models.py` at 7e160fe (Apache-2.0).
What differs: channels, image size and patch size are free; tokens stay dense in (batch, tokens, channels), where the
authors transpose; scales and sums run as one pass. timm starts the LayerScale of S12 at 1e-4, the authors at 0.1.
"""

import dataclasses
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from mlpzoo.layers import Affine, ResMLPBlock
from mlpzoo.models._family import Family, Weights
from mlpzoo.models._isotropic import IsotropicBackbone, IsotropicConfig
from mlpzoo.models._keymap import KeyMap, Pair, Rule, flat, reader, same, writer


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResMlpConfig(IsotropicConfig):
    """Settings of a ResMLP. There is no LayerNorm, so `norm_eps` has no effect.

    Attributes:
        layer_scale_init: what every entry of the LayerScales starts from; the deeper, the smaller.
        mlp_ratio: hidden units of the channel MLP for every channel.
        drop_path_decay: False, for the authors' stochastic depth is the same in all blocks.
    """

    layer_scale_init: float
    mlp_ratio: float = 4.0
    drop_path_decay: bool = False

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        self._require("mlp_ratio", self.mlp_ratio * self.embed_dim >= 1, "large enough for one hidden unit")


class ResMlp(IsotropicBackbone):
    """Patch embedding, `depth` ResMLP blocks, affine map, mean over tokens, linear head."""

    family = "resmlp"
    config: ResMlpConfig

    def build_block(self, *, drop_path: float, **dd: Any) -> nn.Module:
        """One `ResMLPBlock`."""
        config = self.config
        return ResMLPBlock(
            config.embed_dim,
            self.stem.grid,
            mlp_ratio=config.mlp_ratio,
            layer_scale_init=config.layer_scale_init,
            act_layer=config.act_layer,
            drop_path=drop_path,
            drop=config.proj_drop_rate,
            impl=config.impl,
            **dd,
        )

    def build_norm(self, dim: int, **dd: Any) -> nn.Module:
        """An affine map, as everywhere in this network."""
        return Affine(dim, **dd)

    def reset_parameters(self) -> None:
        """The authors': normal linears of deviation 0.02, zero biases, and PyTorch's own draw for the patches."""
        for module in (self.stem.proj, *self.blocks, self.norm):
            module.reset_parameters()
        self.reset_classifier_parameters()

    def reset_classifier_parameters(self) -> None:
        """Draw the head as the other linears."""
        if isinstance(self.head, nn.Linear):
            nn.init.trunc_normal_(self.head.weight, std=0.02)
            nn.init.zeros_(self.head.bias)


# Sizes and LayerScales are those of the authors' code, which has the base width with patches of 8 alone
# (`resmlpB_24`); with patches of 16 it is in the paper.
SMALL: dict[str, Any] = {"embed_dim": 384, "patch_size": 16}
BASE: dict[str, Any] = {"embed_dim": 768, "depth": 24, "layer_scale_init": 1e-6}

IMAGENET: dict[str, Any] = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD, "crop_pct": 0.9}
README = "README_resmlp.md of facebookresearch/deit at 7e160fe"
TIMM = "timm's results-imagenet.csv at aa4b585, which crops 0.875"


def _file(name: str, top1: float | None = None, source: str = "", **options: Any) -> Weights:
    url = f"https://dl.fbaipublicfiles.com/deit/{name}.pth"
    return Weights(url=url, license="Apache-2.0", top1=top1, top1_source=source, **IMAGENET, **options)


def as_tokens(value: Tensor) -> Tensor:
    """A vector of channels as one token of a batch, the shape timm keeps it in."""
    return value.reshape(1, 1, -1)


TIMM_PAIRS = (
    *same("stem.proj.*", "blocks.*.linear_tokens.*", "blocks.*.mlp_channels.*.*", "blocks.*.ls1", "blocks.*.ls2"),
    *(
        Pair(name, name, read=flat, write=as_tokens)
        for norm in ("blocks.*.norm1", "blocks.*.norm2", "norm")
        for name in (f"{norm}.alpha", f"{norm}.beta")
    ),
    *same("head.*"),
)

FORMATS = (
    KeyMap(
        "the authors' .pth",
        (
            Rule(r"patch_embed\.proj\.(weight|bias)", r"stem.proj.\1"),
            Rule(r"blocks\.(\d+)\.(norm[12])\.(alpha|beta)", r"blocks.\1.\2.\3"),
            Rule(r"blocks\.(\d+)\.attn\.(weight|bias)", r"blocks.\1.linear_tokens.\2"),
            Rule(r"blocks\.(\d+)\.mlp\.(fc[12])\.(weight|bias)", r"blocks.\1.mlp_channels.\2.\3"),
            Rule(r"blocks\.(\d+)\.gamma_([12])", r"blocks.\1.ls\2"),
            Rule(r"norm\.(alpha|beta)", r"norm.\1"),
            Rule(r"head\.(weight|bias)", r"head.\1"),
        ),
    ),
    reader("timm's layout", TIMM_PAIRS),
)
TO_TIMM = writer("timm's layout", TIMM_PAIRS)


FAMILY = Family(
    name="resmlp",
    title="ResMLP",
    paper="https://arxiv.org/abs/2105.03404",
    code="https://github.com/facebookresearch/deit/blob/7e160fe/resmlp_models.py",
    license="Apache-2.0",
    model=ResMlp,
    data=IMAGENET,
    variants={
        "resmlp_s12": ResMlpConfig(depth=12, layer_scale_init=0.1, **SMALL),
        "resmlp_s24": ResMlpConfig(depth=24, layer_scale_init=1e-5, **SMALL),
        "resmlp_s36": ResMlpConfig(depth=36, layer_scale_init=1e-6, **SMALL),
        "resmlp_b24": ResMlpConfig(patch_size=16, **BASE),
        "resmlp_b24_p8": ResMlpConfig(patch_size=8, **BASE),
    },
    weights={
        "resmlp_s12.fb_in1k": _file("resmlp_12_no_dist", 76.66, TIMM),
        "resmlp_s12.fb_distilled_in1k": _file("resmlp_12_dist", 77.8, README),
        # Trained without labels, so no classifier: its features find neighbours (62.6 and 69.4 % in the README).
        "resmlp_s12.fb_dino": _file("resmlp_12_dino", num_classes=0),
        "resmlp_s24.fb_in1k": _file("resmlp_24_no_dist", 79.38, TIMM),
        "resmlp_s24.fb_distilled_in1k": _file("resmlp_24_dist", 80.8, README),
        "resmlp_s24.fb_dino": _file("resmlp_24_dino", num_classes=0),
        "resmlp_s36.fb_in1k": _file("resmlp_36_no_dist", 79.77, TIMM),
        "resmlp_s36.fb_distilled_in1k": _file("resmlp_36_dist", 81.1, README),
        "resmlp_b24_p8.fb_in1k": _file("resmlpB_24_no_dist", 81.03, TIMM),
        "resmlp_b24_p8.fb_distilled_in1k": _file("resmlpB_24_dist", 83.6, README),
        "resmlp_b24_p8.fb_in22k_ft_in1k": _file("resmlpB_24_22k", 84.4, README),
    },
    formats=FORMATS,
    to_timm=TO_TIMM,
    timm_twins={f"resmlp_s{depth}": f"resmlp_{depth}_224" for depth in (12, 24, 36)},
)

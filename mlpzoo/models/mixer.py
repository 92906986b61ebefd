"""MLP-Mixer: an all-MLP Architecture for Vision (Tolstikhin et al., 2021, https://arxiv.org/abs/2105.01601).

Authors' code: google-research/vision_transformer, `vit_jax/models_mixer.py` at c6de1e5 (Apache-2.0).
What differs: channels, image size and depth are free; tokens stay dense in (batch, tokens, channels), where the
authors transpose. The outputs are theirs: GELU in its tanh form and LayerNorm with epsilon 1e-6 are flax's defaults.
"""

import dataclasses
from typing import Any

from timm.layers import lecun_normal_
from torch import nn

from mlpzoo.layers import MixerBlock, TokenLinear
from mlpzoo.models._family import HALF, Family, Weights
from mlpzoo.models._isotropic import IsotropicBackbone, IsotropicConfig
from mlpzoo.models.mixer_files import FORMATS, TO_TIMM


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixerConfig(IsotropicConfig):
    """Settings of an MLP-Mixer.

    Attributes:
        tokens_mlp_dim: hidden units of the token MLP, the paper's D_S.
        channels_mlp_dim: hidden units of the channel MLP, the paper's D_C.
    """

    tokens_mlp_dim: int
    channels_mlp_dim: int
    act_layer: str = "gelu_tanh"

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        for name in ("tokens_mlp_dim", "channels_mlp_dim"):
            self._require(name, getattr(self, name) >= 1, "1 or more")


class MlpMixer(IsotropicBackbone):
    """Patch embedding, `depth` Mixer blocks, LayerNorm, mean over tokens, linear head."""

    family = "mixer"
    config: MixerConfig

    def build_block(self, *, drop_path: float, **dd: Any) -> nn.Module:
        """One `MixerBlock`."""
        config = self.config
        return MixerBlock(
            config.embed_dim,
            self.stem.grid,
            config.tokens_mlp_dim,
            config.channels_mlp_dim,
            act_layer=config.act_layer,
            norm_eps=config.norm_eps,
            drop=config.proj_drop_rate,
            drop_path=drop_path,
            impl=config.impl,
            **dd,
        )

    def reset_parameters(self) -> None:
        """flax's defaults: LeCun normal kernels, zero biases, unit norms; and a head of zeros, as the authors set."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear | TokenLinear):
                lecun_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
        self.reset_classifier_parameters()


# The paper's Table 1.
SMALL: dict[str, Any] = {"embed_dim": 512, "depth": 8, "tokens_mlp_dim": 256, "channels_mlp_dim": 2048}
BASE: dict[str, Any] = {"embed_dim": 768, "depth": 12, "tokens_mlp_dim": 384, "channels_mlp_dim": 3072}
LARGE: dict[str, Any] = {"embed_dim": 1024, "depth": 24, "tokens_mlp_dim": 512, "channels_mlp_dim": 4096}
HUGE: dict[str, Any] = {"embed_dim": 1280, "depth": 32, "tokens_mlp_dim": 640, "channels_mlp_dim": 5120}

BUCKET = "https://storage.googleapis.com/mixer_models"
PAPER = "Table 3 of arXiv:2105.01601"
TIMM = "timm's results-imagenet.csv at aa4b585"
MIIL: dict[str, Any] = {
    "license": "Apache-2.0",
    "overrides": {"act_layer": "gelu"},
    "mean": (0.0, 0.0, 0.0),
    "std": (1.0, 1.0, 1.0),
    "interpolation": "bilinear",
}

FAMILY = Family(
    name="mixer",
    title="MLP-Mixer",
    paper="https://arxiv.org/abs/2105.01601",
    code="https://github.com/google-research/vision_transformer/blob/c6de1e5/vit_jax/models_mixer.py",
    license="Apache-2.0",
    model=MlpMixer,
    data={"mean": HALF, "std": HALF},
    variants={
        "mixer_s32": MixerConfig(patch_size=32, **SMALL),
        "mixer_s16": MixerConfig(patch_size=16, **SMALL),
        "mixer_b32": MixerConfig(patch_size=32, **BASE),
        "mixer_b16": MixerConfig(patch_size=16, **BASE),
        "mixer_l32": MixerConfig(patch_size=32, **LARGE),
        "mixer_l16": MixerConfig(patch_size=16, **LARGE),
        "mixer_h14": MixerConfig(patch_size=14, **HUGE),
    },
    weights={
        # timm tags these two files goog_in21k_ft_in1k, yet they score as the paper's from-scratch models do (it
        # measured 76.62 and 72.08; fine-tuned ones would reach 80.64 and 82.89): the tag here says what they are.
        "mixer_b16.goog_in1k": Weights(
            url=f"{BUCKET}/imagenet1k/Mixer-B_16.npz", license="Apache-2.0", top1=76.44, top1_source=PAPER
        ),
        "mixer_b16.goog_in21k": Weights(
            url=f"{BUCKET}/imagenet21k/Mixer-B_16.npz", license="Apache-2.0", num_classes=21843
        ),
        "mixer_b16.goog_sam_in1k": Weights(url=f"{BUCKET}/sam/Mixer-B_16.npz", license="Apache-2.0"),
        "mixer_b32.goog_sam_in1k": Weights(url=f"{BUCKET}/sam/Mixer-B_32.npz", license="Apache-2.0"),
        # Alibaba's, pre-trained on ImageNet-21k-P and in PyTorch, so with GELU in its exact form; timm keeps them.
        "mixer_b16.miil_in21k_ft_in1k": Weights(
            hub="timm/mixer_b16_224.miil_in21k_ft_in1k", top1=82.31, top1_source=TIMM, **MIIL
        ),
        "mixer_b16.miil_in21k": Weights(hub="timm/mixer_b16_224.miil_in21k", num_classes=11221, **MIIL),
        "mixer_l16.goog_in1k": Weights(
            url=f"{BUCKET}/imagenet1k/Mixer-L_16.npz", license="Apache-2.0", top1=71.76, top1_source=PAPER
        ),
        "mixer_l16.goog_in21k": Weights(
            url=f"{BUCKET}/imagenet21k/Mixer-L_16.npz", license="Apache-2.0", num_classes=21843
        ),
    },
    formats=FORMATS,
    to_timm=TO_TIMM,
    timm_twins={f"mixer_{size}": f"mixer_{size}_224" for size in ("s32", "s16", "b32", "b16", "l32", "l16")},
)

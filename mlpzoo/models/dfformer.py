"""DFFormer and CDFFormer: FFT-based dynamic token mixer for vision (Tatsunami and Taki, 2024).

Paper: https://arxiv.org/abs/2303.03932.
Authors' code: okojoalg/dfformer, `models/dfformer.py` at 2b757c5 (MIT; the file keeps the Apache-2.0 header of
MetaFormer's authors).
What differs: the filters are resized to images of any size by the authors' interpolation; the transforms also run as
products with matrices, which exporters know.
"""

import dataclasses
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn

from mlpzoo.layers.squared_relu_mlp import SquaredReluMlp
from mlpzoo.models._config import GridBoundConfig
from mlpzoo.models._family import Family, Weights
from mlpzoo.models._keymap import KeyMap, Rule
from mlpzoo.models._metaformer import MetaFormer, MetaFormerConfig
from mlpzoo.models._metaformer_files import baseline_rules
from mlpzoo.models._pyramid import reset_linear


@dataclasses.dataclass(frozen=True, kw_only=True)
class DFFormerConfig(MetaFormerConfig, GridBoundConfig):
    """Settings of a DFFormer, CDFFormer or GFFormer."""

    token_mixers: tuple[str, ...] = ("dynamic_filter",) * 4
    map_norms: bool = False


class DFFormer(MetaFormer):
    """A MetaFormer whose tokens mix by dynamic Fourier filters, with an MLP for a head."""

    family = "dfformer"
    config: DFFormerConfig
    draw_convolutions = True
    norm_after_pool = True

    def build_head(self, **dd: Any) -> None:
        """Create the hidden layer of the head, and the head."""
        self.head_hidden_size = 4 * self.num_features
        super().build_head(**dd)
        self.pre_logits = SquaredReluMlp(self.num_features, **dd)

    def reset_classifier_parameters(self) -> None:
        """Draw the last linear map as every other one."""
        if isinstance(self.head, nn.Linear):
            reset_linear(self.head)


BLOCK = r"stages\.(\d+)\.(\d+)\.token_mixer"
OURS = r"stages.\1.blocks.\2.token_mixer"
FORMAT = KeyMap(
    "the authors' .pth",
    (
        *baseline_rules(
            Rule(rf"{BLOCK}\.(pwconv[12]\.weight|act1\.scale|act1\.bias)", rf"{OURS}.\3"),
            Rule(rf"{BLOCK}\.(reweight\.(?:fc[12]\.weight|act\.scale|act\.bias))", rf"{OURS}.\3"),
            Rule(rf"{BLOCK}\.complex_weights", rf"{OURS}.mixing.complex_weight"),
            Rule(rf"{BLOCK}\.dwconv\.weight", rf"{OURS}.mixing.weight"),
        ),
        Rule(r"norm(\d)\.(weight|bias)", r"feature_norms.\1.\2"),
        Rule(r"head\.fc1\.(weight|bias)", r"pre_logits.fc1.\1"),
        Rule(r"head\.norm\.(weight|bias)", r"pre_logits.norm.\1"),
        Rule(r"head\.fc2\.(weight|bias)", r"head.\1"),
    ),
)

# Stochastic depth of S18 is the README's; of the others the authors state none, so it is 0 until asked for.
S18: dict[str, Any] = {"embed_dims": (64, 128, 320, 512), "depths": (3, 3, 9, 3), "drop_path_rate": 0.2}
S36: dict[str, Any] = {"embed_dims": (64, 128, 320, 512), "depths": (3, 12, 18, 3)}
M36: dict[str, Any] = {"embed_dims": (96, 192, 384, 576), "depths": (3, 12, 18, 3)}
B36: dict[str, Any] = {"embed_dims": (128, 256, 512, 768), "depths": (3, 12, 18, 3)}
SEPARABLE: dict[str, Any] = {"token_mixers": ("separable_conv", "separable_conv", "dynamic_filter", "dynamic_filter")}


def _file(name: str) -> Weights:
    # The repository gives no accuracy of single files; the paper's abstract gives 85.0 for the best CDFFormer.
    return Weights(
        url=f"https://github.com/okojoalg/dfformer/releases/download/weights/{name}.pth",
        license="MIT",
        mean=IMAGENET_DEFAULT_MEAN,
        std=IMAGENET_DEFAULT_STD,
        crop_pct=1.0,
    )


FAMILY = Family(
    name="dfformer",
    title="DFFormer",
    paper="https://arxiv.org/abs/2303.03932",
    code="https://github.com/okojoalg/dfformer/blob/2b757c5/models/dfformer.py",
    license="MIT",
    model=DFFormer,
    data={"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD, "crop_pct": 1.0, "pool_size": (7, 7)},
    variants={
        "dfformer_s18": DFFormerConfig(**S18),
        "dfformer_s36": DFFormerConfig(**S36),
        "dfformer_m36": DFFormerConfig(**M36),
        "dfformer_b36": DFFormerConfig(**B36),
        "cdfformer_s18": DFFormerConfig(**S18, **SEPARABLE),
        "cdfformer_s36": DFFormerConfig(**S36, **SEPARABLE),
        "cdfformer_m36": DFFormerConfig(**M36, **SEPARABLE),
        "cdfformer_b36": DFFormerConfig(**B36, **SEPARABLE),
        "gfformer_s18": DFFormerConfig(token_mixers=("global_filter",) * 4, **S18),
    },
    weights={
        f"{name}.in1k": _file(name)
        for name in (
            *(f"dfformer_{size}" for size in ("s18", "s36", "m36", "b36")),
            *(f"cdfformer_{size}" for size in ("s18", "s36", "m36", "b36")),
        )
    },
    formats=(FORMAT,),
)

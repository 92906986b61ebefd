"""MetaFormer baselines for vision (Yu et al., 2023, https://arxiv.org/abs/2210.13452).

Authors' code: sail-sg/metaformer, `metaformer_baselines.py` at 64c534a (Apache-2.0).
Here are IdentityFormer, RandFormer and PoolFormerV2, which mix tokens by nothing, by a random matrix and by pooling;
ConvFormer and CAFormer of the same paper are in timm.
What differs: RandFormer's matrices are resized to other images, where the authors' network takes 224×224 alone. The
names are not timm's, which has PoolFormerV2.
"""

import dataclasses
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from mlpzoo.models._config import GridBoundConfig
from mlpzoo.models._family import Family, Weights
from mlpzoo.models._keymap import KeyMap, Pair, Rule, reader, same, writer
from mlpzoo.models._metaformer import MetaFormer, MetaFormerConfig
from mlpzoo.models._metaformer_files import baseline_rules, timm_mlp


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandFormerConfig(MetaFormerConfig, GridBoundConfig):
    """Settings of a RandFormer, which is bound to an image size."""

    token_mixers: tuple[str, ...] = ("identity", "identity", "random", "random")


class MetaFormerBaseline(MetaFormer):
    """A MetaFormer whose final norm follows the mean."""

    family = "metaformer"
    draw_convolutions = True
    norm_after_pool = True


DIMS = {"s": (64, 128, 320, 512), "m": (96, 192, 384, 768)}
DEPTHS = {"12": (2, 2, 6, 2), "24": (4, 4, 12, 4), "36": (6, 6, 18, 6), "48": (8, 8, 24, 8)}
RATES = {"s12": 0.1, "s24": 0.1, "s36": 0.2, "m36": 0.3, "m48": 0.4}
# The authors' name, ours, and published top-1 by size: README.md of sail-sg/metaformer at 64c534a.
MIXERS = (
    ("identityformer", "identity", (74.6, 78.2, 79.3, 80.0, 80.4)),
    ("randformer", "rand", (76.6, 78.2, 79.5, 81.2, 81.4)),
    ("poolformerv2", "poolv2", (78.0, 80.7, 81.6, 82.2, 82.6)),
)
FILES = "https://huggingface.co/sail/dl/resolve/main"


def _variants() -> dict[str, MetaFormerConfig]:
    variants: dict[str, MetaFormerConfig] = {}
    for _, mixer, _ in MIXERS:
        for size, rate in RATES.items():
            options: dict[str, Any] = {"embed_dims": DIMS[size[0]], "depths": DEPTHS[size[1:]], "drop_path_rate": rate}
            name = f"metaformer_{mixer}_{size}"
            if mixer == "rand":
                # The authors train RandFormer-M48 with a lower rate than the others of its size.
                variants[name] = RandFormerConfig(**options | ({"drop_path_rate": 0.3} if size == "m48" else {}))
            else:
                variants[name] = MetaFormerConfig(
                    token_mixers=("pool" if mixer == "poolv2" else "identity",) * 4, **options
                )
    return variants


def _released() -> dict[str, Weights]:
    return {
        f"metaformer_{mixer}_{size}.sail_in1k": Weights(
            url=f"{FILES}/{theirs}/{theirs}_{size}.pth",
            license="Apache-2.0",
            top1=top1,
            top1_source="README.md of sail-sg/metaformer at 64c534a",
            mean=IMAGENET_DEFAULT_MEAN,
            std=IMAGENET_DEFAULT_STD,
            crop_pct=1.0,
        )
        for theirs, mixer, scores in MIXERS
        for size, top1 in zip(RATES, scores, strict=True)
    }


FORMAT = KeyMap(
    "the authors' .pth",
    (
        *baseline_rules(
            Rule(r"stages\.(\d+)\.(\d+)\.token_mixer\.random_matrix", r"stages.\1.blocks.\2.token_mixer.random_matrix")
        ),
        Rule(r"head\.(weight|bias)", r"head.\1"),
    ),
)
TIMM_PAIRS = (
    Pair("stem.conv.*", "stem.proj.*"),
    *same("stem.norm.weight"),
    Pair("stages.*.downsample.norm.weight", "stages.*.downsample.pre_norm.weight"),
    Pair("stages.*.downsample.conv.*", "stages.*.downsample.proj.*"),
    *same("stages.*.blocks.*.norm1.weight", "stages.*.blocks.*.norm2.weight"),
    *timm_mlp("weight"),
    *same("stages.*.blocks.*.mlp.act.scale", "stages.*.blocks.*.mlp.act.bias"),
    Pair("stages.*.blocks.*.res_scale1.scale", "stages.*.blocks.*.res_scale1"),
    Pair("stages.*.blocks.*.res_scale2.scale", "stages.*.blocks.*.res_scale2"),
    Pair("head.norm.*", "norm.*"),
    Pair("head.fc.*", "head.*"),
)

FAMILY = Family(
    name="metaformer",
    title="MetaFormer baselines",
    paper="https://arxiv.org/abs/2210.13452",
    code="https://github.com/sail-sg/metaformer/blob/64c534a/metaformer_baselines.py",
    license="Apache-2.0",
    model=MetaFormerBaseline,
    data={"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD, "crop_pct": 1.0, "pool_size": (7, 7)},
    variants=_variants(),
    weights=_released(),
    formats=(FORMAT, reader("timm's layout", TIMM_PAIRS)),
    to_timm=writer("timm's layout", TIMM_PAIRS),
    timm_twins={f"metaformer_poolv2_{size}": f"poolformerv2_{size}" for size in RATES},
)

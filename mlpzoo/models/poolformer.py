"""PoolFormer: MetaFormer is actually what you need for vision (Yu et al., 2022, https://arxiv.org/abs/2111.11418).

Authors' code: sail-sg/poolformer, `models/poolformer.py` at a075575 (Apache-2.0).
What differs: maps keep their channels last. The head is the authors': the norm is over the whole map and precedes the
mean. timm's PoolFormer takes the mean first and normalizes the vector: the same weights give other logits there. The
names are not timm's.
"""

from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from mlpzoo.models._family import Family, Weights
from mlpzoo.models._keymap import KeyMap, Pair, reader, same, writer
from mlpzoo.models._metaformer import FirstMetaFormer, FirstMetaFormerConfig
from mlpzoo.models._metaformer_files import first_rules, timm_mlp
from mlpzoo.models._pyramid_files import number_stages


class PoolFormer(FirstMetaFormer):
    """A MetaFormer whose tokens mix by 3×3 average pooling."""

    family = "poolformer"


SMALL: dict[str, Any] = {"embed_dims": (64, 128, 320, 512)}
MEDIUM: dict[str, Any] = {"embed_dims": (96, 192, 384, 768), "layer_scale_init": 1e-6}
RELEASES = "https://github.com/sail-sg/poolformer/releases/download/v1.0"
README = "README.md of sail-sg/poolformer at a075575"


def _file(size: str, top1: float, crop_pct: float) -> Weights:
    return Weights(
        url=f"{RELEASES}/poolformer_{size}.pth.tar",
        license="Apache-2.0",
        top1=top1,
        top1_source=README,
        mean=IMAGENET_DEFAULT_MEAN,
        std=IMAGENET_DEFAULT_STD,
        crop_pct=crop_pct,
    )


TIMM_PAIRS = (
    Pair("stem.conv.*", "stem.proj.*"),
    Pair("stages.*.downsample.conv.*", "stages.*.downsample.proj.*"),
    Pair("stages.*.blocks.*.layer_scale1.scale", "stages.*.blocks.*.ls1"),
    Pair("stages.*.blocks.*.layer_scale2.scale", "stages.*.blocks.*.ls2"),
    *same("stages.*.blocks.*.norm1.*", "stages.*.blocks.*.norm2.*"),
    *timm_mlp("weight", "bias"),
    Pair("head.norm.*", "norm.*"),
    Pair("head.fc.*", "head.*"),
)

FAMILY = Family(
    name="poolformer",
    title="PoolFormer",
    paper="https://arxiv.org/abs/2111.11418",
    code="https://github.com/sail-sg/poolformer/blob/a075575/models/poolformer.py",
    license="Apache-2.0",
    model=PoolFormer,
    data={"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD, "pool_size": (7, 7)},
    variants={
        "metaformer_pool_s12": FirstMetaFormerConfig(depths=(2, 2, 6, 2), **SMALL),
        "metaformer_pool_s24": FirstMetaFormerConfig(depths=(4, 4, 12, 4), **SMALL),
        "metaformer_pool_s36": FirstMetaFormerConfig(depths=(6, 6, 18, 6), layer_scale_init=1e-6, **SMALL),
        "metaformer_pool_m36": FirstMetaFormerConfig(depths=(6, 6, 18, 6), **MEDIUM),
        "metaformer_pool_m48": FirstMetaFormerConfig(depths=(8, 8, 24, 8), **MEDIUM),
    },
    weights={
        "metaformer_pool_s12.sail_in1k": _file("s12", 77.2, 0.9),
        "metaformer_pool_s24.sail_in1k": _file("s24", 80.3, 0.9),
        "metaformer_pool_s36.sail_in1k": _file("s36", 81.4, 0.9),
        "metaformer_pool_m36.sail_in1k": _file("m36", 82.1, 0.95),
        "metaformer_pool_m48.sail_in1k": _file("m48", 82.5, 0.95),
    },
    formats=(
        KeyMap("the authors' .pth.tar", first_rules(), rename=number_stages),
        reader("timm's layout", TIMM_PAIRS),
    ),
    to_timm=writer("timm's layout", TIMM_PAIRS),
)

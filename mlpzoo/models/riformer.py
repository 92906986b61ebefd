"""RIFormer: keep your vision backbone effective while removing token mixer (Wang et al., 2023).

Paper: https://arxiv.org/abs/2304.05659. Authors' code: open-mmlab/mmpretrain, `mmpretrain/models/backbones/riformer.py`
at ee7f2e88 (Apache-2.0).
What differs: maps keep their channels last. `mlpzoo.deploy.fold` does what the authors' `switch_to_deploy` does.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn

from mlpzoo.models._family import Family, Weights
from mlpzoo.models._keymap import KeyMap, Rule, flat
from mlpzoo.models._metaformer import FirstMetaFormer, FirstMetaFormerConfig
from mlpzoo.models._metaformer_files import first_rules
from mlpzoo.models._pyramid_files import number_stages


@dataclasses.dataclass(frozen=True, kw_only=True)
class RIFormerConfig(FirstMetaFormerConfig):
    """Settings of a RIFormer.

    Attributes:
        deploy: whether the affine maps that replace the token mixers are part of the norms before them.
    """

    token_mixers: tuple[str, ...] = ("affine", "affine", "affine", "affine")
    deploy: bool = False

    def fields_from_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
        """As in the base class, and whether the file is in the deploy form: it has no affine maps then."""
        told = super().fields_from_shapes(shapes)
        return {**told, "deploy": not any(".token_mixer." in name for name in shapes)} if told else told


class RIFormer(FirstMetaFormer):
    """A MetaFormer without token mixing: a factor and a shift for each channel stand in for it."""

    family = "riformer"
    config: RIFormerConfig
    draw_convolutions = True

    def build_mixing(self, stage: int, number: int, **dd: Any) -> nn.Module:
        """The affine map; nothing in the deploy form."""
        return nn.Identity() if self.config.deploy else super().build_mixing(stage, number, **dd)


def strip_backbone(names: Sequence[str]) -> list[str]:
    """Names without mmpretrain's `backbone.`; a lone `norm6.` is the final norm, among others it is a feature's."""
    bare = [name.removeprefix("backbone.") for name in names]
    if not any("token_mixer." in name or "norm_reparam." in name for name in bare):
        # PoolFormer's files have all other names too.
        return [f"PoolFormer's {name}" for name in names]
    norms = {name.split(".")[0] for name in bare if name.startswith("norm")}
    if norms == {"norm6"}:
        bare = [name.replace("norm6.", "norm.", 1) if name.startswith("norm6.") else name for name in bare]
    return number_stages(bare)


BLOCK = r"network\.(\d+)\.(\d+)"
FORMAT = KeyMap(
    "the authors' .pth",
    (
        *first_rules(
            Rule(rf"{BLOCK}\.token_mixer\.affine\.weight", r"stages.\1.blocks.\2.token_mixer.weight", flat),
            Rule(rf"{BLOCK}\.token_mixer\.affine\.bias", r"stages.\1.blocks.\2.token_mixer.bias"),
            Rule(rf"{BLOCK}\.norm_reparam\.(weight|bias)", r"stages.\1.blocks.\2.norm1.\3"),
        ),
        Rule(r"head\.fc\.(weight|bias)", r"head.\1"),
    ),
    rename=strip_backbone,
)

SMALL: dict[str, Any] = {"embed_dims": (64, 128, 320, 512), "drop_path_rate": 0.1}
MEDIUM: dict[str, Any] = {"embed_dims": (96, 192, 384, 768), "layer_scale_init": 1e-6, "drop_path_rate": 0.1}
RELEASES = "https://download.openmmlab.com/mmclassification/v1/riformer"
# Size, crop, hash and top-1 of the file for 224 px and of that for 384 px.
FILES = (
    ("s12", 0.9, ("6741ce71", 76.90), ("145eda4c", 78.29)),
    ("s24", 0.9, ("fdab072a", 80.28), ("bafae7ab", 81.36)),
    ("s36", 0.9, ("fdfcd3b0", 81.29), ("017ed3c4", 82.22)),
    ("m36", 0.95, ("2fcb9d9b", 82.57), ("66a6f764", 83.39)),
    ("m48", 0.95, ("2b9d1abf", 82.75), ("2e874826", 83.70)),
)


def _released() -> dict[str, Weights]:
    files = {}
    for size, crop_pct, *by_side in FILES:
        for side, (suffix, top1) in zip((224, 384), by_side, strict=True):
            at = "" if side == 224 else f"-{side}px"
            files[f"riformer_{size}.in1k{'' if side == 224 else f'_{side}'}"] = Weights(
                url=f"{RELEASES}/riformer-{size}_32xb128_in1k{at}_20230406-{suffix}.pth",
                license="Apache-2.0",
                top1=top1,
                top1_source="configs/riformer/README.md of open-mmlab/mmpretrain at ee7f2e88",
                mean=IMAGENET_DEFAULT_MEAN,
                std=IMAGENET_DEFAULT_STD,
                crop_pct=crop_pct,
            )
    return files


FAMILY = Family(
    name="riformer",
    title="RIFormer",
    paper="https://arxiv.org/abs/2304.05659",
    code="https://github.com/open-mmlab/mmpretrain/blob/ee7f2e88/mmpretrain/models/backbones/riformer.py",
    license="Apache-2.0",
    model=RIFormer,
    data={"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD, "pool_size": (7, 7)},
    variants={
        "riformer_s12": RIFormerConfig(depths=(2, 2, 6, 2), **SMALL),
        "riformer_s24": RIFormerConfig(depths=(4, 4, 12, 4), **SMALL),
        "riformer_s36": RIFormerConfig(depths=(6, 6, 18, 6), layer_scale_init=1e-6, **SMALL),
        "riformer_m36": RIFormerConfig(depths=(6, 6, 18, 6), **MEDIUM),
        "riformer_m48": RIFormerConfig(depths=(8, 8, 24, 8), **MEDIUM),
    },
    weights=_released(),
    formats=(FORMAT,),
)

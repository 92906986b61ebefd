"""The families. Each module holds one paper; `FAMILIES` is what the registry reads."""

from mlpzoo.models import convmixer, cyclemlp, gmlp, mixer, resmlp, vip, vit
from mlpzoo.models._base import Backbone, BackboneConfig
from mlpzoo.models._columnar import ColumnarBackbone, ColumnarConfig
from mlpzoo.models._family import Family, Weights
from mlpzoo.models._maps import MapBackbone
from mlpzoo.models._pyramid import PyramidBackbone, PyramidConfig
from mlpzoo.models.convmixer import ConvMixer, ConvMixerConfig
from mlpzoo.models.cyclemlp import CycleMlpConfig, CycleNet
from mlpzoo.models.gmlp import GMlp, GMlpConfig
from mlpzoo.models.mixer import MixerConfig, MlpMixer
from mlpzoo.models.resmlp import ResMlp, ResMlpConfig
from mlpzoo.models.vip import VipConfig, VisionPermutator
from mlpzoo.models.vit import VisionTransformer, VitConfig

FAMILIES = {module.FAMILY.name: module.FAMILY for module in (mixer, resmlp, cyclemlp, vip, vit, gmlp, convmixer)}

__all__ = [
    "FAMILIES",
    "Backbone",
    "BackboneConfig",
    "ColumnarBackbone",
    "ColumnarConfig",
    "ConvMixer",
    "ConvMixerConfig",
    "CycleMlpConfig",
    "CycleNet",
    "Family",
    "GMlp",
    "GMlpConfig",
    "MapBackbone",
    "MixerConfig",
    "MlpMixer",
    "PyramidBackbone",
    "PyramidConfig",
    "ResMlp",
    "ResMlpConfig",
    "VipConfig",
    "VisionPermutator",
    "VisionTransformer",
    "VitConfig",
    "Weights",
]

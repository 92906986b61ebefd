"""The families. Each module holds one paper; `FAMILIES` is what the registry reads."""

from mlpzoo.models import mixer
from mlpzoo.models._base import Backbone, BackboneConfig
from mlpzoo.models._columnar import ColumnarBackbone, ColumnarConfig
from mlpzoo.models._family import Family, Weights
from mlpzoo.models._pyramid import PyramidBackbone, PyramidConfig
from mlpzoo.models.mixer import MixerConfig, MlpMixer

FAMILIES = {module.FAMILY.name: module.FAMILY for module in (mixer,)}

__all__ = [
    "FAMILIES",
    "Backbone",
    "BackboneConfig",
    "ColumnarBackbone",
    "ColumnarConfig",
    "Family",
    "MixerConfig",
    "MlpMixer",
    "PyramidBackbone",
    "PyramidConfig",
    "Weights",
]

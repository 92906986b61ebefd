"""The families: one module a paper, found by importing every module here.

A family is a module that defines `FAMILY`. Its classes are imported from that module, for example
`from mlpzoo.models.mixer import MlpMixer`.
"""

import importlib
import pkgutil

from mlpzoo.models._base import Backbone
from mlpzoo.models._config import BackboneConfig, GridBoundConfig
from mlpzoo.models._family import CLASSIFICATION, RESTORATION, Family, Weights
from mlpzoo.models._isotropic import IsotropicBackbone, IsotropicConfig, IsotropicMapBackbone, IsotropicMapConfig
from mlpzoo.models._maps import MapBackbone
from mlpzoo.models._network import Network
from mlpzoo.models._pyramid import PyramidBackbone, PyramidConfig


def _discovered() -> dict[str, Family]:
    """The families of this package's modules, in the order of their names."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        family = getattr(importlib.import_module(f"{__name__}.{module.name}"), "FAMILY", None)
        if isinstance(family, Family):
            found[family.name] = family
    return found


FAMILIES = _discovered()
"""Name to family. `mlpzoo.registry.register` adds to it."""


def families(task: str = CLASSIFICATION) -> list[Family]:
    """The families whose networks do a task."""
    return [family for family in FAMILIES.values() if family.task == task]


__all__ = [
    "CLASSIFICATION",
    "FAMILIES",
    "RESTORATION",
    "Backbone",
    "BackboneConfig",
    "Family",
    "GridBoundConfig",
    "IsotropicBackbone",
    "IsotropicConfig",
    "IsotropicMapBackbone",
    "IsotropicMapConfig",
    "MapBackbone",
    "Network",
    "PyramidBackbone",
    "PyramidConfig",
    "Weights",
    "families",
]

"""The networks of the zoo as backbones for detection and segmentation; the detectors are those of other codebases.

Importing it gives timm a name `…_pyramid` for every network without stages whose one map can become four.
`mlpzoo.dense.mmengine` and `mlpzoo.dense.detectron2` need those packages, and are imported by name alone.
"""

from typing import NoReturn

from mlpzoo.dense.backbone import DenseBackbone
from mlpzoo.dense.fpn import FpnBackbone, fpn_backbone
from mlpzoo.dense.layer_decay import layer_decay_groups
from mlpzoo.dense.simple_pyramid import SimpleFeaturePyramid
from mlpzoo.dense.timm_names import register_pyramids
from mlpzoo.dense.window import WindowedFeatures

register_pyramids()

__all__ = [
    "DenseBackbone",
    "FpnBackbone",
    "SimpleFeaturePyramid",
    "WindowedFeatures",
    "fpn_backbone",
    "layer_decay_groups",
]


def __getattr__(name: str) -> NoReturn:
    raise AttributeError(
        f"mlpzoo.dense has no '{name}'. torchvision: fpn_backbone here, build_detector in mlpzoo.tasks; mmdet and "
        "mmseg: import mlpzoo.dense.mmengine; detectron2: import mlpzoo.dense.detectron2; transformers, "
        "segmentation-models-pytorch and effdet take the names of timm.list_models() as they are"
    )

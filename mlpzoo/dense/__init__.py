"""The networks of the zoo as backbones for detection and segmentation; the detectors are those of other codebases.

Importing it gives timm a name `…_pyramid` for every network without stages whose one map can become four.
`mlpzoo.dense.mmengine` and `mlpzoo.dense.detectron2` need those packages, and are imported by name alone.
"""

from typing import NoReturn

from mlpzoo.dense.backbone import DenseBackbone
from mlpzoo.dense.detection import (
    Box,
    Detections,
    Detector,
    DetectorConfig,
    detect,
    load_detector,
    save_detector,
)
from mlpzoo.dense.detectors import FpnBackbone, build_detector, check_targets, fpn_backbone
from mlpzoo.dense.drawing import DetectedFile, detect_files, draw_boxes
from mlpzoo.dense.layer_decay import layer_decay_groups
from mlpzoo.dense.simple_pyramid import SimpleFeaturePyramid
from mlpzoo.dense.timm_names import register_pyramids
from mlpzoo.dense.window import WindowedFeatures

register_pyramids()

__all__ = [
    "Box",
    "DenseBackbone",
    "DetectedFile",
    "Detections",
    "Detector",
    "DetectorConfig",
    "FpnBackbone",
    "SimpleFeaturePyramid",
    "WindowedFeatures",
    "build_detector",
    "check_targets",
    "detect",
    "detect_files",
    "draw_boxes",
    "fpn_backbone",
    "layer_decay_groups",
    "load_detector",
    "save_detector",
]


def __getattr__(name: str) -> NoReturn:
    raise AttributeError(
        f"mlpzoo.dense has no '{name}'. torchvision: build_detector, fpn_backbone; mmdet and mmseg: import "
        f"mlpzoo.dense.mmengine; detectron2: import mlpzoo.dense.detectron2; transformers, segmentation-models-pytorch "
        f"and effdet take the names of timm.list_models() as they are"
    )

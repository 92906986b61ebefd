"""The networks of the zoo as backbones for detection and segmentation; the detectors are those of other codebases.

`mlpzoo.dense.mmengine` and `mlpzoo.dense.detectron2` need those packages, and are imported by name alone.
"""

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
from mlpzoo.dense.window import WindowedFeatures

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

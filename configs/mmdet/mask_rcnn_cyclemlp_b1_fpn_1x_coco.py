"""Mask R-CNN on CycleMLP-B1, COCO, 12 epochs. The paper's AP is not known to us. Not rerun here."""

_base_ = [
    "mmdet::_base_/models/mask-rcnn_r50_fpn.py",
    "mmdet::_base_/datasets/coco_instance.py",
    "./_base_/cyclemlp_1x.py",
]

model = {
    "backbone": {
        "_delete_": True,
        "type": "MLPZooBackbone",
        "name": "cyclemlp_b1",
        "pretrained": True,
        "feature_norms": True,
    },
    "neck": {"in_channels": [64, 128, 320, 512]},
}

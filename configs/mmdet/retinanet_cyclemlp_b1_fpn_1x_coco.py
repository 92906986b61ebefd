"""RetinaNet on CycleMLP-B1, COCO, 12 epochs. The paper: box AP 38.6. Not rerun here."""

_base_ = [
    "mmdet::_base_/models/retinanet_r50_fpn.py",
    "mmdet::_base_/datasets/coco_detection.py",
    "./_base_/cyclemlp_1x.py",
]

model = {
    # The level of stride 4 is not used, and neither built nor normalized, as with the authors' FORK_LAST3.
    "backbone": {
        "_delete_": True,
        "type": "MLPZooBackbone",
        "name": "cyclemlp_b1",
        "pretrained": True,
        "feature_norms": True,
        "out_indices": (1, 2, 3),
    },
    "neck": {"in_channels": [128, 320, 512], "start_level": 0},
}

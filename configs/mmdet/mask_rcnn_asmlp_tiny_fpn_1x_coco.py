"""Mask R-CNN on AS-MLP-T, COCO, 12 epochs. The authors: box AP 44.0, mask AP 40.0. Not rerun here."""

_base_ = ["mmdet::_base_/models/mask-rcnn_r50_fpn.py", "./_base_/asmlp_1x.py"]

model = {
    "backbone": {
        "_delete_": True,
        "type": "MLPZooBackbone",
        "name": "asmlp_tiny",
        # Fetched with a browser from the address that `mlpzoo info asmlp_tiny` tells.
        "checkpoint_path": "asmlp_tiny.pth",
        "feature_norms": True,
        "drop_path_rate": 0.2,
    },
    "neck": {"in_channels": [96, 192, 384, 768]},
}

"""Cascade Mask R-CNN on AS-MLP-T, COCO, 12 epochs. The authors: box AP 48.4, mask AP 42.0. Not rerun here."""

_base_ = ["./_base_/asmlp_cascade.py", "./_base_/asmlp_1x.py"]

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

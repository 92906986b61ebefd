"""Cascade Mask R-CNN on AS-MLP-B, COCO, 12 epochs. The authors: box AP 51.1, mask AP 44.2. Not rerun here."""

_base_ = "cascade_mask_rcnn_asmlp_tiny_fpn_1x_coco.py"

model = {
    "backbone": {"name": "asmlp_base", "checkpoint_path": "asmlp_base.pth", "drop_path_rate": 0.3},
    "neck": {"in_channels": [128, 256, 512, 1024]},
}

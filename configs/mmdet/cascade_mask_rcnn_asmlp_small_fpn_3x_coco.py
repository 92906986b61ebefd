"""Cascade Mask R-CNN on AS-MLP-S, COCO, 36 epochs. The authors: box AP 51.1, mask AP 44.2. Not rerun here."""

_base_ = "cascade_mask_rcnn_asmlp_tiny_fpn_3x_coco.py"

model = {"backbone": {"name": "asmlp_small", "checkpoint_path": "asmlp_small.pth"}}

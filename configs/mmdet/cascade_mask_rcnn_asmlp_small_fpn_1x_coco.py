"""Cascade Mask R-CNN on AS-MLP-S, COCO, 12 epochs. The authors: box AP 50.5, mask AP 43.7. Not rerun here."""

_base_ = "cascade_mask_rcnn_asmlp_tiny_fpn_1x_coco.py"

model = {"backbone": {"name": "asmlp_small", "checkpoint_path": "asmlp_small.pth"}}

"""Mask R-CNN on AS-MLP-S, COCO, 36 epochs. The authors: box AP 47.8, mask AP 42.9. Not rerun here."""

_base_ = "mask_rcnn_asmlp_tiny_fpn_3x_coco.py"

model = {"backbone": {"name": "asmlp_small", "checkpoint_path": "asmlp_small.pth"}}

"""Mask R-CNN on AS-MLP-S, COCO, 12 epochs. The authors: box AP 46.7, mask AP 42.0. Not rerun here."""

_base_ = "mask_rcnn_asmlp_tiny_fpn_1x_coco.py"

model = {"backbone": {"name": "asmlp_small", "checkpoint_path": "asmlp_small.pth"}}

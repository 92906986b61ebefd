"""Mask R-CNN on CycleMLP-B4, COCO, 12 epochs. The paper: box AP 44.1, mask AP 40.2 (unverified). Not rerun here."""

_base_ = "mask_rcnn_cyclemlp_b1_fpn_1x_coco.py"

model = {"backbone": {"name": "cyclemlp_b4"}}

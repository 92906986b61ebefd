"""Mask R-CNN on CycleMLP-B2, COCO, 12 epochs. The paper: box AP 41.7, mask AP 38.2 (unverified). Not rerun here."""

_base_ = "mask_rcnn_cyclemlp_b1_fpn_1x_coco.py"

model = {"backbone": {"name": "cyclemlp_b2"}}

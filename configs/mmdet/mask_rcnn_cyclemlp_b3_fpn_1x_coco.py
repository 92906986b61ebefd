"""Mask R-CNN on CycleMLP-B3, COCO, 12 epochs. The paper: box AP 43.4, mask AP 39.5 (unverified). Not rerun here."""

_base_ = "mask_rcnn_cyclemlp_b1_fpn_1x_coco.py"

model = {"backbone": {"name": "cyclemlp_b3"}}

"""Mask R-CNN on CycleMLP-B5, COCO, 12 epochs. The paper's AP is not known to us. Not rerun here."""

_base_ = "mask_rcnn_cyclemlp_b1_fpn_1x_coco.py"

model = {
    "backbone": {"name": "cyclemlp_b5"},
    "neck": {"in_channels": [96, 192, 384, 768]},
}

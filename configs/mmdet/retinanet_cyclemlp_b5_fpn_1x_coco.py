"""RetinaNet on CycleMLP-B5, COCO, 12 epochs. The paper: box AP 42.7 (unverified). Not rerun here."""

_base_ = "retinanet_cyclemlp_b1_fpn_1x_coco.py"

model = {
    "backbone": {"name": "cyclemlp_b5"},
    "neck": {"in_channels": [192, 384, 768]},
}

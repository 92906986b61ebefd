"""RetinaNet on CycleMLP-B3, COCO, 12 epochs. The paper: box AP 42.5 (unverified). Not rerun here."""

_base_ = "retinanet_cyclemlp_b1_fpn_1x_coco.py"

model = {"backbone": {"name": "cyclemlp_b3"}}

"""RetinaNet on CycleMLP-B4, COCO, 12 epochs. The paper: box AP 43.2 (unverified). Not rerun here."""

_base_ = "retinanet_cyclemlp_b1_fpn_1x_coco.py"

model = {"backbone": {"name": "cyclemlp_b4"}}

"""Cascade Mask R-CNN on AS-MLP-T, COCO, 36 epochs. The authors: box AP 50.1, mask AP 43.5. Not rerun here."""

_base_ = "cascade_mask_rcnn_asmlp_tiny_fpn_1x_coco.py"

train_cfg = {"max_epochs": 36}
param_scheduler = [
    {"type": "LinearLR", "start_factor": 0.001, "by_epoch": False, "begin": 0, "end": 500},
    {"type": "MultiStepLR", "by_epoch": True, "begin": 0, "end": 36, "milestones": [27, 33], "gamma": 0.1},
]

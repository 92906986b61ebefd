"""Semantic FPN on CycleMLP-B1, ADE20K, 80,000 steps. The paper: mIoU 39.5 (unverified). Not rerun here.

Optimizer, schedule and sizes at evaluation are PVT's: whai362/PVT, `segmentation/configs/sem_fpn/PVT` at 665f8ad, which
takes half the steps with twice the images and twice the learning rate.
"""

_base_ = [
    "mmseg::_base_/models/fpn_r50.py",
    "mmseg::_base_/schedules/schedule_80k.py",
    "./_base_/cyclemlp_ade20k.py",
]

model = {
    "data_preprocessor": {"size": (512, 512)},
    "pretrained": None,
    "backbone": {
        "_delete_": True,
        "type": "MLPZooBackbone",
        "name": "cyclemlp_b1",
        "pretrained": True,
        "feature_norms": True,
    },
    "neck": {"in_channels": [64, 128, 320, 512]},
    "decode_head": {"num_classes": 150},
}
optim_wrapper = {
    "_delete_": True,
    "type": "OptimWrapper",
    "optimizer": {"type": "AdamW", "lr": 1e-4, "weight_decay": 1e-4},
}
param_scheduler = [{"type": "PolyLR", "power": 0.9, "eta_min": 0.0, "begin": 0, "end": 80000, "by_epoch": False}]

test_pipeline = [
    {"type": "LoadImageFromFile"},
    {"type": "Resize", "scale": (2048, 512), "keep_ratio": True},
    {"type": "ResizeToMultiple", "size_divisor": 32},
    {"type": "LoadAnnotations", "reduce_zero_label": True},
    {"type": "PackSegInputs"},
]
val_dataloader = {"dataset": {"pipeline": test_pipeline}}
test_dataloader = val_dataloader

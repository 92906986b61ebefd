"""Semantic FPN on Hire-MLP-Small, ADE20K, 40,000 steps. The paper's mIoU for it is not known to us. Not rerun here.

Optimizer and schedule are those of ggjy/Hire-Wave-MLP.pytorch, `mmseg-v0.11/configs/sem_fpn` at 7c580f2.
"""

_base_ = [
    "mmseg::_base_/models/fpn_r50.py",
    "mmseg::_base_/schedules/schedule_40k.py",
    "./_base_/hire_mlp_ade20k.py",
]

model = {
    "data_preprocessor": {"size": (512, 512)},
    "pretrained": None,
    "backbone": {
        "_delete_": True,
        "type": "MLPZooBackbone",
        "name": "hire_mlp_small",
        "pretrained": True,
        "feature_norms": True,
        "drop_path_rate": 0.1,
    },
    "neck": {"in_channels": [64, 128, 320, 512]},
    "decode_head": {"num_classes": 150},
}
optim_wrapper = {
    "_delete_": True,
    "type": "OptimWrapper",
    "optimizer": {"type": "AdamW", "lr": 2e-4, "weight_decay": 0.05},
}
param_scheduler = [{"type": "PolyLR", "power": 0.9, "eta_min": 0.0, "begin": 0, "end": 40000, "by_epoch": False}]

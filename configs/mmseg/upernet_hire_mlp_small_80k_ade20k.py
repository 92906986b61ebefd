"""UperNet on Hire-MLP-Small, ADE20K, 80,000 steps. The paper's mIoU for it is not known to us. Not rerun here.

Optimizer and schedule are those of ggjy/Hire-Wave-MLP.pytorch, `mmseg-v0.11/configs/upernet` at 7c580f2.
"""

_base_ = [
    "mmseg::_base_/models/upernet_r50.py",
    "mmseg::_base_/schedules/schedule_80k.py",
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
        "drop_path_rate": 0.2,
    },
    "decode_head": {"in_channels": [64, 128, 320, 512], "num_classes": 150},
    "auxiliary_head": {"in_channels": 320, "num_classes": 150},
}
optim_wrapper = {
    "_delete_": True,
    "type": "OptimWrapper",
    "optimizer": {"type": "AdamW", "lr": 1.2e-4, "betas": (0.9, 0.999), "weight_decay": 0.01},
}
param_scheduler = [
    {"type": "LinearLR", "start_factor": 1e-6, "by_epoch": False, "begin": 0, "end": 800},
    {"type": "PolyLR", "power": 1.0, "eta_min": 0.0, "begin": 800, "end": 80000, "by_epoch": False},
]

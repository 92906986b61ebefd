"""UperNet on CycleMLP-B1, ADE20K, 160,000 steps. No result is published. Not rerun here.

The paper has UperNet on networks whose code was never published, and compares them with Swin Transformers: optimizer
and schedule are those of Swin, as in mmseg 1.2.2, `configs/swin`.
"""

_base_ = [
    "mmseg::_base_/models/upernet_r50.py",
    "mmseg::_base_/schedules/schedule_160k.py",
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
    "decode_head": {"in_channels": [64, 128, 320, 512], "num_classes": 150},
    "auxiliary_head": {"in_channels": 320, "num_classes": 150},
}
optim_wrapper = {
    "_delete_": True,
    "type": "OptimWrapper",
    "optimizer": {"type": "AdamW", "lr": 6e-5, "betas": (0.9, 0.999), "weight_decay": 0.01},
    "paramwise_cfg": {"custom_keys": {"norm": {"decay_mult": 0.0}}},
}
param_scheduler = [
    {"type": "LinearLR", "start_factor": 1e-6, "by_epoch": False, "begin": 0, "end": 1500},
    {"type": "PolyLR", "power": 1.0, "eta_min": 0.0, "begin": 1500, "end": 160000, "by_epoch": False},
]

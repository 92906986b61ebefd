"""UperNet on ActiveMLP-xTiny, ADE20K, 160,000 steps. The authors: mIoU 44.3, at several scales 45.4. Not rerun here.

Optimizer and schedule are those of microsoft/TokenMixers, `Active Token Mixer/segmentation/configs` at 99dbe38,
which holds the config of the large network alone.
"""

_base_ = [
    "mmseg::_base_/models/upernet_r50.py",
    "mmseg::_base_/schedules/schedule_160k.py",
    "./_base_/activemlp_ade20k.py",
]

model = {
    "data_preprocessor": {"size": (512, 512)},
    "pretrained": None,
    "backbone": {
        "_delete_": True,
        "type": "MLPZooBackbone",
        "name": "activemlp_xtiny",
        # Fetched with a browser from the address that `mlpzoo info activemlp_xtiny` tells.
        "checkpoint_path": "activemlp_xtiny.pth",
        "feature_norms": True,
        "drop_path_rate": 0.2,
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

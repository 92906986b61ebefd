"""What every AS-MLP detector here shares: COCO's 12 epochs, images of many sizes, AdamW at 1e-4, as Swin is trained.

The settings are those of svip-lab/AS-MLP-Object-Detection, `configs/asmlp` at f80ff38f.
"""

_base_ = [
    "mmdet::_base_/datasets/coco_instance.py",
    "mmdet::_base_/schedules/schedule_1x.py",
    "mmdet::_base_/default_runtime.py",
]

custom_imports = {"imports": ["mlpzoo.dense.mmengine"], "allow_failed_imports": False}
optim_wrapper = {
    "optimizer": {"_delete_": True, "type": "AdamW", "lr": 1e-4, "betas": (0.9, 0.999), "weight_decay": 0.05},
    "paramwise_cfg": {"custom_keys": {"norm": {"decay_mult": 0.0}}},
}
sides = {
    "type": "RandomChoiceResize",
    "scales": [(side, 1333) for side in range(480, 801, 32)],
    "keep_ratio": True,
}
crops = [
    {"type": "RandomChoiceResize", "scales": [(400, 1333), (500, 1333), (600, 1333)], "keep_ratio": True},
    {"type": "RandomCrop", "crop_type": "absolute_range", "crop_size": (384, 600), "allow_negative_crop": True},
    sides,
]
train_dataloader = {
    "dataset": {
        "pipeline": [
            {"type": "LoadImageFromFile"},
            {"type": "LoadAnnotations", "with_bbox": True, "with_mask": True},
            {"type": "RandomFlip", "prob": 0.5},
            {"type": "RandomChoice", "transforms": [[sides], crops]},
            {"type": "PackDetInputs"},
        ]
    }
}

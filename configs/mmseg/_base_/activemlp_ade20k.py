"""What every ActiveMLP segmenter here shares: ADE20K in crops of 512×512 pixels, 150 classes, batches of 8 × 2."""

_base_ = ["mmseg::_base_/datasets/ade20k.py", "mmseg::_base_/default_runtime.py"]

custom_imports = {"imports": ["mlpzoo.dense.mmengine"], "allow_failed_imports": False}
train_dataloader = {"batch_size": 2}

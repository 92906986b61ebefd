"""What every Hire-MLP segmenter here shares: ADE20K in crops of 512×512 pixels, 150 classes, 4 images a GPU.

How many GPUs there were is not stated. BatchNorms of the network take their statistics over all of them.
"""

_base_ = ["mmseg::_base_/datasets/ade20k.py", "mmseg::_base_/default_runtime.py"]

custom_imports = {"imports": ["mlpzoo.dense.mmengine"], "allow_failed_imports": False}
sync_bn = "torch"

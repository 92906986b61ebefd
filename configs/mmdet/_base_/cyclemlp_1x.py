"""What every CycleMLP detector here shares: COCO's 12 epochs as PVT trains them, with AdamW at 1e-4.

PVT's settings are those of whai362/PVT, `detection/configs/retinanet_pvt_s_fpn_1x_coco.py` at 38b6b49.
"""

_base_ = ["mmdet::_base_/schedules/schedule_1x.py", "mmdet::_base_/default_runtime.py"]

custom_imports = {"imports": ["mlpzoo.dense.mmengine"], "allow_failed_imports": False}
optim_wrapper = {"optimizer": {"_delete_": True, "type": "AdamW", "lr": 1e-4, "weight_decay": 1e-4}}

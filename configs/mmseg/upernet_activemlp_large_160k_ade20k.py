"""UperNet on ActiveMLP-Large, ADE20K, 160,000 steps. The authors: mIoU 50.1, at several scales 51.1. Not rerun here."""

_base_ = "upernet_activemlp_xtiny_160k_ade20k.py"

model = {
    "backbone": {"name": "activemlp_large", "checkpoint_path": "activemlp_large.pth"},
    "decode_head": {"in_channels": [96, 192, 384, 768]},
    "auxiliary_head": {"in_channels": 384},
}

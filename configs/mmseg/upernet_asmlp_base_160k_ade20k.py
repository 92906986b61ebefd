"""UperNet on AS-MLP-B, ADE20K, 160,000 steps. The authors: mIoU 49.5, at several scales and flipped. Not rerun here."""

_base_ = "upernet_asmlp_tiny_160k_ade20k.py"

model = {
    "backbone": {"name": "asmlp_base", "checkpoint_path": "asmlp_base.pth", "drop_path_rate": 0.5},
    "decode_head": {"in_channels": [128, 256, 512, 1024]},
    "auxiliary_head": {"in_channels": 512},
}

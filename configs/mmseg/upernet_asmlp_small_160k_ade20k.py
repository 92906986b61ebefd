"""UperNet on AS-MLP-S, ADE20K, 160,000 steps. The authors: mIoU 49.2, at several scales and flipped. Not rerun here."""

_base_ = "upernet_asmlp_tiny_160k_ade20k.py"

model = {"backbone": {"name": "asmlp_small", "checkpoint_path": "asmlp_small.pth"}}

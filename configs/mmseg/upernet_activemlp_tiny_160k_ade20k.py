"""UperNet on ActiveMLP-Tiny, ADE20K, 160,000 steps. The authors: mIoU 46.5, at several scales 47.6. Not rerun here."""

_base_ = "upernet_activemlp_xtiny_160k_ade20k.py"

model = {"backbone": {"name": "activemlp_tiny", "checkpoint_path": "activemlp_tiny.pth"}}

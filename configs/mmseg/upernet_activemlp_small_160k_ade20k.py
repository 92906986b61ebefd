"""UperNet on ActiveMLP-Small, ADE20K, 160,000 steps. The authors: mIoU 48.4, at several scales 49.5. Not rerun here."""

_base_ = "upernet_activemlp_xtiny_160k_ade20k.py"

model = {"backbone": {"name": "activemlp_small", "checkpoint_path": "activemlp_small.pth"}}

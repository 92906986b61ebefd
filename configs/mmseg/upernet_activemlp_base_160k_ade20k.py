"""UperNet on ActiveMLP-Base, ADE20K, 160,000 steps. The authors: mIoU 48.6, at several scales 49.9. Not rerun here."""

_base_ = "upernet_activemlp_xtiny_160k_ade20k.py"

model = {"backbone": {"name": "activemlp_base", "checkpoint_path": "activemlp_base.pth"}}

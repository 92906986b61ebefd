"""Semantic FPN on CycleMLP-B4, ADE20K, 80,000 steps. The paper: mIoU 45.1 (unverified). Not rerun here."""

_base_ = "fpn_cyclemlp_b1_80k_ade20k.py"

model = {"backbone": {"name": "cyclemlp_b4"}}

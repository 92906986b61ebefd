"""Semantic FPN on CycleMLP-B3, ADE20K, 80,000 steps. The paper: mIoU 44.5 (unverified). Not rerun here."""

_base_ = "fpn_cyclemlp_b1_80k_ade20k.py"

model = {"backbone": {"name": "cyclemlp_b3"}}

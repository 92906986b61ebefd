"""Semantic FPN on CycleMLP-B5, ADE20K, 80,000 steps. The paper: mIoU 45.6 (unverified). Not rerun here."""

_base_ = "fpn_cyclemlp_b1_80k_ade20k.py"

model = {
    "backbone": {"name": "cyclemlp_b5"},
    "neck": {"in_channels": [96, 192, 384, 768]},
}

"""UperNet on CycleMLP-B5, ADE20K, 160,000 steps. No result is published. Not rerun here."""

_base_ = "upernet_cyclemlp_b1_160k_ade20k.py"

model = {
    "backbone": {"name": "cyclemlp_b5"},
    "decode_head": {"in_channels": [96, 192, 384, 768]},
    "auxiliary_head": {"in_channels": 384},
}

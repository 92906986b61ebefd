"""UperNet on CycleMLP-B3, ADE20K, 160,000 steps. No result is published. Not rerun here."""

_base_ = "upernet_cyclemlp_b1_160k_ade20k.py"

model = {"backbone": {"name": "cyclemlp_b3"}}

"""What the kernels become without the interpreter, as far as it can be seen without a GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton comes with PyTorch's builds for CUDA alone")

ROOT = Path(__file__).parents[2]
SHARED_MEMORY = 227 << 10
"""Bytes that a program may have on an H100 or H200."""


def lines(what):
    environment = {**os.environ, "TRITON_INTERPRET": "0", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(Path(__file__).with_name("compile_for_hopper.py")), what]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_compilers_see_what_the_kernels_write():
    (written,) = lines("trace")
    assert written == [["pre", "y"], ["y"], ["y"], ["y"]]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_every_configuration_compiles_for_hopper(dtype):
    rows = lines(dtype)
    assert {row["kernel"] for row in rows} == {
        "product_kernel",
        "weight_gradient_kernel",
        "reweighted_sum_kernel",
        "reweighted_sum_gradient_kernel",
    }
    for row in rows:
        assert row["shared"] <= SHARED_MEMORY, row
        if dtype == "bfloat16" and not row["kernel"].startswith("reweighted"):
            assert row["tensor_cores"], row

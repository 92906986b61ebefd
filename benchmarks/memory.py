"""Peak memory of a training step: `python -m benchmarks.memory --help`.

Ours and the reference implementations take one step each, forward and backward, in processes of their own, several
times in turn. Counted is what the second step adds, at its highest, to what the process holds before it, gradients
included: the first step brings what libraries keep for good.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

import mlpzoo
from benchmarks import environment
from benchmarks.restoration import held_mb

CONTENDERS = ("auto", "reference")


def step_mb(name: str, impl: str, batch: int) -> float:
    """Memory that a training step of a new model adds at its highest, in 10⁶ bytes. Linux only."""
    model = mlpzoo.create_model(name, impl=impl)
    images = torch.randn(batch, *model.pretrained_cfg["input_size"])
    model(images[:1]).sum().backward()
    model.zero_grad()
    # Writing this to the file starts the count of the peak anew.
    Path("/proc/self/clear_refs").write_text("5")
    before = held_mb()
    model(images).sum().backward()
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024 / 1e6
    return peak - before


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for and print one line a model."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", choices=mlpzoo.list_models(), default=["cyclemlp_b2"], metavar="NAME")
    parser.add_argument("--batch", type=int, default=8, help="images (default: 8)")
    parser.add_argument("--repeats", type=int, default=3, help="processes of each contender (default: 3)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--in-process", choices=CONTENDERS, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    if given.in_process:
        print(json.dumps(step_mb(given.models[0], given.in_process, given.batch)))
        return 0
    if sys.platform != "linux":
        parser.error("this runs on Linux only")
    about = environment.describe("cpu")
    print(", ".join(f"{key} {about[key]}" for key in ("device", "threads", "torch", "commit")), environment.now())
    for name in given.models:
        found: dict[str, list[float]] = {impl: [] for impl in CONTENDERS}
        for _ in range(given.repeats):
            for impl, values in found.items():
                command = [sys.executable, "-m", "benchmarks.memory", "--models", name, "--in-process", impl]
                command += ["--batch", str(given.batch), "--threads", str(given.threads)]
                values.append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))
        ours, reference = (statistics.median(found[impl]) for impl in CONTENDERS)
        ratio = f"reference {reference:,.0f} MB, ratio {ours / reference:.2f}"
        print(f"{name} batch {given.batch}: {ours:,.0f} MB, {ratio}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

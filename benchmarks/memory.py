"""Peak memory of a step on a CPU: `python -m benchmarks.memory --help`.

Each contender takes its step in a process of its own. Counted is the resident memory that the step adds at its highest
to what the process holds before it. A first step on one image comes before: it brings what libraries keep for good.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

import mlpzoo
from benchmarks import environment, models
from benchmarks.options import DTYPES, MODES, Options, image_size
from benchmarks.report import Row
from benchmarks.restoration import held_mb

CONTENDERS = (models.OURS, "reference")
PROMPT = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""Makes glibc give every tensor's memory back at once. What it keeps for later use would hide a part of the peak."""


def step_mb(name: str, contender: str, *, size: models.Size | None, batch: int, dtype: str, train: bool) -> list[float]:
    """What a step adds at its highest, and what weights and images take, in 10⁶ bytes. Linux only."""
    options, image = models.model_options(name, size)
    peers = () if contender == models.OURS else (contender,)
    built = models.build(name, options, peers, train)[contender]
    trial = built.trial(device="cpu", dtype=DTYPES[dtype], train=train)
    images = torch.randn(batch, *image)
    gradient = torch.randn(batch, built.model.num_classes)
    trial.feed(images[:1], gradient[:1])
    trial.values()
    trial.feed(images, gradient)
    # Writing this to the file starts the count of the peak anew.
    Path("/proc/self/clear_refs").write_text("5")
    before = held_mb()
    trial.step()
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024 / 1e6
    return [peak - before, trial.own_bytes() / 1e6]


def peak_mb(options: Options, row: Row) -> float | None:
    """Most memory that the step of a row takes, its weights and images included, in 10⁶ bytes; None if unknown."""
    if sys.platform != "linux" or row["contender"] not in (models.OURS, *models.PEERS):
        return None
    given = ["--models", row["model"], "--batch", row["batch"], "--dtype", row["dtype"], "--size", row["img_size"]]
    return sum(_in_process(row["contender"], [*map(str, given), "--mode", str(row["mode"])], options.threads))


def _in_process(contender: str, given: list[str], threads: int) -> list[float]:
    command = [sys.executable, "-m", "benchmarks.memory", *given, "--in-process", contender, "--threads", str(threads)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, check=True, cwd=environment.ROOT, env={**os.environ, **PROMPT}
    )
    return json.loads(done.stdout)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for and print one line a model."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", choices=mlpzoo.list_models(), default=["cyclemlp_b2"], metavar="NAME")
    parser.add_argument("--batch", type=int, default=8, help="images (default: 8)")
    parser.add_argument("--mode", choices=MODES, default="training", help="what a step is (default: training)")
    parser.add_argument("--repeats", type=int, default=3, help="processes of each contender (default: 3)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--in-process", choices=(models.OURS, *models.PEERS), help=argparse.SUPPRESS)
    parser.add_argument("--size", type=image_size, help=argparse.SUPPRESS)
    parser.add_argument("--dtype", choices=DTYPES, default="fp32", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.in_process:
        torch.set_num_threads(given.threads)
        how = {"size": given.size, "batch": given.batch, "dtype": given.dtype, "train": given.mode == "training"}
        print(json.dumps(step_mb(given.models[0], given.in_process, **how)))
        return 0
    if sys.platform != "linux":
        parser.error("this runs on Linux only")
    about = environment.describe("cpu") | {"threads": given.threads}
    print(", ".join(f"{key} {about[key]}" for key in ("device", "threads", "torch", "commit")), environment.now())
    for name in given.models:
        found: dict[str, list[float]] = {contender: [] for contender in CONTENDERS}
        words = ["--models", name, "--batch", str(given.batch), "--mode", given.mode]
        for _ in range(given.repeats):
            for contender, values in found.items():
                values.append(_in_process(contender, words, given.threads)[0])
        ours, reference = (statistics.median(found[contender]) for contender in CONTENDERS)
        ratio = f"reference {reference:,.0f} MB, ratio {ours / reference:.2f}"
        print(f"{name} batch {given.batch}: {ours:,.0f} MB, {ratio}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

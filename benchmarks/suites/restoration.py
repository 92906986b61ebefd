"""Peak memory of restoring images by tiles: `python -m benchmarks.restoration --help`.

Every case runs in a process of its own, whose largest resident memory is its peak. Counted is what restoring adds to
what the process holds just before: PyTorch, the weights, and the image itself.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks import environment
from mlpzoo.restoration import create_restorer, list_restorers, restore


def peak_mb() -> float:
    """Largest resident memory of this process so far, in 10⁶ bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def held_mb() -> float:
    """Resident memory of this process now, in 10⁶ bytes; its peak so far where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return peak_mb()
    return pages * resource.getpagesize() / 1e6


def measure(model: str, side: int, tile: int | None, overlap: int | None) -> dict[str, float | int]:
    """Restore one random image in this process."""
    network = create_restorer(model).eval()
    image = torch.rand(3, side, side)
    passes = 0

    def count(done: int, _: int) -> None:
        nonlocal passes
        passes = done

    before = held_mb()
    start = time.perf_counter()
    restore(network, image, tile=tile, overlap=overlap, progress=count)
    return {"passes": passes, "mb": peak_mb() - before, "seconds": time.perf_counter() - start}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for and print one line a case."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.restoration", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", choices=list_restorers(), default="maxim_s1")
    parser.add_argument("--sides", type=int, nargs="+", default=[1024, 2048], help="of square images, in pixels")
    parser.add_argument("--tiles", type=int, nargs="+", default=[256, 512], help="sides in pixels; 0 for no tiles")
    parser.add_argument("--overlap", type=int, help="pixels; the library's choice by default")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    if given.in_process:
        print(json.dumps(measure(given.model, given.sides[0], given.tiles[0] or None, given.overlap)))
        return 0
    about = environment.describe("cpu")
    print(", ".join(f"{key} {about[key]}" for key in ("device", "threads", "torch", "commit")))
    print(f"{'image':>11} {'tile':>6} {'passes':>7} {'added memory':>13} {'time':>9}")
    for side in given.sides:
        for tile in given.tiles:
            command = [sys.executable, "-m", "benchmarks.restoration", "--in-process", "--model", given.model]
            command += ["--sides", str(side), "--tiles", str(tile), "--threads", str(given.threads)]
            command += ["--overlap", str(given.overlap)] if tile and given.overlap is not None else []
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            if done.returncode:
                return 1
            found = json.loads(done.stdout)
            size = f"{side}×{side}"
            row = f"{size:>11} {tile or 'whole':>6} {found['passes']:>7} {found['mb']:>10,.0f} MB"
            print(f"{row} {found['seconds']:>7.1f} s", flush=True)
    print(environment.now())
    return 0


if __name__ == "__main__":
    sys.exit(main())

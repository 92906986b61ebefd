"""The one probe of peak memory: what a step adds at its highest to what is held before it.

On a GPU PyTorch's allocator counts. On a CPU the step runs in a process of its own (`in_process`), and Linux counts its
resident memory. Nothing here imports mlpzoo: it also runs in the process of another commit.
"""

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Step = Callable[[], object]
PROMPT = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""Makes glibc give every tensor's memory back at once. What it keeps for later use would hide a part of the peak."""
ROOT = Path(__file__).resolve().parents[1]


def added_mb(step: Step, device: str) -> float:
    """Run a step and return the memory that it adds at its highest, in 10⁶ bytes."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    # Writing this to the file starts the count of the peak anew.
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    step()
    return (_status("VmHWM") - before) / 1e6


def in_process(case: Callable[..., Step], *arguments: Any, threads: int) -> dict[str, Any]:
    """Measure a step in a new process.

    Args:
        case: a function of a module that prepares everything, does once what libraries keep memory of for good, and
            returns the step.
        *arguments: of the case; JSON carries them.
        threads: CPU threads of PyTorch.

    Returns:
        `added_mb`, the `seconds` of the step, and what the step returns if that is a dictionary.
    """
    request = {"module": case.__module__, "case": case.__qualname__, "threads": threads, "arguments": arguments}
    command = [sys.executable, "-m", "benchmarks.memory", json.dumps(request)]
    done = subprocess.run(command, stdout=subprocess.PIPE, cwd=ROOT, env={**os.environ, **PROMPT}, check=False)
    if done.returncode:
        raise RuntimeError(f"the process that measures memory ended with {done.returncode}: {request}")
    return json.loads(done.stdout.splitlines()[-1])


def main(request: dict[str, Any]) -> None:
    """Measure what `in_process` asks for and print it as JSON."""
    torch.set_num_threads(request["threads"])
    step = getattr(importlib.import_module(request["module"]), request["case"])(*request["arguments"])
    found: dict[str, Any] = {}

    def timed() -> None:
        start = time.perf_counter()
        result = step()
        found.update(result if isinstance(result, dict) else {}, seconds=time.perf_counter() - start)

    found["added_mb"] = added_mb(timed, "cpu")
    print(json.dumps(found))


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) * 1024


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

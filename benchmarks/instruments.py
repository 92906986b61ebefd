"""Clocks and a gauge of memory. Nothing here imports mlpzoo: it runs in the process of another commit as well."""

import time
from collections.abc import Callable
from typing import Protocol

import torch


class Runner(Protocol):
    """Something to time."""

    def prepare(self) -> None:
        """What must happen before a step, off the clock."""

    def step(self) -> object:
        """The work on the clock."""

    def reset(self) -> None:
        """What must happen after a step, off the clock."""


def seconds_on_cpu(step: Callable[[], object]) -> float:
    """Wall-clock time of a call."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def seconds_on_cuda(step: Callable[[], object]) -> float:
    """Time between two CUDA events around a call on an idle device."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    step()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3


SECONDS = {"cpu": seconds_on_cpu, "cuda": seconds_on_cuda}


def peak_cuda_memory_mb(runner: Runner, own_bytes: int) -> float:
    """Most GPU memory a step needs, in 10⁶ bytes: what it allocates, and what the runner holds between steps.

    Args:
        runner: what to run.
        own_bytes: its weights and images. The other contenders hold theirs too, which is not counted.
    """
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    runner.step()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before + own_bytes
    runner.reset()
    return peak / 1e6

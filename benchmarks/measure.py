"""Timing: contenders and a GEMM probe in turn, and the statistics of their pairs."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import torch

from mlpzoo.ops import linear


class Runner(Protocol):
    """Something to time."""

    def step(self) -> object:
        """The work on the clock."""

    def reset(self) -> None:
        """What must happen between two steps, off the clock."""


class Quartiles(NamedTuple):
    """The middle of a sample and its spread."""

    q1: float
    median: float
    q3: float


def quartiles(values: Sequence[float]) -> Quartiles:
    """Median and quartiles of two values or more, interpolated between neighbours."""
    return Quartiles(*statistics.quantiles(values, n=4, method="inclusive"))


def paired(numerators: Sequence[float], denominators: Sequence[float]) -> Quartiles:
    """Quartiles of the ratios of values taken in the same round, which a change of the machine's speed cancels in."""
    return quartiles([a / b for a, b in zip(numerators, denominators, strict=True)])


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


def time_in_turn(runners: Mapping[str, Runner], device: str, warmups: int, pairs: int) -> dict[str, list[float]]:
    """Run all of them once a round, in order, for `warmups` rounds off the record and `pairs` on it.

    Returns:
        Seconds of every round, by runner.
    """
    seconds = SECONDS[device]
    times: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(warmups + pairs):
        for name, runner in runners.items():
            times[name].append(seconds(runner.step))
            runner.reset()
    return {name: values[warmups:] for name, values in times.items()}


class GemmProbe:
    """A large square matrix product of random data: the rate this machine reaches in this minute."""

    SIDES: Mapping[str, int] = {"cpu": 2048, "cuda": 8192}

    def __init__(self, device: str, dtype: torch.dtype) -> None:
        side = self.SIDES[device]
        self.flops = 2 * side**3
        self.factors = torch.randn(2, side, side, device=device, dtype=dtype)

    def step(self) -> object:
        """One product, by the fastest implementation known: on some CPUs `torch.mm` is not."""
        return linear(self.factors[0], self.factors[1])

    def reset(self) -> None:
        """Nothing is kept between products."""


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

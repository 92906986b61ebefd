"""Timing: contenders and probes in turn, and the statistics of their pairs."""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch

from benchmarks.instruments import SECONDS, Runner
from mlpzoo.ops import linear


@runtime_checkable
class SelfTimed(Protocol):
    """Something with a clock of its own, because it runs in another process."""

    def timed_step(self) -> float:
        """Do the work and what must happen after it; the seconds that the work alone took."""


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


def time_in_turn(
    runners: Mapping[str, Runner | SelfTimed], device: str, warmups: int, pairs: int
) -> dict[str, list[float]]:
    """Run all of them once a round, in order, for `warmups` rounds off the record and `pairs` on it.

    Returns:
        Seconds of every round, by runner.
    """
    seconds = SECONDS[device]
    times: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(warmups + pairs):
        for name, runner in runners.items():
            if isinstance(runner, SelfTimed):
                times[name].append(runner.timed_step())
            else:
                runner.prepare()
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

    def prepare(self) -> None:
        """It is too large for its start to matter."""

    def step(self) -> object:
        """One product, by the fastest implementation known: on some CPUs `torch.mm` is not."""
        return linear(self.factors[0], self.factors[1])

    def reset(self) -> None:
        """Nothing is kept between products."""


class CopyProbe:
    """A copy far larger than the caches: the rate at which this machine moves memory in this minute."""

    MEGABYTES: Mapping[str, int] = {"cpu": 64, "cuda": 1024}

    def __init__(self, device: str) -> None:
        size = self.MEGABYTES[device] << 20
        self.source, self.target = (torch.ones(size, dtype=torch.uint8, device=device) for _ in range(2))
        self.bytes = 2 * size
        """Read and written."""

    def prepare(self) -> None:
        """Nothing could stay in a cache."""

    def step(self) -> object:
        """One copy."""
        return self.target.copy_(self.source)

    def reset(self) -> None:
        """Nothing is kept between copies."""

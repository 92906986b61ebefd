"""The one way in which things are timed here: in turn with probes, compared pair by pair.

Nothing here imports mlpzoo when it is loaded: the clocks also run in the process of another commit.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

Row = dict[str, Any]
"""Columns of a result, by name."""
WARMUPS = {"cpu": 3, "cuda": 10}


class Runner:
    """Something to time; subclasses override what they need."""

    def prepare(self) -> None:
        """Runs before a step, off the clock."""

    def step(self) -> object:
        """The work on the clock."""
        raise NotImplementedError

    def reset(self) -> None:
        """Runs after a step, off the clock."""

    def seconds(self, clock: Callable[[Callable[[], object]], float]) -> float:
        """Prepare, step and reset; the seconds that the step took."""
        self.prepare()
        taken = clock(self.step)
        self.reset()
        return taken


class Quartiles(NamedTuple):
    """The median of a sample and its spread."""

    q1: float
    median: float
    q3: float


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


def quartiles(values: Sequence[float]) -> Quartiles:
    """Median and quartiles of two values or more, interpolated between neighbours."""
    return Quartiles(*statistics.quantiles(values, n=4, method="inclusive"))


def paired(numerators: Sequence[float], denominators: Sequence[float]) -> Quartiles:
    """Quartiles of the ratios of values taken in the same round, so that changes of the machine's speed cancel."""
    return quartiles([a / b for a, b in zip(numerators, denominators, strict=True)])


def time_in_turn(runners: Mapping[str, Runner], device: str, warmups: int, pairs: int) -> dict[str, list[float]]:
    """Run all of them once a round, in order, for `warmups` rounds that are not recorded and `pairs` that are.

    Returns:
        Seconds of every round, by runner.
    """
    times: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(warmups + pairs):
        for name, runner in runners.items():
            times[name].append(runner.seconds(SECONDS[device]))
    return {name: values[warmups:] for name, values in times.items()}


def measure(
    runners: Mapping[str, Runner],
    *,
    device: str,
    pairs: int,
    warmups: int | None = None,
    repeats: int = 1,
    dtype: torch.dtype = torch.float32,
    flops: int = 0,
    needed_bytes: int = 0,
) -> dict[str, Row]:
    """Time runners in turn with the probes that apply.

    Args:
        runners: what to time; the first is the one that the others are compared with.
        device: `"cpu"` or `"cuda"`.
        pairs: rounds on the record, 2 or more.
        warmups: rounds before; `WARMUPS` of the device if None.
        repeats: how often a step does the work; times are given for once.
        dtype: of the GEMM probe.
        flops: floating-point operations of the work; 0 leaves the GEMM probe out.
        needed_bytes: bytes that the work must move; 0 leaves the copy probe out.

    Returns:
        The columns that were measured, by runner: `ms_*`, `ratio_*` for all but the first, and with the probes
        `tflops`, `gemm_share`, `mb_needed`, `gb_per_s`, `copy_share`.
    """
    gemm = GemmProbe(device, dtype) if flops else None
    copy = CopyProbe(device) if needed_bytes else None
    probes = {name: probe for name, probe in (("gemm", gemm), ("copy", copy)) if probe}
    times = time_in_turn({**runners, **probes}, device, WARMUPS[device] if warmups is None else warmups, pairs)
    first = next(iter(runners))
    rows: dict[str, Row] = {}
    for name in runners:
        seconds = [value / repeats for value in times[name]]
        median = quartiles(seconds).median
        rows[name] = columns("ms", quartiles([1e3 * value for value in seconds]))
        if name != first:
            rows[name] |= columns("ratio", paired(times[name], times[first]))
        if gemm:
            share = flops / gemm.flops * paired(times["gemm"], seconds).median
            rows[name] |= {"tflops": flops / median / 1e12, "gemm_share": share}
        if copy:
            share = needed_bytes / copy.bytes * paired(times["copy"], seconds).median
            rows[name] |= {"mb_needed": needed_bytes / 1e6, "gb_per_s": needed_bytes / median / 1e9}
            rows[name]["copy_share"] = share
    return rows


def columns(name: str, values: Quartiles) -> Row:
    """Quartiles as three columns."""
    return {f"{name}_median": values.median, f"{name}_q1": values.q1, f"{name}_q3": values.q3}


class GemmProbe(Runner):
    """A large square matrix product of random data: the rate that this machine reaches at the moment."""

    SIDES: Mapping[str, int] = {"cpu": 2048, "cuda": 8192}

    def __init__(self, device: str, dtype: torch.dtype) -> None:
        from mlpzoo.ops import linear

        side = self.SIDES[device]
        self.flops = 2 * side**3
        self.factors = torch.randn(2, side, side, device=device, dtype=dtype)
        self.product = linear

    def step(self) -> object:
        """One product, by the zoo's own choice of library: on some CPUs it is faster than `torch.mm`."""
        return self.product(self.factors[0], self.factors[1])


class CopyProbe(Runner):
    """A copy far larger than the caches: the rate at which this machine moves memory at the moment."""

    MEGABYTES: Mapping[str, int] = {"cpu": 64, "cuda": 1024}

    def __init__(self, device: str) -> None:
        size = self.MEGABYTES[device] << 20
        self.source, self.target = (torch.ones(size, dtype=torch.uint8, device=device) for _ in range(2))
        self.bytes = 2 * size  # read and written

    def step(self) -> object:
        """One copy."""
        return self.target.copy_(self.source)

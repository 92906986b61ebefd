"""The suite `ops`: every op as a model calls it, beside its reference twin and its other implementations."""

import itertools
import math
import sys
from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks import models
from benchmarks.base import Base, BaseError
from benchmarks.gate import FLOORS, RedError
from benchmarks.instruments import SECONDS
from benchmarks.measure import CopyProbe, GemmProbe, paired, quartiles, time_in_turn
from benchmarks.models import OURS
from benchmarks.op_calls import IMPLS, Call, implementation, record_calls
from benchmarks.op_trial import OUTPUT, Arguments, OpTrial
from benchmarks.options import DTYPES, WARMUPS, Options, size_text
from benchmarks.report import Row, columns
from benchmarks.traffic import Traffic

FACTORS = {OUTPUT: 2.0}
GRADIENT_FACTOR = 3.0
LEAST_SECONDS = {"cpu": 5e-3, "cuda": 2e-3}
"""What a step of ours takes at least: shorter calls are repeated in it."""

Trials = dict[str, OpTrial]


def run_ops(options: Options, name: str, base: Base | None) -> Iterator[list[Row]]:
    """Time the ops of a model at the shapes it gives them, one call and configuration after the other.

    Args:
        options: of the run.
        name: of the model.
        base: another commit to compare with.

    Yields:
        The rows of a configuration, ours first. Where an implementation is red, a note says so; where ours is, there
        are none.

    Raises:
        RedError: at the end, when there were red ones.
    """
    red = 0
    _, image = models.model_options(name, options.img_size)
    for batch, mode in itertools.product(options.batches, options.modes):
        train = mode == "training"
        calls = [call for call in record_calls(name, batch, options.img_size, train) if call.op in options.ops]
        for call in calls:
            arguments = call.arguments(options.device)
            for dtype, compiled in itertools.product(options.dtypes, (False, True) if options.compile else (False,)):
                common = {"model": name, "op": call.op, "call": str(call), "calls": call.times, "batch": batch}
                common |= {"mode": mode, "compiled": int(compiled), "dtype": dtype}
                common |= {"img_size": size_text(image[1:]), "pairs": options.pairs}
                print(f"{name} {call.op} {call} {dtype} {mode}", file=sys.stderr)
                try:
                    measured = _measure(options, call, arguments, base, DTYPES[dtype], train, compiled)
                    red += sum(str(row.get("note")).startswith("RED") for row in measured.values())
                    yield [{**common, "contender": key, **row} for key, row in measured.items()]
                except RedError as error:
                    print(f"RED: {call.op} {call} {dtype} {mode}: {error}", file=sys.stderr)
                    red += 1
                except torch.OutOfMemoryError:
                    yield [{**common, "contender": OURS, "note": "skipped: out of memory"}]
                if compiled:
                    torch.compiler.reset()
    if red:
        raise RedError(f"{name}: {red} of the calls above")


def _measure(
    options: Options,
    call: Call,
    arguments: Arguments,
    base: Base | None,
    dtype: torch.dtype,
    train: bool,
    compiled: bool,
) -> dict[str, Row]:
    """Check and time the implementations of a call; a row of each, by contender."""
    gate = OpGate(call.op, arguments, options.device, dtype, train)
    impls = {OURS: "auto", "reference": "reference", **{impl: impl for impl in _others(call.op, options.device)}}
    rows: dict[str, Row] = {}
    trials: Trials = {}
    moved: dict[str, float] = {}
    how = {"device": options.device, "dtype": dtype, "train": train}
    for key, impl in impls.items():
        trial = OpTrial(implementation(call.op, impl), arguments, **how, compiled=compiled)
        rows[key] = {}
        try:
            gate.check(key, trial)
        except (ValueError, RedError) as error:
            if key == OURS:
                raise
            rows[key]["note"] = _why_not(error)
            continue
        trials[key] = trial
        if not compiled:
            with Traffic() as traffic:
                trial.once()
            moved[key] = traffic.bytes / 1e6
    if base:
        try:
            trial = base.op(call.op, arguments, **how, compiled=compiled)
            gate.check(base.name, trial)
            trials[base.name] = trial
        except (BaseError, RedError) as error:
            rows[base.name] = {"note": _why_not(error)}
    _repeat(trials, options.device)

    gemm, copy = GemmProbe(options.device, dtype), CopyProbe(options.device)
    times = time_in_turn({**trials, "gemm": gemm, "copy": copy}, options.device, WARMUPS[options.device], options.pairs)
    repeats, flops, needed = trials[OURS].repeats, call.flops(train), call.needed_bytes(dtype, train)
    for key in trials:
        seconds = [value / repeats for value in times[key]]
        median = quartiles(seconds).median
        rows[key] = {
            **columns("ms", quartiles([1e3 * value for value in seconds])),
            **({} if key == OURS else columns("ratio", paired(times[key], times[OURS]))),
            "tflops": flops / median / 1e12,
            "gemm_share": flops / gemm.flops * paired(times["gemm"], seconds).median,
            "mb_needed": needed / 1e6,
            "mb_moved": moved.get(key),
            "gb_per_s": needed / median / 1e9,
            "copy_share": needed / copy.bytes * paired(times["copy"], seconds).median,
        }
    return rows


def _why_not(error: Exception) -> str:
    return f"{'RED' if isinstance(error, RedError) else 'skipped'}: {error}"


def _others(op: str, device: str) -> tuple[str, ...]:
    return IMPLS.get(op, {}).get(device, ())


def _repeat(trials: Trials, device: str) -> None:
    """Let every step make as many calls as ours needs to take long enough for a clock."""
    ours = trials[OURS]
    ours.step()
    seconds = min(SECONDS[device](ours.step) for _ in range(3))
    for trial in trials.values():
        trial.repeats = max(1, min(1000, math.ceil(LEAST_SECONDS[device] / seconds)))


class OpGate:
    """Checks implementations of one call by an error budget.

    The truth is the reference in float64. An implementation may be at most twice as far from it as the reference is in
    the same dtype, three times for gradients.

    Args:
        op: name of the op.
        arguments: what it is called with.
        device: where it runs.
        dtype: to be timed.
        train: whether gradients are checked too.
    """

    def __init__(self, op: str, arguments: Arguments, device: str, dtype: torch.dtype, train: bool) -> None:
        plain = implementation(op, "reference")
        how = {"device": device, "train": train}
        self.truth = OpTrial(plain, arguments, **how, dtype=torch.float64).values()
        found = OpTrial(plain, arguments, **how, dtype=dtype).values()
        self.budgets = {}
        for key, exact in self.truth.items():
            allowed = FACTORS.get(key, GRADIENT_FACTOR) * _rms(found[key].double() - exact)
            self.budgets[key] = max(allowed, FLOORS[dtype] * _rms(exact))

    def check(self, name: str, trial: OpTrial) -> None:
        """Run a trial once and hold the error of everything it gives against its budget.

        Raises:
            RedError: when one is larger.
        """
        found = trial.values()
        for key, exact in self.truth.items():
            error = _rms(found[key].double() - exact)
            if not error <= self.budgets[key]:
                what = key if key == OUTPUT else f"gradient of {key}"
                raise RedError(
                    f"{name} is not exact enough: its {what} is off by {error:.1e}, not {self.budgets[key]:.1e}"
                )


def _rms(value: Tensor) -> float:
    return value.square().mean().sqrt().item()

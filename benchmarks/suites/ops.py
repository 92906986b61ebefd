"""The suite `ops`: every op as a model calls it, beside its reference twin and its other implementations."""

import dataclasses
import itertools
import math
import sys
from collections.abc import Iterator

import torch

from benchmarks import models, report
from benchmarks import options as opt
from benchmarks.base import Base
from benchmarks.gate import RedError, budgets, errors, hold
from benchmarks.measure import SECONDS, Row, measure
from benchmarks.op_calls import IMPLS, OPS, Call, implementation, record_calls
from benchmarks.op_trial import Arguments, OpTrial
from benchmarks.options import DTYPES, Options, Size
from benchmarks.report import OURS
from benchmarks.suite import Suite, register
from benchmarks.traffic import Traffic

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
    compilations = (False, True) if options.compile else (False,)
    for batch, mode in itertools.product(options.batch, options.modes):
        calls = record_calls(name, batch, options.img_size, mode == "training")
        calls = [call for call in calls if call.op in options.ops]
        for call, dtype, compiled in itertools.product(calls, options.dtype, compilations):
            common = {"op": call.op, "call": str(call), "calls": call.times, "batch": batch, "mode": mode}
            common |= {"compiled": int(compiled), "dtype": dtype, "img_size": Size(*image[1:]), "pairs": options.pairs}
            title = f"{call.op} {call} {dtype} {mode}"
            print(f"{name} {title}", file=sys.stderr)
            how = {"device": options.device, "dtype": DTYPES[dtype], "train": mode == "training", "compiled": compiled}
            try:
                measured = _measure(options, call, base, how)
                red += sum(str(row.get("note")).startswith("RED") for row in measured.values())
                yield [{**common, "contender": key, **row} for key, row in measured.items()]
            except RedError as error:
                print(f"RED: {title}: {error}", file=sys.stderr)
                red += 1
            except torch.OutOfMemoryError:
                yield [{**common, "contender": OURS, "note": "skipped: out of memory"}]
            if compiled:
                torch.compiler.reset()
    if red:
        raise RedError(f"{name}: {red} of the calls above")


def _measure(options: Options, call: Call, base: Base | None, how: Row) -> dict[str, Row]:
    """Check and time the implementations of a call; a row of each, by contender."""
    arguments = call.arguments(options.device)
    gate = OpGate(call.op, arguments, options.device, how["dtype"], how["train"])
    others = IMPLS.get(call.op, {}).get(options.device, ())
    impls = {OURS: "auto", "reference": "reference", **{impl: impl for impl in others}}
    rows: dict[str, Row] = {}
    trials: Trials = {}
    moved: dict[str, float] = {}
    for key in (*impls, *([base.name] if base else ())):
        rows[key] = {}
        try:
            if key in impls:
                trial = OpTrial(implementation(call.op, impls[key]), arguments, **how)
            else:
                trial = base.op(call.op, arguments).trial(**how)
            gate.check(key, trial)
        except (ValueError, RedError) as error:
            if key == OURS:
                raise
            rows[key]["note"] = f"{'RED' if isinstance(error, RedError) else 'skipped'}: {error}"
            continue
        trials[key] = trial
        if key in impls and not how["compiled"]:
            with Traffic() as traffic:
                trial.once()
            moved[key] = traffic.bytes / 1e6
    work = {"flops": call.flops(how["train"]), "needed_bytes": call.needed_bytes(how["dtype"], how["train"])}
    repeats = _repeat(trials, options.device)
    where = {"device": options.device, "pairs": options.pairs, "dtype": how["dtype"]}
    for key, row in measure(trials, **where, **work, repeats=repeats).items():
        rows[key] = {**row, "mb_moved": moved.get(key)}
    return rows


def _repeat(trials: Trials, device: str) -> int:
    """Let every step make as many calls as ours needs to take long enough for a clock; how many."""
    ours = trials[OURS]
    ours.step()
    seconds = min(SECONDS[device](ours.step) for _ in range(3))
    repeats = max(1, min(1000, math.ceil(LEAST_SECONDS[device] / seconds)))
    for trial in trials.values():
        trial.repeat(repeats)
    return repeats


class OpGate:
    """Checks implementations of one call by an error budget, output and every gradient; see `benchmarks.gate`.

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
        self.limits = budgets(errors(found, self.truth), dtype)

    def check(self, name: str, trial: OpTrial) -> None:
        """Run a trial once; RedError where the error of anything it gives is above its limit."""
        hold(name, errors(trial.values(), self.truth), self.limits, "is not exact enough")


register(
    Suite(
        name="ops",
        summary="each op as a model calls it",
        run=run_ops,
        check=models.check,
        options=(
            *(opt.MODELS, opt.DEVICE, opt.several("ops", "which", OPS)),
            dataclasses.replace(opt.BATCH, default={"cpu": (8,), "cuda": (256,)}),
            *(opt.STEPS, opt.IMG_SIZE, opt.DTYPE, opt.COMPILE, opt.PAIRS, opt.BASE),
        ),
        columns=(
            *("model", "op", "call", "calls", "mode", *report.WHAT, *report.TIMES, *report.RATES),
            *("mb_needed", "mb_moved", "gb_per_s", "copy_share", *report.END),
        ),
    )
)

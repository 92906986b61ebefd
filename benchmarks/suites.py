"""The suites: what can be timed. Each is a function from the options and a target to rows of measurements."""

import functools
import gc
import sys
from collections.abc import Callable, Iterator

import torch

from benchmarks import models
from benchmarks.gate import Gate, RedError
from benchmarks.measure import GemmProbe, Quartiles, paired, peak_cuda_memory_mb, quartiles, time_in_turn
from benchmarks.models import OURS
from benchmarks.options import DTYPES, WARMUPS, Options
from benchmarks.report import Row
from benchmarks.trial import Trial

GEMM = "gemm"


def run_model(options: Options, name: str, *, train: bool) -> Iterator[list[Row]]:
    """Time a model and its peers, one configuration after the other.

    Args:
        options: of the run.
        name: of the model.
        train: whether a step is forward and backward, or forward in inference mode.

    Yields:
        The rows of a configuration, ours first.

    Raises:
        RedError: when a contender computes something else than it should; nothing was timed in that configuration.
    """
    built_with, image = models.model_options(name, options.img_size)
    flops = models.count_flops(name, built_with, image, train)
    contenders = models.build(name, built_with, tuple({**dict.fromkeys(options.peers), "reference": None}), train)
    timed = [OURS, *models.peers_of(name, options.peers, train)]
    images = torch.randn(max(*options.batches, 2), *image)
    gradient = torch.randn(len(images), contenders[OURS].model.num_classes)
    gate = Gate(contenders, images[:2], gradient[:2], device=options.device, train=train)
    for dtype in options.dtypes:
        try:
            budgets = gate.budgets(DTYPES[dtype])
        except RedError as red:
            raise RedError(f"{name}: {red}") from None
        for compiled in (False, True) if options.compile else (False,):
            for batch in options.batches:
                common = {"model": name, "compiled": int(compiled), "dtype": dtype, "batch": batch}
                common |= {"img_size": image[-1], "pairs": options.pairs}
                title = f"{name} {dtype} {'compiled' if compiled else 'eager'} batch {batch}"
                print(f"{title}: checking, then {options.pairs} pairs of {', '.join(timed)}", file=sys.stderr)
                trials: dict[str, Trial] = {}
                for key in timed:
                    trial = Trial(
                        contenders[key], device=options.device, dtype=DTYPES[dtype], train=train, compiled=compiled
                    )
                    try:
                        gate.check(key, trial, budgets, batch)
                        trial.feed(images[:batch], gradient[:batch])
                        trials[key] = trial
                    except RedError as red:
                        raise RedError(f"{title}: {red}") from None
                    except torch.OutOfMemoryError:
                        del trial
                    _free(options.device)
                measured = _time(options, trials, DTYPES[dtype], flops * batch) if OURS in trials else {}
                yield [
                    {**common, "contender": key, **measured.get(key, {"note": "skipped: out of memory"})}
                    for key in timed
                ]
                del trials
                if compiled:
                    torch.compiler.reset()
                _free(options.device)


def _time(options: Options, trials: dict[str, Trial], dtype: torch.dtype, flops: int) -> dict[str, Row]:
    """Time trials in turn with a GEMM probe; what was measured of each, or nothing if the GPU's memory is too small."""
    probe = GemmProbe(options.device, dtype)
    try:
        times = time_in_turn({**trials, GEMM: probe}, options.device, WARMUPS[options.device], options.pairs)
        peaks = {
            key: peak_cuda_memory_mb(trial, trial.own_bytes()) if options.device == "cuda" else None
            for key, trial in trials.items()
        }
    except torch.OutOfMemoryError:
        return {}
    rows = {}
    for key, trial in trials.items():
        seconds = quartiles(times[key])
        rows[key] = {
            "images_per_s": len(trial.images) / seconds.median,
            **_columns("ms", Quartiles(*(1e3 * value for value in seconds))),
            **({} if key == OURS else _columns("ratio", paired(times[key], times[OURS]))),
            "tflops": flops / seconds.median / 1e12,
            "gemm_share": flops / probe.flops * paired(times[GEMM], times[key]).median,
            "peak_mem_mb": peaks[key],
        }
    return rows


def _columns(name: str, values: Quartiles) -> Row:
    return {f"{name}_median": values.median, f"{name}_q1": values.q1, f"{name}_q3": values.q3}


def _free(device: str) -> None:
    """Give unused GPU memory back, so that each configuration starts alike."""
    if device == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


SUITES: dict[str, Callable[[Options, str], Iterator[list[Row]]]] = {
    "infer": functools.partial(run_model, train=False),
    "train": functools.partial(run_model, train=True),
}

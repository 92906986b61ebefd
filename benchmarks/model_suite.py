"""The suites of whole models: `infer` and `train`, and `size`, which does the same at several image sizes."""

import gc
import sys
from collections.abc import Iterator

import torch

from benchmarks import memory, models
from benchmarks.base import Base
from benchmarks.gate import Gate, RedError
from benchmarks.measure import GemmProbe, paired, quartiles, time_in_turn
from benchmarks.models import OURS
from benchmarks.options import DTYPES, WARMUPS, Options, size_text
from benchmarks.report import Row, columns
from benchmarks.trial import Trial

GEMM = "gemm"


def run_infer(options: Options, name: str, base: Base | None) -> Iterator[list[Row]]:
    """Time a forward pass; see `run_model`."""
    return run_model(options, name, base, train=False, size=options.img_size)


def run_train(options: Options, name: str, base: Base | None) -> Iterator[list[Row]]:
    """Time a forward and a backward pass; see `run_model`."""
    return run_model(options, name, base, train=True, size=options.img_size)


def run_sizes(options: Options, name: str, base: Base | None) -> Iterator[list[Row]]:
    """Time a model at every image size it can take and measure the memory of a step; see `run_model`."""
    for size in options.sizes:
        common = {"model": name, "contender": OURS, "img_size": size_text(size)}
        try:
            models.model_options(name, size)
        except ValueError as error:
            yield [{**common, "note": f"skipped: {error}"}]
            continue
        for mode in options.modes:
            for rows in run_model(options, name, base, train=mode == "training", size=size):
                for row in rows:
                    row["mode"] = mode
                    if options.device == "cpu" and "note" not in row and not row["compiled"]:
                        row["peak_mem_mb"] = memory.peak_mb(options, row)
                yield rows


def run_model(
    options: Options, name: str, base: Base | None, *, train: bool, size: models.Size | None
) -> Iterator[list[Row]]:
    """Time a model and its peers, one configuration after the other.

    Args:
        options: of the run.
        name: of the model.
        base: another commit to compare with.
        train: whether a step is forward and backward, or forward in inference mode.
        size: of the images; the model's own if None.

    Yields:
        The rows of a configuration, ours first.

    Raises:
        RedError: when a contender computes something else than it should; nothing was timed in that configuration.
    """
    built_with, image = models.model_options(name, size)
    flops = models.count_flops(name, built_with, image, train)
    contenders = models.build(name, built_with, tuple({**dict.fromkeys(options.peers), "reference": None}), train)
    timed = [OURS, *models.peers_of(name, options.peers, train)]
    if base:
        contenders[base.name] = base.model(name, contenders[OURS].model, built_with)
        timed.append(base.name)
    images = torch.randn(max(*options.batches, 2), *image)
    gradient = torch.randn(len(images), contenders[OURS].model.num_classes)
    few = 2 if any(batch % 2 == 0 for batch in options.batches) else 1
    gate = Gate(contenders, images[:few], gradient[:few], device=options.device, train=train)
    for dtype in options.dtypes:
        try:
            budgets = gate.budgets(DTYPES[dtype])
        except RedError as red:
            raise RedError(f"{name}: {red}") from None
        for compiled in (False, True) if options.compile else (False,):
            for batch in options.batches:
                common = {"model": name, "compiled": int(compiled), "dtype": dtype, "batch": batch}
                common |= {"img_size": size_text(image[1:]), "pairs": options.pairs}
                title = f"{name} {dtype} {'compiled' if compiled else 'eager'} batch {batch}"
                title += f" size {size_text(image[1:])}" if size else ""
                print(f"{title}: checking, then {options.pairs} pairs of {', '.join(timed)}", file=sys.stderr)
                trials: dict[str, Trial] = {}
                for key in timed:
                    try:
                        trial = contenders[key].trial(
                            device=options.device, dtype=DTYPES[dtype], train=train, compiled=compiled
                        )
                        gate.check(key, trial, budgets, batch)
                        trial.feed(images[:batch], gradient[:batch])
                        trials[key] = trial
                    except RedError as red:
                        raise RedError(f"{title}: {red}") from None
                    except torch.OutOfMemoryError:
                        pass
                    trial = None
                    _free(options.device)
                measured = _time(options, trials, DTYPES[dtype], batch, flops * batch) if OURS in trials else {}
                yield [
                    {**common, "contender": key, **measured.get(key, {"note": "skipped: out of memory"})}
                    for key in timed
                ]
                del trials
                if compiled:
                    torch.compiler.reset()
                _free(options.device)


def _time(options: Options, trials: dict[str, Trial], dtype: torch.dtype, batch: int, flops: int) -> dict[str, Row]:
    """Time trials in turn with a GEMM probe; what was measured of each, or nothing if the GPU's memory is too small."""
    probe = GemmProbe(options.device, dtype)
    try:
        times = time_in_turn({**trials, GEMM: probe}, options.device, WARMUPS[options.device], options.pairs)
        peaks = {key: trial.peak_cuda_mb() if options.device == "cuda" else None for key, trial in trials.items()}
    except torch.OutOfMemoryError:
        return {}
    rows = {}
    for key in trials:
        seconds = quartiles(times[key])
        rows[key] = {
            "images_per_s": batch / seconds.median,
            **columns("ms", quartiles([1e3 * value for value in times[key]])),
            **({} if key == OURS else columns("ratio", paired(times[key], times[OURS]))),
            "tflops": flops / seconds.median / 1e12,
            "gemm_share": flops / probe.flops * paired(times[GEMM], times[key]).median,
            "peak_mem_mb": peaks[key],
        }
    return rows


def _free(device: str) -> None:
    """Give unused GPU memory back, so that each configuration starts alike."""
    if device == "cuda":
        gc.collect()
        torch.cuda.empty_cache()

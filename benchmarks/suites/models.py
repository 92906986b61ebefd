"""The suites of whole models: `infer`, `train`, `size` (the same at several image sizes) and `memory`."""

import dataclasses
import functools
import gc
import itertools
import statistics
import sys
from collections.abc import Iterator

import torch

from benchmarks import memory, models, report
from benchmarks import options as opt
from benchmarks.base import Base
from benchmarks.gate import Gate, RedError
from benchmarks.measure import Row, measure
from benchmarks.options import DTYPES, Options, Size
from benchmarks.report import OURS
from benchmarks.suite import Suite, register
from benchmarks.trial import Trial

PEERS = opt.several("peers", "who is timed beside ours, where a model has them", models.PEERS)


def run_sizes(options: Options, name: str, base: Base | None) -> Iterator[list[Row]]:
    """Time a model at every image size it can take and measure the memory of a step; see `run_model`."""
    for size in options.sizes:
        try:
            models.model_options(name, size)
        except ValueError as error:
            yield [{"contender": OURS, "img_size": size, "note": f"skipped: {error}"}]
            continue
        for mode in options.modes:
            for rows in run_model(options, name, base, train=mode == "training", size=size):
                for row in rows:
                    row["mode"] = mode
                    countable = options.device == "cpu" and row["contender"] in (OURS, *models.PEERS)
                    if countable and sys.platform == "linux" and "note" not in row and not row["compiled"]:
                        found = step_memory(options, name, row["contender"], size, row["batch"], row["dtype"], mode)
                        row["peak_mem_mb"] = found["held_mb"] + found["added_mb"]
                yield rows


def run_model(
    options: Options, name: str, base: Base | None, *, train: bool, size: Size | None = None
) -> Iterator[list[Row]]:
    """Time a model and its peers, one configuration after the other.

    Args:
        options: of the run.
        name: of the model.
        base: another commit to compare with.
        train: whether a step is forward and backward, or forward in inference mode.
        size: of the images; `options.img_size` or the model's own if None.

    Yields:
        The rows of a configuration, ours first.

    Raises:
        RedError: when a contender computes something else than it should; nothing was timed in that configuration.
    """
    built_with, image = models.model_options(name, size or options.value("img_size"))
    flops = models.count_flops(name, built_with, image, train)
    contenders = models.build(name, built_with, tuple({**dict.fromkeys(options.peers), "reference": None}), train)
    timed = [OURS, *models.peers_of(name, options.peers, train)]
    if base:
        contenders[base.name] = base.model(name, contenders[OURS].model, built_with)
        timed.append(base.name)
    images = torch.randn(max(*options.batch, 2), *image)
    gradient = torch.randn(len(images), contenders[OURS].model.num_classes)
    few = 2 if any(batch % 2 == 0 for batch in options.batch) else 1
    gate = Gate(contenders, images[:few], gradient[:few], device=options.device, train=train)
    for dtype in options.dtype:
        try:
            limits = gate.budgets(DTYPES[dtype])
        except RedError as red:
            raise RedError(f"{name}: {red}") from None
        how = {"device": options.device, "dtype": DTYPES[dtype], "train": train}
        for compiled, batch in itertools.product((False, True) if options.compile else (False,), options.batch):
            common = {"compiled": int(compiled), "dtype": dtype, "batch": batch}
            common |= {"img_size": Size(*image[1:]), "pairs": options.pairs}
            title = f"{name} {dtype} {'compiled' if compiled else 'eager'} batch {batch}"
            title += f" size {common['img_size']}"
            print(f"{title}: checking, then {options.pairs} pairs of {', '.join(timed)}", file=sys.stderr)
            trials: dict[str, Trial] = {}
            for key in timed:
                try:
                    trial = contenders[key].trial(**how, compiled=compiled)
                    gate.check(key, trial, limits, batch)
                    trial.feed(images[:batch], gradient[:batch])
                    trials[key] = trial
                except RedError as red:
                    raise RedError(f"{title}: {red}") from None
                except torch.OutOfMemoryError:
                    pass
                trial = None
                _free(options.device)
            measured = _time(options, trials, DTYPES[dtype], batch, flops * batch) if OURS in trials else {}
            skipped = {"note": "skipped: out of memory"}
            yield [{**common, "contender": key, **measured.get(key, skipped)} for key in timed]
            del trials
            if compiled:
                torch.compiler.reset()
            _free(options.device)


def _time(options: Options, trials: dict[str, Trial], dtype: torch.dtype, batch: int, flops: int) -> dict[str, Row]:
    """Time trials in turn with a GEMM probe; what was measured of each, or nothing if the GPU's memory is too small."""
    try:
        rows = measure(trials, device=options.device, pairs=options.pairs, dtype=dtype, flops=flops)
        for key, row in rows.items():
            row["images_per_s"] = 1e3 * batch / row["ms_median"]
            row["peak_mem_mb"] = trials[key].peak_cuda_mb() if options.device == "cuda" else None
    except torch.OutOfMemoryError:
        return {}
    return rows


def _free(device: str) -> None:
    """Give unused GPU memory back, so that each configuration starts alike."""
    if device == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


def run_memory(options: Options, name: str, base: Base | None) -> Iterator[list[Row]]:
    """Measure what the steps of a model add in memory; yields the rows of ours and of the reference."""
    for mode, dtype, batch in itertools.product(options.modes, options.dtype, options.batch):
        found: dict[str, list[float]] = {OURS: [], "reference": []}
        for _ in range(options.repeats):
            for contender, values in found.items():
                step = step_memory(options, name, contender, options.img_size, batch, dtype, mode)
                values.append(step["added_mb"])
        common = {"mode": mode, "compiled": 0, "dtype": dtype, "batch": batch, "img_size": options.img_size}
        common["repeats"] = options.repeats
        added = {contender: statistics.median(values) for contender, values in found.items()}
        rows = [{**common, "contender": key, "added_mb": value} for key, value in added.items()]
        rows[1]["added_ratio"] = added["reference"] / added[OURS]
        yield rows


def step_memory(options: Options, name: str, contender: str, size: int | Size | None, *how: object) -> Row:
    """Memory of a step on a CPU: what it adds (`added_mb`), and what weights and images take (`held_mb`)."""
    return memory.in_process(memory_case, name, contender, size, *how, threads=options.threads)


def memory_case(
    name: str, contender: str, size: int | list[int] | None, batch: int, dtype: str, mode: str
) -> memory.Step:
    """A step of a contender to measure; see `memory.in_process`. A first one, on one image, comes before it."""
    train = mode == "training"
    built_with, image = models.model_options(name, Size(*size) if isinstance(size, list) else size)
    built = models.build(name, built_with, () if contender == OURS else (contender,), train)[contender]
    trial = built.trial(device="cpu", dtype=DTYPES[dtype], train=train)
    images, gradient = torch.randn(batch, *image), torch.randn(batch, built.model.num_classes)
    trial.feed(images[:1], gradient[:1])
    trial.values()
    trial.feed(images, gradient)

    def step() -> Row:
        trial.step()
        return {"held_mb": trial.own_bytes() / 1e6}

    return step


_BATCH = dataclasses.replace(opt.BATCH, default={"cpu": (1, 8), "cuda": (1, 64, 256, 1024)})
_HOW = (opt.DTYPE, opt.COMPILE, opt.PAIRS, opt.BASE)
_COLUMNS = (*report.WHAT, "images_per_s", *report.TIMES, *report.RATES, "peak_mem_mb", *report.END)

INFER = register(
    Suite(
        name="infer",
        summary="forward passes of models",
        run=functools.partial(run_model, train=False),
        check=models.check,
        options=(opt.MODELS, opt.DEVICE, _BATCH, opt.IMG_SIZE, PEERS, *_HOW),
        columns=("model", *_COLUMNS),
    )
)
register(
    dataclasses.replace(
        INFER,
        name="train",
        summary="forward and backward passes of models",
        run=functools.partial(run_model, train=True),
    )
)
register(
    Suite(
        name="size",
        summary="time and memory of models against image size",
        run=run_sizes,
        check=models.check,
        options=(
            *(opt.MODELS, opt.DEVICE),
            dataclasses.replace(opt.BATCH, default={"cpu": (1,), "cuda": (16,)}),
            dataclasses.replace(opt.SIZES, default=tuple(Size(side, side) for side in (224, 320, 448, 640))),
            dataclasses.replace(opt.STEPS, default=("forward",)),
            dataclasses.replace(PEERS, default=("timm-nchw", "reference")),
            *_HOW,
        ),
        columns=("model", "mode", *_COLUMNS),
    )
)
register(
    Suite(
        name="memory",
        summary="peak memory of a model's step on a CPU, ours and the reference",
        run=run_memory,
        check=models.check,
        linux=True,
        options=(
            *(opt.MODELS, opt.CPU_ONLY, dataclasses.replace(opt.BATCH, default=(8,)), opt.IMG_SIZE),
            dataclasses.replace(opt.STEPS, default=("training",)),
            *(opt.DTYPE, dataclasses.replace(opt.REPEATS, default=3)),
        ),
        columns=("model", "mode", *report.WHAT, "added_mb", "added_ratio", "repeats"),
    )
)

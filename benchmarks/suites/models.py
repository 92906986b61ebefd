"""The suites of whole models: `infer` and `train`, and `size`, which does the same at several image sizes."""

import dataclasses
import gc
import sys
from collections.abc import Iterator

import torch

from benchmarks import memory, models, options, report
from benchmarks.base import Base
from benchmarks.gate import Gate, RedError
from benchmarks.measure import Row, measure
from benchmarks.options import DTYPES, Option, Options, one_of, size_text
from benchmarks.report import OURS
from benchmarks.suite import Suite, register
from benchmarks.trial import Trial

PEERS = Option(
    name="peers",
    help=f"who is timed beside ours, of {', '.join(models.PEERS)}, where a model has them",
    default=tuple(models.PEERS),
    many=True,
    parse=one_of("peer", models.PEERS),
)


def check(options: Options, base: Base | None) -> None:
    """Make sure that every model can be built at the size, here and in the other commit.

    Raises:
        ValueError: when one cannot.
    """
    for name in options.models:
        built_with, _ = models.model_options(name, options.value("img_size"))
        if base:
            base.ask("check", name, built_with)


def run_infer(options: Options, name: str, base: Base | None) -> Iterator[list[Row]]:
    """Time a forward pass; see `run_model`."""
    return run_model(options, name, base, train=False, size=options.img_size)


def run_train(options: Options, name: str, base: Base | None) -> Iterator[list[Row]]:
    """Time a forward and a backward pass; see `run_model`."""
    return run_model(options, name, base, train=True, size=options.img_size)


def run_sizes(options: Options, name: str, base: Base | None) -> Iterator[list[Row]]:
    """Time a model at every image size it can take and measure the memory of a step; see `run_model`."""
    for size in options.sizes:
        try:
            models.model_options(name, size)
        except ValueError as error:
            yield [{"contender": OURS, "img_size": size_text(size), "note": f"skipped: {error}"}]
            continue
        for mode in options.modes:
            for rows in run_model(options, name, base, train=mode == "training", size=size):
                for row in rows:
                    row["mode"] = mode
                    countable = options.device == "cpu" and row["contender"] in (OURS, *models.PEERS)
                    if countable and sys.platform == "linux" and "note" not in row and not row["compiled"]:
                        found = step_memory(name, row["contender"], size, row["batch"], row["dtype"], mode, options)
                        row["peak_mem_mb"] = found["held_mb"] + found["added_mb"]
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
        for compiled in (False, True) if options.compile else (False,):
            for batch in options.batch:
                common = {"compiled": int(compiled), "dtype": dtype, "batch": batch}
                common |= {"img_size": size_text(image[1:]), "pairs": options.pairs}
                title = f"{name} {dtype} {'compiled' if compiled else 'eager'} batch {batch}"
                title += f" size {size_text(image[1:])}" if size else ""
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


def step_memory(
    name: str, contender: str, size: models.Size | None, batch: int, dtype: str, mode: str, options: Options
) -> Row:
    """Memory of a step on a CPU: what it adds (`added_mb`), and what weights and images take (`held_mb`)."""
    arguments = {"name": name, "contender": contender, "size": size, "batch": batch, "dtype": dtype, "mode": mode}
    return memory.in_process(memory_case, threads=options.threads, **arguments)


def memory_case(
    name: str, contender: str, size: models.Size | None, batch: int, dtype: str, mode: str
) -> memory.Step:
    """A step of a contender to measure; see `memory.in_process`. A first one, on one image, comes before it."""
    size = tuple(size) if isinstance(size, list) else size
    train = mode == "training"
    built_with, image = models.model_options(name, size)
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


def _free(device: str) -> None:
    """Give unused GPU memory back, so that each configuration starts alike."""
    if device == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


_BATCH = dataclasses.replace(options.BATCH, default={"cpu": (1, 8), "cuda": (1, 64, 256, 1024)})
_HOW = (options.DTYPE, options.COMPILE, options.PAIRS, options.BASE)
_COLUMNS = (*report.WHAT, "images_per_s", *report.TIMES, *report.RATES, "peak_mem_mb", *report.END)
_CONFIGURATION = ("dtype", "compiled", "batch", "contender")

for _name, _summary, _run in (
    ("infer", "forward passes of models", run_infer),
    ("train", "forward and backward passes of models", run_train),
):
    register(
        Suite(
            name=_name,
            summary=_summary,
            run=_run,
            check=check,
            options=(options.MODELS, options.DEVICE, _BATCH, options.IMG_SIZE, PEERS, *_HOW),
            columns=("model", *_COLUMNS),
            about=("model", *_CONFIGURATION),
            found=report.PAIRED,
            found_on_cuda=("images_per_s", "ms_median", "tflops", "peak_mem_mb"),
        )
    )

register(
    Suite(
        name="size",
        summary="time and memory of models against image size",
        run=run_sizes,
        check=check,
        options=(
            *(options.MODELS, options.DEVICE),
            dataclasses.replace(options.BATCH, default={"cpu": (1,), "cuda": (16,)}),
            dataclasses.replace(options.SIZES, default=((224, 224), (320, 320), (448, 448), (640, 640))),
            dataclasses.replace(options.STEPS, default=("forward",)),
            dataclasses.replace(PEERS, default=("timm-nchw", "reference")),
            *_HOW,
        ),
        columns=("model", "mode", *_COLUMNS),
        about=("model", "img_size", "mode", *_CONFIGURATION),
        found=(*report.PAIRED, "peak_mem_mb"),
        found_on_cuda=("images_per_s", "ms_median", "tflops"),
    )
)

"""The suites: what can be timed. Each is a function from the options, a model's name and a base to rows."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping

from benchmarks import model_suite, models, op_calls, op_suite
from benchmarks.base import Base
from benchmarks.options import MODES, Options
from benchmarks.report import Row


@dataclasses.dataclass(frozen=True, kw_only=True)
class Suite:
    """A kind of measurement.

    Attributes:
        run: measures one model; yields the rows of a configuration.
        summary: what is timed.
        batches: images in a batch by default, by device.
        takes: those of the options that not every suite takes, and their defaults.
    """

    run: Callable[[Options, str, Base | None], Iterator[list[Row]]]
    summary: str
    batches: Mapping[str, tuple[int, ...]]
    takes: Mapping[str, object]


_MODELS = {"cpu": (1, 8), "cuda": (1, 64, 256, 1024)}
_PEERS = tuple(models.PEERS)

SUITES: dict[str, Suite] = {
    "infer": Suite(
        run=model_suite.run_infer,
        summary="forward passes",
        batches=_MODELS,
        takes={"img_size": None, "peers": _PEERS},
    ),
    "train": Suite(
        run=model_suite.run_train,
        summary="forward and backward passes",
        batches=_MODELS,
        takes={"img_size": None, "peers": _PEERS},
    ),
    "ops": Suite(
        run=op_suite.run_ops,
        summary="each op as the model calls it",
        batches={"cpu": (8,), "cuda": (256,)},
        takes={"img_size": None, "modes": MODES, "ops": tuple(op_calls.OPS)},
    ),
    "size": Suite(
        run=model_suite.run_sizes,
        summary="time and memory against image size",
        batches={"cpu": (1,), "cuda": (16,)},
        takes={
            "sizes": ((224, 224), (320, 320), (448, 448), (640, 640)),
            "modes": ("forward",),
            "peers": ("timm-nchw", "reference"),
        },
    ),
}

"""The suite `detection`: a network in torchvision's RetinaNet on a CPU, time and memory.

Ours stands against the plain implementation of every op (for Cycle FC the authors' `deform_conv2d`). `detector` is all
of it; `body` is the network alone on the same image, since most of a RetinaNet's work is in heads that both share.
"""

import dataclasses
import itertools
import statistics
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from benchmarks import memory
from benchmarks import options as opt
from benchmarks.base import Base
from benchmarks.gate import hold_same
from benchmarks.measure import Row, measure
from benchmarks.options import Options, Size
from benchmarks.report import END, OURS, TIMES, WHAT
from benchmarks.suite import Suite, register
from benchmarks.trial import Contender, Trial, Values

IMPLS = {OURS: "auto", "reference": "reference"}
PARTS = ("detector", "body")
CLASSES = 91
SMALL = Size(160, 224)
"""Images of checks and of first steps."""


class Part(nn.Module):
    """A detector, or its network alone, with one number as its output: what a `Trial` can run.

    Args:
        detector: with the network as its `backbone.body`.
        part: of `PARTS`.

    Shape:
        `(1, channels, height, width)` in [0, 1] to `(1,)`: the sum of the detector's losses for three boxes, or of the
        network's maps. In eval mode the detector's output is what it finds.
    """

    def __init__(self, detector: nn.Module, part: str) -> None:
        super().__init__()
        self.part = part
        self.module = detector if part == "detector" else detector.get_submodule("backbone.body")

    def forward(self, images: Tensor) -> object:
        if self.part == "body":
            return torch.stack([y.sum() for y in self.module(images)]).sum(0, keepdim=True)
        if not self.training:
            return self.module(list(images))
        height, width = images.shape[2:]
        corners = images.new_tensor([[0.1, 0.1, 0.3, 0.5], [0.4, 0.2, 0.9, 0.8], [0.05, 0.6, 0.2, 0.95]])
        boxes = corners * images.new_tensor([width, height, width, height])
        losses = self.module(list(images), [{"boxes": boxes, "labels": torch.tensor([1, 2, 3])}])
        return torch.stack(list(losses.values())).sum(0, keepdim=True)


def create(model: str, impl: str, size: Size, **options: object) -> nn.Module:
    """A RetinaNet that takes images of this size as they are."""
    from mlpzoo.tasks import build_detector

    sides = {"min_size": min(size), "max_size": max(size)}
    return build_detector("retinanet", model, CLASSES, backbone_options={"impl": impl, **options}, **sides)


def ready(detector: nn.Module, part: str, mode: str, size: Size, dtype: torch.dtype = torch.float32) -> Trial:
    """A part ready to run on an image."""
    trial = Contender(model=Part(detector, part)).trial(device="cpu", dtype=dtype, train=mode == "training")
    trial.feed(torch.rand(1, 3, *size), torch.ones(1))
    return trial


def check_contenders(model: str) -> None:
    """Compare loss and gradients in float64 on a small image; RedError when they are not the same."""
    truth: Values = {}
    state = create(model, IMPLS[OURS], SMALL).state_dict()
    for contender, impl in IMPLS.items():
        torch.manual_seed(0)
        detector = create(model, impl, SMALL)
        detector.load_state_dict(state)
        torch.manual_seed(1)
        found = ready(detector, "detector", "training", SMALL, torch.float64).values()
        truth = truth or found
        hold_same(f"{model}: {contender}", found, truth)


def memory_case(model: str, impl: str, part: str, mode: str, size: Size) -> memory.Step:
    """A step to measure; see `benchmarks.memory.in_process`."""
    # The first step, on a small image, has a detector of its own: this one would enlarge the image.
    ready(create(model, impl, SMALL), part, mode, SMALL).step()
    trial = ready(create(model, impl, size), part, mode, size)
    return lambda: [trial.step()]


def check(options: Options, base: Base | None) -> None:
    """Raise ValueError for images that are too small."""
    for size in options.sizes:
        if size.height < SMALL.height or size.width < SMALL.width:
            raise ValueError(f"--sizes: {size} is below {SMALL}, the smallest that is measured")


def run_detection(options: Options, name: str, base: Base | None) -> Iterator[list[Row]]:
    """Check and time a network; yields the rows of ours and of the reference for each size, part and mode."""
    check_contenders(name)
    for size, part, mode in itertools.product(options.sizes, options.parts, options.modes):
        trials = {key: ready(create(name, impl, size), part, mode, size) for key, impl in IMPLS.items()}
        rows = measure(trials, device="cpu", pairs=options.pairs, warmups=1)
        for key, impl in IMPLS.items():
            case = (memory_case, name, impl, part, mode, size)
            found = [memory.in_process(*case, threads=options.threads)["added_mb"] for _ in range(options.repeats)]
            rows[key]["added_mb"] = statistics.median(found)
        about = {"part": part, "mode": mode, "dtype": "fp32", "compiled": 0, "batch": 1}
        about |= {"img_size": size, "pairs": options.pairs}
        yield [{**about, "contender": key, **row} for key, row in rows.items()]


register(
    Suite(
        name="detection",
        summary="a RetinaNet on a model, time and memory",
        run=run_detection,
        check=check,
        linux=True,
        options=(
            *(opt.MODELS, opt.CPU_ONLY, dataclasses.replace(opt.SIZES, default=(Size(800, 1333),))),
            *(opt.several("parts", "of the detector", PARTS), opt.STEPS),
            *(dataclasses.replace(opt.PAIRS, default=5), opt.REPEATS),
        ),
        columns=("model", "part", "mode", *WHAT, *TIMES, "added_mb", *END),
    )
)

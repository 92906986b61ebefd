"""A network in a detector at full size on a CPU: `python -m benchmarks.detection --help`.

torchvision's RetinaNet on a network of the zoo, ours against the plain implementation of every op (for CycleMLP the
authors' `deform_conv2d`): time of an inference and of a training step, in turn and in pairs, and the memory that each
adds, in processes of their own. `detector` is all of it; `body` is the network alone, on the same image, since most of
a RetinaNet's work is in heads that are the same for both. Linux only.
"""

import argparse
import csv
import json
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

import mlpzoo
from benchmarks import environment
from benchmarks.measure import paired, quartiles, time_in_turn
from mlpzoo.dense import DenseBackbone
from mlpzoo.tasks import build_detector

RESULTS = environment.ROOT / "benchmarks" / "results" / "detection-cpu.csv"
CONTENDERS = ("auto", "reference")
PARTS = ("detector", "body")
MODES = ("infer", "train")
ABOUT = ("device", "threads", "torch", "mlpzoo", "python", "commit")
COLUMNS = ("date", *ABOUT, "torchvision", "command", "model", "part", "mode", "contender", "height", "width")
COLUMNS += ("s_median", "s_q1", "s_q3", "ratio_median", "ratio_q1", "ratio_q3", "added_mb", "pairs", "load")
CLASSES = 91


class Trial:
    """One contender in one part and mode; a `benchmarks.measure.Runner`.

    Args:
        detector: what to run; `body` runs its network alone.
        part: of `PARTS`.
        mode: of `MODES`. A training step is a forward and a backward pass; of the body, from fixed gradients.
        image: `(channels, height, width)`, in [0, 1].
    """

    def __init__(self, detector: nn.Module, part: str, mode: str, image: Tensor) -> None:
        self.detector, self.train = detector, mode == "train"
        backbone = detector.get_submodule("backbone")
        body = backbone.get_submodule("body")
        assert isinstance(body, DenseBackbone)
        height, width = image.shape[1:]
        corners = torch.tensor([[0.1, 0.1, 0.3, 0.5], [0.4, 0.2, 0.9, 0.8], [0.05, 0.6, 0.2, 0.95]], dtype=image.dtype)
        boxes = corners * torch.tensor([width, height, width, height], dtype=image.dtype)
        self.targets = [{"boxes": boxes, "labels": torch.tensor([1, 2, 3])}]
        self.module = detector if part == "detector" else body
        self.images: object = [image] if part == "detector" else image[None]
        self.part = part

    def prepare(self) -> None:
        """A step is so long that what it finds in the caches does not matter."""

    def step(self) -> object:
        """The work on the clock: what the detector finds, its losses, or the maps."""
        self.module.train(self.train)
        if not self.train:
            with torch.inference_mode():
                return self.module(self.images)
        if self.part == "body":
            maps = self.module(self.images)
            torch.autograd.backward(maps, [torch.ones_like(y) for y in maps])
            return maps
        losses = self.module(self.images, self.targets)
        torch.stack(list(losses.values())).sum().backward()
        return losses

    def reset(self) -> None:
        """Drop the gradients."""
        self.module.zero_grad(set_to_none=True)


def create(model: str, impl: str, height: int, width: int, **options: object) -> nn.Module:
    """A RetinaNet that takes images of this size as they are."""
    sides = {"min_size": min(height, width), "max_size": max(height, width)}
    return build_detector("retinanet", model, CLASSES, backbone_options={"impl": impl, **options}, **sides)


def check(model: str, **options: object) -> None:
    """Compare the contenders in float64 on a small image.

    Raises:
        ValueError: when they do not compute the same losses and gradients, to 1e-9 of each one's largest.
    """
    found: list[dict[str, Tensor]] = []
    image = torch.rand(3, 160, 224, dtype=torch.float64)
    state: dict[str, Tensor] = {}
    for impl in CONTENDERS:
        detector = create(model, impl, 160, 224, **options).double()
        state = state or detector.state_dict()
        detector.load_state_dict(state)
        losses = Trial(detector, "detector", "train", image).step()
        assert isinstance(losses, dict)
        gradients = {name: p.grad for name, p in detector.named_parameters() if p.grad is not None}
        found.append({**losses, **gradients})
    ours, reference = found
    if ours.keys() != reference.keys():
        raise ValueError(f"gradients of one alone: {', '.join(sorted(ours.keys() ^ reference.keys()))}")
    for name, value in ours.items():
        error = (value - reference[name]).abs().max() / reference[name].abs().max().clamp_min(1e-12)
        if not error <= 1e-9:
            raise ValueError(f"{name} differs by {float(error):.1e}")


def seconds(model: str, part: str, mode: str, image: Tensor, pairs: int) -> dict[str, list[float]]:
    """Seconds of every round, by contender, after a round off the record."""
    size = (int(image.shape[1]), int(image.shape[2]))
    trials = {impl: Trial(create(model, impl, *size), part, mode, image) for impl in CONTENDERS}
    return time_in_turn(trials, "cpu", 1, pairs)


def added_mb(model: str, impl: str, part: str, mode: str, image: Tensor) -> float:
    """Memory that a step adds at its highest to what this process holds before it, in 10⁶ bytes."""
    # Libraries keep for good what a first step brings. A detector of its own, for this one would enlarge the image.
    Trial(create(model, impl, 160, 224), part, mode, image[:, :160, :224].contiguous()).step()
    trial = Trial(create(model, impl, int(image.shape[1]), int(image.shape[2])), part, mode, image)
    # Writing this to the file starts the count of the peak anew.
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    trial.step()
    return (_status("VmHWM") - before) / 1e6


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) * 1024


def _in_process(flags: Sequence[str]) -> float:
    command = [sys.executable, "-m", "benchmarks.detection", *flags]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=environment.ROOT).stdout)


def rows_of(given: argparse.Namespace, part: str, mode: str, measured: Callable[[str], float]) -> list[dict]:
    """One row a contender, ours first."""
    load = round(os.getloadavg()[0], 1)
    image = torch.rand(3, *given.size)
    times = seconds(given.model, part, mode, image, given.pairs)
    rows = []
    for impl in CONTENDERS:
        row = {"part": part, "mode": mode, "contender": "ours" if impl == "auto" else impl, "load": load}
        row |= {f"s_{key}": f"{value:.4g}" for key, value in quartiles(times[impl])._asdict().items()}
        if impl != "auto":
            ratios = paired(times[impl], times["auto"])
            row |= {f"ratio_{key}": f"{value:.4g}" for key, value in ratios._asdict().items()}
        rows.append(row | {"added_mb": f"{measured(impl):.4g}", "pairs": given.pairs})
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for, print it and append it to the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detection", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", choices=mlpzoo.list_models(), default="cyclemlp_b1", metavar="NAME")
    parser.add_argument("--size", type=int, nargs=2, default=[800, 1333], metavar=("HEIGHT", "WIDTH"), help="in pixels")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--pairs", type=int, default=5, help="rounds on the record (default: 5)")
    parser.add_argument("--repeats", type=int, default=1, help="processes of each memory case (default: 1)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=RESULTS, help="CSV file to append to")
    parser.add_argument("--in-process", choices=CONTENDERS, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if sys.platform != "linux":
        parser.error("this runs on Linux only")
    if given.pairs < 2 or given.repeats < 1 or min(given.size) < 160 or given.size[1] < 224:
        parser.error("--pairs must be 2 or more, --repeats 1 or more, --size 160 224 or more")
    torch.set_num_threads(given.threads)
    if given.in_process:
        image = torch.rand(3, *given.size)
        print(json.dumps(added_mb(given.model, given.in_process, given.parts[0], given.modes[0], image)))
        return 0
    try:
        check(given.model)
    except ValueError as error:
        print(f"RED: {given.model}: ours is not the reference: {error}", file=sys.stderr)
        return 1
    size = [str(side) for side in given.size]
    common = ["--model", given.model, "--size", *size, "--threads", str(given.threads)]
    chosen = ["--parts", *given.parts, "--modes", *given.modes, "--pairs", str(given.pairs)]
    command = ["python", "-m", "benchmarks.detection", *common, *chosen, "--repeats", str(given.repeats)]
    about = environment.describe("cpu")
    shared = {key: about[key] for key in ABOUT} | {"torchvision": torchvision.__version__}
    shared |= {"command": shlex.join(command), "model": given.model, "height": size[0], "width": size[1]}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    for part in given.parts:
        for mode in given.modes:

            def measured(impl: str, part: str = part, mode: str = mode) -> float:
                flags = [*common, "--parts", part, "--modes", mode, "--in-process", impl]
                return statistics.median(_in_process(flags) for _ in range(given.repeats))

            rows = rows_of(given, part, mode, measured)
            ours, reference = rows
            print(
                f"{given.model} {part} {mode} at {'×'.join(size)}: reference / ours {reference['ratio_median']} "
                f"({reference['ratio_q1']}–{reference['ratio_q3']}) in time; adds {ours['added_mb']} MB, reference "
                f"{reference['added_mb']} MB; load {ours['load']}",
                flush=True,
            )
            new = not given.out.exists() or not given.out.stat().st_size
            with given.out.open("a", newline="", encoding="utf-8") as stream:
                writer = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\n")
                if new:
                    writer.writeheader()
                writer.writerows({**shared, **row, "date": environment.now()} for row in rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())

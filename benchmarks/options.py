"""What a run was asked to do, with every default filled in."""

import argparse
import dataclasses
import shlex

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
DEFAULT_DTYPES = {"cpu": ("fp32",), "cuda": ("fp32", "bf16")}
MODES = ("forward", "training")
"""A forward pass in inference mode; a forward and a backward pass."""
ENOUGH_PAIRS = {"cpu": 15, "cuda": 30}
"""Fewer pairs than these are a trial, whose numbers are not kept."""
WARMUPS = {"cpu": 3, "cuda": 10}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of a run. Those that its suite does not take are None.

    Attributes:
        suite: what is timed, a name of `benchmarks.suites.SUITES`.
        models: names of `mlpzoo.list_models()`.
        device: `"cpu"` or `"cuda"`.
        batches: images in a batch, one configuration each.
        dtypes: keys of `DTYPES`, of weights and images both.
        compile: whether to time compiled contenders too, besides eager ones.
        pairs: rounds in which every contender and the probes run once.
        threads: CPU threads of PyTorch.
        base: a commit to compare with, as given; or None.
        img_size: side of the images in pixels; each model's own if None.
        peers: which contenders stand beside ours, where a model has them.
        sizes: heights and widths of images.
        modes: of `MODES`.
        ops: names of `benchmarks.op_calls.OPS`.
    """

    suite: str
    models: tuple[str, ...]
    device: str
    batches: tuple[int, ...]
    dtypes: tuple[str, ...]
    compile: bool
    pairs: int
    threads: int
    base: str | None = None
    img_size: int | None = None
    peers: tuple[str, ...] | None = None
    sizes: tuple[tuple[int, int], ...] | None = None
    modes: tuple[str, ...] | None = None
    ops: tuple[str, ...] | None = None

    def command(self) -> str:
        """The command that asks for this run, defaults spelled out; it never holds a path."""
        words = ["python", "-m", "benchmarks", "--suite", self.suite, "--models", *self.models]
        words += ["--device", self.device, "--batch", *map(str, self.batches), "--dtype", *self.dtypes]
        words += ["--compile"] if self.compile else []
        words += ["--img-size", str(self.img_size)] if self.img_size else []
        words += ["--sizes", *map(size_text, self.sizes)] if self.sizes else []
        words += ["--modes", *self.modes] if self.modes else []
        words += ["--ops", *self.ops] if self.ops else []
        words += ["--pairs", str(self.pairs), "--threads", str(self.threads)]
        words += ["--peers", *self.peers] if self.peers else []
        words += ["--base", self.base] if self.base else []
        return shlex.join(words)


def size_text(size: tuple[int, int]) -> str:
    """`224`, or `800x1344` for height and width."""
    height, width = size
    return str(height) if height == width else f"{height}x{width}"


def image_size(text: str) -> tuple[int, int]:
    """Height and width from `224` or `800x1344`."""
    sides = text.replace("×", "x").split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise argparse.ArgumentTypeError(f"'{text}' is no size: write 224, or 800x1344 for height and width")
    return int(sides[0]), int(sides[-1])

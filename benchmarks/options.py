"""What a run was asked to do, with every default filled in."""

import dataclasses
import shlex

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
DEFAULT_BATCHES = {"cpu": (1, 8), "cuda": (1, 64, 256, 1024)}
DEFAULT_DTYPES = {"cpu": ("fp32",), "cuda": ("fp32", "bf16")}
ENOUGH_PAIRS = {"cpu": 15, "cuda": 30}
"""Fewer pairs than these are a trial, whose numbers are not kept."""
WARMUPS = {"cpu": 3, "cuda": 10}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of a run.

    Attributes:
        suite: what is timed, a name of `benchmarks.suites.SUITES`.
        models: names of `mlpzoo.list_models()`.
        device: `"cpu"` or `"cuda"`.
        batches: images in a batch, one configuration each.
        dtypes: keys of `DTYPES`, of weights and images both.
        compile: whether to time compiled contenders too, besides eager ones.
        img_size: side of the images in pixels; each model's own if None.
        pairs: rounds in which every contender and the GEMM probe run once.
        threads: CPU threads of PyTorch.
        peers: which contenders stand beside ours, where a model has them.
    """

    suite: str
    models: tuple[str, ...]
    device: str
    batches: tuple[int, ...]
    dtypes: tuple[str, ...]
    compile: bool
    img_size: int | None
    pairs: int
    threads: int
    peers: tuple[str, ...]

    def command(self) -> str:
        """The command that asks for this run, defaults spelled out; it never holds a path."""
        words = ["python", "-m", "benchmarks", "--suite", self.suite, "--models", *self.models]
        words += ["--device", self.device, "--batch", *map(str, self.batches), "--dtype", *self.dtypes]
        words += ["--compile"] if self.compile else []
        words += ["--img-size", str(self.img_size)] if self.img_size else []
        words += ["--pairs", str(self.pairs), "--threads", str(self.threads), "--peers", *self.peers]
        return shlex.join(words)

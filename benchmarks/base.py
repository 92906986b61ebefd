"""Another commit to compare with: its code in a process of its own, which runs only while this one waits."""

import contextlib
import dataclasses
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import environment
from benchmarks.measure import Runner
from benchmarks.op_trial import Arguments
from benchmarks.trial import Values

PROGRAM = Path(__file__).with_name("base_process.py")
SETTLE_SECONDS = 0.01
"""Threads of one process spin for a moment after their last work, and would take cores from the other's."""


class BaseError(ValueError):
    """The other commit cannot be had, or cannot do what is asked."""


class Base:
    """A commit whose models and ops can be timed.

    Its process starts at once; the first `reply` tells whether there is an mlpzoo that can be imported.

    Args:
        name: what its rows are called.
        tree: its checked-out files.
        threads: CPU threads of PyTorch.
    """

    def __init__(self, name: str, tree: Path, threads: int) -> None:
        self.name = name
        # In a session of its own, an interrupt from the keyboard reaches this process alone, which then ends the other.
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(tree), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=tree,
            start_new_session=True,
        )

    def close(self) -> None:
        """End the process."""
        # A request it did not live to read cannot be flushed any more.
        with contextlib.suppress(BrokenPipeError), self.process:
            self.process.kill()

    def ask(self, method: str, *arguments: Any) -> Any:
        """Call a method of `base_process.Server` and wait for its result.

        Raises:
            BaseError: when it fails.
            torch.OutOfMemoryError: when it has not the memory.
        """
        try:
            pickle.dump((method, arguments), self.process.stdin)
            self.process.stdin.flush()
        except BrokenPipeError:
            raise BaseError(f"{self.name} has ended unexpectedly") from None
        return self.reply()

    def reply(self) -> Any:
        """What the process answers; see `ask`."""
        try:
            failure, result = pickle.load(self.process.stdout)
        except (EOFError, pickle.UnpicklingError):
            raise BaseError(f"{self.name} has ended unexpectedly") from None
        if failure == "OutOfMemoryError":
            raise torch.OutOfMemoryError(result)
        if failure:
            raise BaseError(f"{self.name}: {result}")
        return result

    def model(self, name: str, ours: nn.Module, options: Mapping[str, Any]) -> "BaseContender":
        """Its model of that name with our weights."""
        return BaseContender(self, "open_model", (name, dict(options), ours.state_dict()))

    def op(self, name: str, arguments: Arguments) -> "BaseContender":
        """Its op of that name."""
        tensors = {key: (flat.cpu(), layout) for key, (flat, layout) in arguments.tensors.items()}
        sent = Arguments(tensors, arguments.settings, [gradient.cpu() for gradient in arguments.gradients])
        return BaseContender(self, "open_op", (name, sent))


@dataclasses.dataclass(frozen=True)
class BaseContender:
    """Stands for a `Contender`, or an op, of the other commit."""

    base: Base
    method: str
    sent: tuple[Any, ...]

    def trial(self, **how: Any) -> "BaseTrial":
        """It ready to run; takes what `Contender.trial` takes."""
        self.base.ask(self.method, how, *self.sent)
        return BaseTrial(self.base, how["device"])


class BaseTrial(Runner):
    """Stands for a `Trial` or an `OpTrial` in the other process, which holds one at a time, the last one made."""

    def __init__(self, base: Base, device: str) -> None:
        self.base = base
        self.device = device

    def layout(self, values: Values) -> Values:
        return values  # its parameters have our names and shapes

    def feed(self, images: Tensor, gradient: Tensor) -> None:
        self.base.ask("call", "feed", images, gradient)

    def repeat(self, number: int) -> None:
        self.base.ask("call", "repeat", number)

    def values(self) -> Values:
        return {name: value.to(self.device) for name, value in self.base.ask("values").items()}

    def seconds(self, clock: object) -> float:
        """Seconds of a step by the other process' clock."""
        time.sleep(SETTLE_SECONDS)
        taken = self.base.ask("seconds", self.device)
        time.sleep(SETTLE_SECONDS)
        return taken

    def peak_cuda_mb(self) -> float:
        return self.base.ask("call", "peak_cuda_mb")


@contextlib.contextmanager
def open_base(ref: str, threads: int) -> Iterator[Base]:
    """Check a commit out into a throw-away worktree and start its process; both are gone afterwards.

    Args:
        ref: a commit, branch or tag.
        threads: CPU threads of PyTorch.

    Raises:
        ValueError: for a ref that is not there, outside a git checkout, or (as `BaseError`) for a commit without an
            mlpzoo that can be imported.
    """
    commit = environment.resolve_commit(ref)
    folder = Path(tempfile.mkdtemp(prefix="benchmarks-base-"))
    base = None
    # Without this, a signal would end the process before it could clean up.
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        environment.git("-c", "core.hooksPath=/dev/null", "worktree", "add", "--detach", str(folder / "tree"), commit)
        base = Base(f"base {commit[:7]}", folder / "tree", threads)
        base.reply()
        yield base
    finally:
        if base:
            base.close()
        with contextlib.suppress(subprocess.CalledProcessError):
            environment.git("worktree", "remove", "--force", str(folder / "tree"))
        shutil.rmtree(folder, ignore_errors=True)
        environment.git("worktree", "prune")
        signal.signal(signal.SIGTERM, before)

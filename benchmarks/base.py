"""Another commit to compare with: its code in a process of its own, which runs only while this one waits."""

import contextlib
import json
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
        self.folder = tree.parent
        # In a session of its own, an interrupt from the keyboard reaches this process alone, which then ends the other.
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(tree), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=tree,
            start_new_session=True,
        )

    def close(self) -> None:
        """End the process."""
        # A request it did not live to read cannot be flushed any more.
        with contextlib.suppress(BrokenPipeError), self.process:
            self.process.kill()

    def ask(self, do: str, **details: Any) -> Any:
        """Have something done by the process and wait for it.

        Raises:
            BaseError: when it cannot.
            torch.OutOfMemoryError: when it has not the memory.
        """
        try:
            print(json.dumps({"do": do, **details}), file=self.process.stdin, flush=True)
        except BrokenPipeError:
            raise BaseError(f"{self.name} has ended unexpectedly") from None
        return self.reply()

    def reply(self) -> Any:
        """What the process answers; see `ask`."""
        line = self.process.stdout.readline()
        if not line:
            raise BaseError(f"{self.name} has ended unexpectedly")
        answer = json.loads(line)
        if answer.get("error") == "OutOfMemoryError":
            raise torch.OutOfMemoryError(answer["message"])
        if "error" in answer:
            raise BaseError(f"{self.name}: {answer['message']}")
        return answer["result"]

    def send(self, value: Any) -> str:
        """Put something where the process finds it; the file's name."""
        path = self.folder / "sent.pt"
        torch.save(value, path)
        return str(path)

    def check(self, name: str, options: Mapping[str, Any]) -> None:
        """Make sure that it has a model.

        Raises:
            BaseError: when it has not, or the model has not these options.
        """
        self.ask("check", model=name, options=dict(options))

    def model(self, name: str, ours: nn.Module, options: Mapping[str, Any]) -> "BaseContender":
        """Its model of that name with our weights."""
        return BaseContender(self, name, ours, options)

    def op(self, name: str, arguments: Arguments, **how: Any) -> "BaseTrial":
        """Its op of that name; `how` is what `OpTrial` takes."""
        sent = {"op": name, "tensors": {}, "settings": arguments.settings, "gradient": arguments.gradient}
        for key, (flat, layout) in arguments.tensors.items():
            sent["tensors"][key] = (flat, layout.shape, layout.stride)
        return BaseTrial(self, sent, **how)


class BaseContender:
    """Stands for a `Contender` of the other commit."""

    def __init__(self, base: Base, name: str, ours: nn.Module, options: Mapping[str, Any]) -> None:
        self.base = base
        self.sent = {"model": name, "options": dict(options), "state": ours.state_dict()}

    def trial(self, **how: Any) -> "BaseTrial":
        """It ready to run; takes what `Contender.trial` takes."""
        return BaseTrial(self.base, self.sent, **how)


class BaseTrial:
    """Stands for a trial in the other process, which holds one at a time: a new one takes the old one's place."""

    rename = str

    def __init__(self, base: Base, sent: dict[str, Any], **how: Any) -> None:
        self.base = base
        self.device = how["device"]
        self.base.ask("open", file=self.base.send({**sent, "how": how}))

    @property
    def repeats(self) -> int:
        """Calls of an op in a step."""
        return self._repeats

    @repeats.setter
    def repeats(self, number: int) -> None:
        self._repeats = number
        self.base.ask("repeat", number=number)

    def feed(self, images: Tensor, gradient: Tensor) -> None:
        """See `Trial.feed`."""
        self.base.ask("feed", file=self.base.send((images, gradient)))

    def values(self) -> Values:
        """See `Trial.values`."""
        return torch.load(self.base.ask("values"), weights_only=True, map_location=self.device)

    def timed_step(self) -> float:
        """Seconds of a step by the other process' clock."""
        time.sleep(SETTLE_SECONDS)
        seconds = self.base.ask("time")
        time.sleep(SETTLE_SECONDS)
        return seconds

    def peak_cuda_mb(self) -> float:
        """See `Trial.peak_cuda_mb`."""
        return self.base.ask("peak")


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

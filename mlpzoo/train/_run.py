"""Progress display, and folders in which files appear only once all of them are written."""

import contextlib
import importlib.util
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from mlpzoo.weights import CONFIG


class Progress:
    """Progress on a stream: a bar on a terminal, otherwise a plain line every few seconds.

    Args:
        steps: number of updates in all.
        stream: where progress is written; nowhere if None.
        done: updates of the checkpoint from which training resumes.
    """

    SECONDS_BETWEEN_LINES = 5.0

    def __init__(self, steps: int, stream: TextIO | None, *, done: int = 0) -> None:
        self.steps = steps
        self.stream = stream
        self.done = done
        self.start = time.perf_counter()
        self.last_line = -math.inf
        self.bar: Any = None
        interactive = stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
        if interactive and importlib.util.find_spec("rich"):
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            self.bar = Bar(BarColumn(bar_width=None), TextColumn("{task.description}"), console=Console(file=stream))
            self.bar.expand = True
            self.task = self.bar.add_task("", total=steps)

    def __enter__(self) -> "Progress":
        if self.bar:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()

    def update(self, step: int, state: str) -> None:
        """Show the state after an update, and the time left at the average speed so far."""
        now = time.perf_counter()
        left = round((now - self.start) / max(step - self.done, 1) * (self.steps - step))
        hours, minutes = divmod(left // 60, 60)
        text = f"{state}  {f'{hours}:{minutes:02d}' if hours else minutes}:{left % 60:02d} left"
        if self.bar:
            self.bar.update(self.task, completed=step, description=text)
        elif self.stream and (now - self.last_line >= self.SECONDS_BETWEEN_LINES or step == self.steps):
            print(text, file=self.stream, flush=True)
            self.last_line = now

    def say(self, message: str) -> None:
        """Print a line; above the bar, where there is one."""
        if self.bar:
            self.bar.console.print(message, markup=False, highlight=False)
        elif self.stream:
            print(message, file=self.stream, flush=True)


@contextlib.contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A temporary folder inside the one to write, for files that are not complete yet; removed afterwards.

    Raises:
        OSError: when the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
    except OSError as error:
        raise OSError(f"cannot write to {folder}: {error.strerror}") from None
    try:
        yield partial
    except OSError as error:
        if error.errno is None or not str(error.filename or partial).startswith(str(partial)):
            raise
        # The temporary name would tell nobody anything.
        raise OSError(error.errno, error.strerror, str(folder)) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def publish(partial: Path, folder: Path) -> None:
    """Move every file of a temporary folder to its place; other files in the folder stay as they are."""
    files = [path for path in partial.rglob("*") if path.is_file()]
    # The config goes last: where it exists, the rest is complete.
    for file in sorted(files, key=lambda path: (path.name == CONFIG, path)):
        target = folder / file.relative_to(partial)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, target)

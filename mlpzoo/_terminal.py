"""How the `mlpzoo` command shows things: tables, JSON, progress and complaints, safe whatever file names hold."""

import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text


def complain(message: str) -> None:
    """One line on stderr, whatever the message holds."""
    print(f"mlpzoo: error: {printable(' '.join(message.splitlines()))}", file=sys.stderr)


def printable(text: str) -> str:
    """Escape what could move the cursor or cannot be encoded, as file names may hold either."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def print_json(value: Any) -> None:
    """Print for programs."""
    print(json.dumps(value, indent=2))


def row(table: Table, *cells: str, end_section: bool = False) -> None:
    """Add a row of plain text: file and class names may hold what rich takes for markup."""
    table.add_row(*(Text(printable(cell)) for cell in cells), end_section=end_section)


def print_table(table: Table) -> None:
    """Print for people, as wide as needed where no terminal limits it."""
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 1000, highlight=False)
    console.print(table)


@contextlib.contextmanager
def picture_progress() -> Iterator[Callable[[Path, int, int], None]]:
    """A bar on stderr for the picture in work; nothing where no terminal shows it."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        tasks: dict[Path, TaskID] = {}

        def passed(path: Path, done: int, total: int) -> None:
            if path not in tasks:
                tasks[path] = bar.add_task(escape(printable(path.name)), total=total)
            bar.update(tasks[path], completed=done)

        yield passed


def jsonable(value: Any) -> Any:
    """Paths and errors as text; an infinite PSNR, which JSON cannot say, as null."""
    if isinstance(value, Path | Exception):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def millions(number: int) -> str:
    """A number of parameters."""
    return f"{number / 1e6:.1f} M"


def times(size: Sequence[int]) -> str:
    """Sides of an image or a tensor."""
    return "×".join(map(str, size))


def percent(value: float | None) -> str:
    """An accuracy; a dash where there is none."""
    return "–" if value is None else f"{value:g} %"


def decibels(value: float | None) -> str:
    """A PSNR; a dash where there is none."""
    return "–" if value is None else f"{value:.2f} dB"


def share(value: float | None) -> str:
    """An SSIM; a dash where there is none."""
    return "–" if value is None else f"{value:.4f}"

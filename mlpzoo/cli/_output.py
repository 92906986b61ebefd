"""How the verbs show results: tables, JSON, progress bars and errors, safe for any file name."""

import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text


def complain(message: str) -> None:
    """Print an error as one line on stderr."""
    print(f"mlpzoo: error: {printable(' '.join(message.splitlines()))}", file=sys.stderr)


def complain_of(errors: Iterable[Exception | None]) -> bool:
    """Print each error as one line on stderr; return whether there was one."""
    found = [error for error in errors if error]
    for error in found:
        complain(str(error))
    return bool(found)


def print_notes(notes: Iterable[str]) -> None:
    """Print each note as one line on stderr."""
    for note in notes:
        print(f"mlpzoo: note: {printable(' '.join(note.splitlines()))}", file=sys.stderr)


def printable(text: str) -> str:
    """Escape the characters that move the cursor or cannot be encoded: file names may hold both."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def print_json(value: Any) -> None:
    """Print JSON on stdout."""
    print(json.dumps(value, indent=2))


def add_row(table: Table, *cells: str, end_section: bool = False) -> None:
    """Add a row of plain text: rich would take parts of some file and class names for markup."""
    table.add_row(*(Text(printable(cell)) for cell in cells), end_section=end_section)


def print_table(table: Table) -> None:
    """Print a table on stdout, as wide as the terminal, or as it needs where there is none."""
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 1000, highlight=False)
    console.print(table)


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Print a table of titles and their values."""
    table = Table(show_header=False)
    for title, value in facts:
        add_row(table, title, value)
    print_table(table)


@contextlib.contextmanager
def picture_progress() -> Iterator[Callable[[Path, int, int], None]]:
    """A progress bar on stderr for the current image; nothing where stderr is no terminal."""
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
    """Paths and errors as text; an infinite PSNR, which JSON cannot express, as null."""
    if isinstance(value, Path | Exception):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def millions(number: int) -> str:
    """A number of parameters, in millions."""
    return f"{number / 1e6:.1f} M"


def times(size: Sequence[int]) -> str:
    """The sides of an image or a tensor, such as 224×224."""
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

"""Measurements for people: one table a model."""

import itertools
import textwrap
from collections.abc import Callable, Sequence

from benchmarks.models import OURS
from benchmarks.report import Row, digits

try:
    from rich import box
    from rich.console import Console
    from rich.table import Table
except ImportError:
    Console = None


def number(key: str, most: int) -> Callable[[Row], str]:
    """A cell with the number of a column, to so many digits."""
    return lambda row: digits(row.get(key), most)


def text(key: str) -> Callable[[Row], str]:
    """A cell with the text of a column."""
    return lambda row: str(row.get(key, ""))


def compiler(row: Row) -> str:
    """Whether it was compiled."""
    return {0: "eager", 1: "compiled"}.get(row.get("compiled"), "")


def ratio(row: Row) -> str:
    """How many times as long as ours it takes."""
    return "1 (by definition)" if row["contender"] == OURS else digits(row.get("ratio_median"), 3)


def spread(row: Row) -> str:
    """The quartiles of that."""
    return f"{row['ratio_q1']:.3f}–{row['ratio_q3']:.3f}" if "ratio_q1" in row else ""


def share(key: str) -> Callable[[Row], str]:
    """A cell with a part of a whole."""
    return lambda row: f"{row[key]:.2f}"


def passes(row: Row) -> str:
    """Bytes moved over bytes needed."""
    moved = row.get("mb_moved")
    return "" if moved is None else f"{moved / row['mb_needed']:.2f}"


WHAT: dict[str, Callable[[Row], str]] = {
    "model": text("model"),
    "op": text("op"),
    "call": text("call"),
    "times": text("calls"),
    "pixels": text("img_size"),
    "step": text("mode"),
    "dtype": text("dtype"),
    "mode": compiler,
    "batch": text("batch"),
    "contender": text("contender"),
}
"""What a row is about, by heading."""
FOUND: dict[str, Callable[[Row], str]] = {
    "time / ours": ratio,
    "quartiles": spread,
    "GEMM share": share("gemm_share"),
    "copy share": share("copy_share"),
    "moved / needed": passes,
    "images/s": number("images_per_s", 4),
    "ms": number("ms_median", 4),
    "TFLOP/s": number("tflops", 4),
    "GB/s": number("gb_per_s", 4),
    "peak MB": number("peak_mem_mb", 4),
}
"""What was measured, by heading."""

_MODEL = ("model", "dtype", "mode", "batch", "contender", "time / ours", "quartiles", "GEMM share")
_MODEL_SPEED = ("images/s", "ms", "TFLOP/s", "peak MB")
_PAIRED = ("time / ours", "quartiles", "GEMM share")
HEADINGS: dict[str, tuple[str, ...]] = {
    "infer": _MODEL,
    "train": _MODEL,
    "size": ("model", "pixels", "step", "dtype", "mode", "batch", "contender", *_PAIRED, "peak MB"),
    "ops": ("op", "call", "times", "step", "dtype", "mode", "contender", *_PAIRED, "copy share", "moved / needed"),
}
"""What is shown of each suite."""
GPU_HEADINGS: dict[str, tuple[str, ...]] = {
    "infer": _MODEL_SPEED,
    "train": _MODEL_SPEED,
    "size": _MODEL_SPEED[:-1],
    "ops": ("ms", "TFLOP/s", "GB/s"),
}
"""What is shown besides where the seconds say something: of a CPU shared with others, only what pairs say is."""


def print_table(rows: Sequence[Row], suite: str, device: str) -> None:
    """Show rows of a suite."""
    headings = (*HEADINGS[suite], *(GPU_HEADINGS[suite] if device == "cuda" else ()))
    cells = [_cells(row, headings) for row in rows]
    if suite == "ops":
        cells = _grouped(cells, 3)
    if Console is None:
        widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
        for line in [headings, *cells]:
            print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        return
    table = Table(*headings, box=box.SIMPLE)
    for line in cells:
        table.add_row(*line)
    console = Console()
    console = console if console.is_terminal else Console(width=200)
    console.print(table)


def _cells(row: Row, headings: Sequence[str]) -> list[str]:
    """A row as it is shown; the start of a note takes the place of what was not measured."""
    known = [WHAT[heading](row) for heading in headings if heading in WHAT]
    if "note" in row:
        return [
            *known,
            textwrap.shorten(str(row["note"]), 60, placeholder=" …"),
            *[""] * (len(headings) - len(known) - 1),
        ]
    return [*known, *(FOUND[heading](row) for heading in headings if heading in FOUND)]


def _grouped(cells: list[list[str]], columns: int) -> list[list[str]]:
    """Leave out the first columns of a line that are the same as above: what they say is long."""
    shown = cells[:1]
    for above, line in itertools.pairwise(cells):
        same = above[:columns] == line[:columns]
        shown.append([*[""] * columns, *line[columns:]] if same else line)
    return shown

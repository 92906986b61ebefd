"""Where measurements go: CSV files that grow, and a table for people."""

import csv
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import environment
from benchmarks.measure import Row

OURS = "ours"
"""The contender that all others are compared with."""
RUN = ("date", "suite", *environment.COLUMNS, "load", "command")
"""Columns of every file: when, where and how."""
WHAT = ("contender", "compiled", "dtype", "batch", "img_size")
TIMES = ("ms_median", "ms_q1", "ms_q3", "ratio_median", "ratio_q1", "ratio_q3")
RATES = ("tflops", "gemm_share")
END = ("pairs", "note")
PAIRED = ("ratio_median", "quartiles", "gemm_share")
"""What is shown of paired times."""


def check_appendable(path: Path, columns: Sequence[str]) -> None:
    """Make sure that rows can be appended to a file.

    Raises:
        ValueError: when it is there and holds something else.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give --out a file")
    if path.exists() and path.stat().st_size:
        with path.open(newline="", encoding="utf-8") as file:
            if next(csv.reader(file), None) != list(columns):
                raise ValueError(f"{path} has other columns than these results: give another file with --out")


def append_csv(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Append rows, below a header if the file is new; numbers to six digits, what is not known left empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists() or not path.stat().st_size
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows({key: digits(value, 6) for key, value in row.items()} for row in rows)


def read_csv(path: Path) -> list[Row]:
    """Rows of a file that the benchmarks wrote, every value a text.

    Raises:
        ValueError: when it is not one.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows: list[Row] = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"cannot read {path}: {error}") from None
    if not rows or not set(RUN) <= set(rows[0]):
        raise ValueError(f"{path} holds no rows of python -m benchmarks")
    return rows


def digits(value: object, most: int) -> str:
    """A number to so many digits, anything else as it is, nothing for None."""
    if value is None:
        return ""
    return f"{value:.{most}g}" if isinstance(value, float) else str(value)


LABELS = {
    "img_size": "pixels",
    "calls": "times",
    "mode": "step",
    "ratio_median": "time / ours",
    "gemm_share": "GEMM share",
    "copy_share": "copy share",
    "images_per_s": "images/s",
    "ms_median": "ms",
    "tflops": "TFLOP/s",
    "gb_per_s": "GB/s",
    "peak_mem_mb": "peak MB",
    "file_mb": "file MB",
    "added_mb": "added MB",
    "added_over_file": "added / file",
    "added_ratio": "memory / ours",
}
"""Headings of columns that are not called by their name."""


def _compiler(row: Row) -> str:
    return {"0": "eager", "1": "compiled"}.get(str(row.get("compiled")), "")


def _ratio(row: Row) -> str:
    return "1 (by definition)" if row["contender"] == OURS else digits(row.get("ratio_median"), 3)


def _spread(row: Row) -> str:
    return f"{row['ratio_q1']:.3f}–{row['ratio_q3']:.3f}" if "ratio_q1" in row else ""


def _passes(row: Row) -> str:
    moved = row.get("mb_moved")
    return "" if moved is None else f"{moved / row['mb_needed']:.2f}"


CELLS: dict[str, Callable[[Row], str]] = {
    "compiled": _compiler,
    "ratio_median": _ratio,
    "quartiles": _spread,
    "moved / needed": _passes,
}
"""Columns that are shown in a form of their own; all others are a text, or a number to four digits."""


def print_table(rows: Sequence[Row], about: Sequence[str], found: Sequence[str]) -> None:
    """Show rows.

    Args:
        rows: to show.
        about: columns that say what a row is about.
        found: columns with what was measured; the start of a note takes their place.
    """
    lines = [[LABELS.get(key, key) for key in (*about, *found)]]
    for row in rows:
        cells = [_cell(row, key) for key in about]
        if "note" in row:
            short = textwrap.shorten(str(row["note"]), 60, placeholder=" …")
            lines.append([*cells, short, *[""] * (len(found) - 1)])
        else:
            lines.append([*cells, *(_cell(row, key) for key in found)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(row: Row, key: str) -> str:
    return CELLS[key](row) if key in CELLS else digits(row.get(key), 4)

"""Where measurements go: CSV files that grow, and a table for people."""

import csv
import textwrap
from collections.abc import Sequence
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

ABOUT = ("model", "op", "call", "calls", "form", "part", "img_size", "tile", "overlap", "mode", "dtype", "compiled")
ABOUT = (*ABOUT, "batch", "contender")
"""Columns that say what a row is about, as the table shows them."""
FOUND = ("ratio_median", "quartiles", "gemm_share", "copy_share", "moved / needed", "passes", "file_mb")
FOUND = (*FOUND, "added_over_file", "peak_mem_mb", "added_mb", "added_ratio")
"""Columns with what was measured. Absolute speeds of a CPU are left out: they say more about what else runs there."""
FOUND_ON_CUDA = ("images_per_s", "ms_median", "tflops", "gb_per_s")
LABELS = {"img_size": "pixels", "calls": "times", "mode": "step", "ratio_median": "time / ours"}
"""Headings of columns that are not called by their name."""


def check_appendable(path: Path, columns: Sequence[str]) -> None:
    """Raise ValueError where rows cannot be appended to a file, because it is there and holds something else."""
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


def print_table(rows: Sequence[Row], device: str) -> None:
    """Show the columns of rows that say something; the start of a note takes the place of what was not measured."""
    cells = [{key: _cell(row, key) for key in (*ABOUT, *FOUND, *FOUND_ON_CUDA, "note")} for row in rows]
    about = [key for key in ABOUT if any(cell[key] for cell in cells)]
    found = [key for key in FOUND if any(cell[key] for cell in cells)]
    found += [key for key in FOUND_ON_CUDA if device == "cuda" and any(cell[key] for cell in cells)]
    found = found or ["note"]
    lines = [[LABELS.get(key, key) for key in (*about, *found)]]
    for row, cell in zip(rows, cells, strict=True):
        measured = [cell[key] for key in found]
        if "note" in row:
            measured = [textwrap.shorten(str(row["note"]), 60, placeholder=" …"), *[""] * (len(found) - 1)]
        lines.append([*(cell[key] for key in about), *measured])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(row: Row, key: str) -> str:
    if key == "compiled":
        return {"0": "eager", "1": "compiled"}.get(str(row.get("compiled")), "")
    if key == "quartiles":
        return f"{row['ratio_q1']:.3f}–{row['ratio_q3']:.3f}" if "ratio_q1" in row else ""
    if key == "moved / needed":
        return f"{row['mb_moved'] / row['mb_needed']:.2f}" if row.get("mb_moved") else ""
    if key == "ratio_median" and "ms_median" in row and key not in row:
        return "1 (by definition)"
    return digits(row.get(key), 3 if key.endswith(("_median", "_share", "_ratio")) else 4)

"""Where measurements go: a CSV file that grows, and a table for people."""

import csv
from collections.abc import Sequence
from pathlib import Path

from benchmarks.models import OURS

try:
    from rich import box
    from rich.console import Console
    from rich.table import Table
except ImportError:
    Console = None

Row = dict[str, object]

COLUMNS = (
    *("date", "suite", "device", "threads", "torch", "timm", "mlpzoo", "python", "commit", "matmul_precision"),
    *("command", "model", "contender", "compiled", "dtype", "batch", "img_size", "images_per_s"),
    *("ms_median", "ms_q1", "ms_q3", "ratio_median", "ratio_q1", "ratio_q3"),
    *("tflops", "gemm_share", "peak_mem_mb", "pairs", "note"),
)


def check_appendable(path: Path) -> None:
    """Make sure that rows can be appended to a file.

    Raises:
        ValueError: when it is there and holds something else.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give --out a file")
    if path.exists() and path.stat().st_size:
        with path.open(newline="", encoding="utf-8") as file:
            if next(csv.reader(file), None) != list(COLUMNS):
                raise ValueError(f"{path} has other columns than these results: give another file with --out")


def append_csv(path: Path, rows: Sequence[Row]) -> None:
    """Append rows, below a header if the file is new; numbers to six digits, what is not known left empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists() or not path.stat().st_size
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows({key: _digits(value, 6) for key, value in row.items()} for row in rows)


def print_table(rows: Sequence[Row], device: str) -> None:
    """Show rows; on a CPU shared with others only what was measured in pairs, ratios and shares."""
    headings = ["model", "dtype", "mode", "batch", "contender", "time / ours", "quartiles", "GEMM share"]
    headings += ["images/s", "ms", "TFLOP/s", "peak MB"] if device == "cuda" else []
    cells = [_cells(row)[: len(headings)] for row in rows]
    if Console is None:
        widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
        for line in [headings, *cells]:
            print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        return
    table = Table(*headings, box=box.SIMPLE)
    for line in cells:
        table.add_row(*line)
    console = Console()
    console = console if console.is_terminal else Console(width=160)
    console.print(table)


def _cells(row: Row) -> list[str]:
    ours = row["contender"] == OURS
    ratio = "1 (by definition)" if ours else _digits(row.get("ratio_median"), 3)
    spread = "" if ours or "ratio_q1" not in row else f"{row['ratio_q1']:.3f}–{row['ratio_q3']:.3f}"
    start = [str(row[key]) for key in ("model", "dtype")]
    start += ["compiled" if row["compiled"] else "eager", str(row["batch"]), str(row["contender"])]
    if "note" in row:
        return [*start, str(row["note"]), *[""] * 6]
    share = row["gemm_share"]
    return [
        *start,
        ratio,
        spread,
        f"{share:.2f}",
        *(_digits(row[key], 4) for key in ("images_per_s", "ms_median", "tflops", "peak_mem_mb")),
    ]


def _digits(value: object, digits: int) -> str:
    if value is None:
        return ""
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)

"""Where measurements are kept: CSV files that grow."""

import csv
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Quartiles

Row = dict[str, object]

RUN = (
    "date",
    "suite",
    "device",
    "threads",
    "torch",
    "timm",
    "mlpzoo",
    "python",
    "commit",
    "matmul_precision",
    "command",
)
WHAT = ("contender", "compiled", "dtype", "batch", "img_size")
TIMES = ("ms_median", "ms_q1", "ms_q3", "ratio_median", "ratio_q1", "ratio_q3", "tflops", "gemm_share")
END = ("pairs", "note")

_MODEL = (*RUN, "model", *WHAT, "images_per_s", *TIMES, "peak_mem_mb", *END)
COLUMNS: dict[str, tuple[str, ...]] = {
    "infer": _MODEL,
    "train": _MODEL,
    "size": (*RUN, "model", "mode", *WHAT, "images_per_s", *TIMES, "peak_mem_mb", *END),
    "ops": (
        *(*RUN, "model", "op", "call", "calls", "mode"),
        *(*WHAT, *TIMES, "mb_needed", "mb_moved", "gb_per_s", "copy_share", *END),
    ),
}
"""Of each suite's files."""


def columns(name: str, values: Quartiles) -> Row:
    """Quartiles as three columns."""
    return {f"{name}_median": values.median, f"{name}_q1": values.q1, f"{name}_q3": values.q3}


def check_appendable(path: Path, suite: str) -> None:
    """Make sure that rows of a suite can be appended to a file.

    Raises:
        ValueError: when it is there and holds something else.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give --out a file")
    if path.exists() and path.stat().st_size:
        with path.open(newline="", encoding="utf-8") as file:
            if next(csv.reader(file), None) != list(COLUMNS[suite]):
                raise ValueError(f"{path} has other columns than these results: give another file with --out")


def append_csv(path: Path, suite: str, rows: Sequence[Row]) -> None:
    """Append rows, below a header if the file is new; numbers to six digits, what is not known left empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists() or not path.stat().st_size
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS[suite], restval="", lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows({key: digits(value, 6) for key, value in row.items()} for row in rows)


def digits(value: object, most: int) -> str:
    """A number to so many digits, anything else as it is, nothing for None."""
    if value is None:
        return ""
    return f"{value:.{most}g}" if isinstance(value, float) else str(value)

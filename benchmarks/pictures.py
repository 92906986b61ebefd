"""Pictures of measurements: `python -m benchmarks.plots --help`."""

import argparse
import csv
import itertools
import re
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

try:
    from benchmarks import figures
except ImportError as error:
    raise ImportError(f"pictures need matplotlib ({error}): pip install 'mlpzoo[demo]'") from None
from benchmarks.report import Row

SETTING = ("device", "threads", "dtype", "batch", "compiled", "mode")
"""What all rows of a picture share."""
WHAT = ("suite", "model", "op", "call", "contender", "img_size", *SETTING)
"""What tells rows apart: of those that agree in it, the last counts."""
NUMBERS = ("images_per_s", "ms_median", "ratio_median", "ratio_q1", "ratio_q3", "tflops", "gemm_share", "peak_mem_mb")
DRAWN = {
    "infer": {"accuracy": figures.draw_accuracy, "gemm-share": figures.draw_gemm_share},
    "train": {"gemm-share": figures.draw_gemm_share},
    "size": {"size": figures.draw_sizes},
    "ops": {"ops": figures.draw_ops},
}


def draw(rows: Iterable[Row], folder: Path) -> list[Path]:
    """Draw what the rows give: speed against accuracy, time and memory against size, shares of GEMM, ops.

    There is one picture of a kind for every device, dtype, batch and mode, and of ops for every model.

    Args:
        rows: of any suites, as they are in CSV files.
        folder: where the PNG files go; it is made if need be.

    Returns:
        The files.
    """
    latest = {tuple(str(row.get(key, "")) for key in WHAT): row for row in rows if row.get("ms_median")}
    measured = [_read(row) for row in latest.values()]
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for group in _grouped(measured, ("suite", *SETTING)):
        _steady(group)
        suite = group[0]["suite"]
        for kind, picture in DRAWN[suite].items():
            for part in _grouped(group, ("model",)) if suite == "ops" else [group]:
                figure = picture(part, _about(part))
                if figure:
                    files.append(folder / _file_name(kind, part[0]))
                    # No version of matplotlib in the file: the same rows give the same bytes.
                    figure.savefig(files[-1], format="png", metadata={"Software": None})
    return files


def read_csv(path: Path) -> list[Row]:
    """Rows of a file that the benchmarks wrote.

    Raises:
        ValueError: when it is not one.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"cannot read {path}: {error}") from None
    if not rows or any(row.get("suite") not in DRAWN for row in rows):
        raise ValueError(f"{path} holds no rows of python -m benchmarks")
    return rows


def _read(row: Row) -> dict[str, Any]:
    """A row with numbers for numbers, None for those that are not known."""
    read: dict[str, Any] = {key: str(row.get(key, "")) for key in (*WHAT, "date", "torch", "commit", "command")}
    for key in NUMBERS:
        value = row.get(key)
        read[key] = None if value in (None, "") else float(str(value))
    return read


def _grouped(rows: Sequence[dict[str, Any]], keys: Sequence[str]) -> list[list[dict[str, Any]]]:
    """Rows that agree in the keys, in the order of the first of them."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return list(groups.values())


def _steady(group: Sequence[dict[str, Any]]) -> None:
    """Turn absolute speeds of a CPU into what they would be, had the GEMM probe been equally fast all the time."""
    if not _on_cpu(group[0]):
        return
    rates = [row["tflops"] / row["gemm_share"] for row in group if row["gemm_share"]]
    common = statistics.median(rates) if rates else 1.0
    for row in group:
        faster = common / (row["tflops"] / row["gemm_share"]) if row["gemm_share"] else 1.0
        row["ms_median"] /= faster
        row["images_per_s"] = row["images_per_s"] and row["images_per_s"] * faster
        row["gemm_rate"] = common


def _about(rows: Sequence[dict[str, Any]]) -> str:
    """One line that says where and when."""
    row = rows[0]
    threads = f"{row['threads']} thread{'s' if row['threads'] != '1' else ''}"
    words = [
        row["device"],
        *([threads] if _on_cpu(row) else []),
        row["dtype"],
        f"batch {row['batch']}",
    ]
    words += ["compiled" if row["compiled"] == "1" else "eager", f"torch {row['torch'].partition('+')[0]}"]
    days = sorted({row["date"][:10] for row in rows})
    commits = sorted({row["commit"] for row in rows})
    words.append(days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}")
    words.append(f"commit {commits[0]}" if len(commits) == 1 else f"{len(commits)} commits")
    return ", ".join(words)


def _file_name(kind: str, row: dict[str, Any]) -> str:
    words = [kind, *([row["model"]] if kind == "ops" else []), row["device"], row["dtype"]]
    words += [f"{row['threads']}-threads"] if _on_cpu(row) else []
    words += [f"batch-{row['batch']}", row["mode"] or row["suite"], *(["compiled"] if row["compiled"] == "1" else [])]
    return re.sub("[^a-z0-9_]+", "-", "-".join(words).lower()) + ".png"


def _on_cpu(row: dict[str, Any]) -> bool:
    return "--device cuda" not in row["command"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw what the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.plots",
        description="Pictures of measurements: images/s against accuracy, time and memory against image size, shares "
        "of GEMM, ops. Of rows about the same thing the last counts.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="CSV", help="files that python -m benchmarks wrote")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the PNG files go")
    given = parser.parse_args(arguments)
    try:
        files = draw(itertools.chain.from_iterable(map(read_csv, given.files)), given.out)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    print("\n".join(str(file) for file in files) or "no row holds a measurement")
    return 0


if __name__ == "__main__":
    sys.exit(main())

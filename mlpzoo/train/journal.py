"""What a run says: a progress line for people, `metrics.jsonl` for programs, and whatever trackers it was given."""

import contextlib
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from mlpzoo.train._run import Progress
from mlpzoo.weights._writing import write_text

METRICS = "metrics.jsonl"

Record = dict[str, Any]


class Journal:
    """The records of a run, kept by its main process.

    Args:
        folder: of the run.
        accelerator: whose trackers are told as well.
        step: updates done; records of later ones, from a run that was cut short, are dropped.
        updates: there will be.
        progress: whether to show progress on stderr.
    """

    def __init__(self, folder: Path, accelerator: Accelerator, *, step: int, updates: int, progress: bool) -> None:
        self.path = folder / METRICS
        self.accelerator = accelerator
        self.main = accelerator.is_main_process
        self.display = Progress(updates, sys.stderr if progress and self.main else None, done=step)
        if self.main:
            earlier = [record for record in read_metrics(folder) if record.get("step", 0) <= step] if step else []
            write_text("".join(json.dumps(record) + "\n" for record in earlier), self.path)

    def __enter__(self) -> "Journal":
        self.display.__enter__()
        self.file = self.path.open("a") if self.main else None
        return self

    def __exit__(self, *error: Any) -> None:
        self.display.__exit__(*error)
        if self.file:
            self.file.close()

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Keep some figures of an update."""
        if self.file:
            self.file.write(json.dumps({"step": step, **values}) + "\n")
            self.file.flush()
        if self.accelerator.trackers:
            self.accelerator.log(dict(values), step=step)

    def show(self, step: int, state: str) -> None:
        """Show the state after an update."""
        self.display.update(step, state)

    def say(self, message: str) -> None:
        """A line on stderr, above the progress."""
        if self.main:
            self.display.say(message)


def read_metrics(folder: str | Path) -> list[Record]:
    """The records of a run, in order; a last line that was cut short is left out."""
    records: list[Record] = []
    with contextlib.suppress(FileNotFoundError), (Path(folder) / METRICS).open() as lines:
        for line in lines:
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict):
                    records.append(record)
    return records


class Speed:
    """Images a second since the last time it was asked."""

    def __init__(self) -> None:
        self.start = time.perf_counter()

    def of(self, images: int) -> float:
        """That many images since the last call."""
        now = time.perf_counter()
        seconds, self.start = max(now - self.start, 1e-9), now
        return images / seconds

    def pause(self, since: float) -> None:
        """Leave out the time since then, in which nothing was trained."""
        self.start += time.perf_counter() - since


PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "RTX 4090": 165e12, "V100": 125e12}
"""Dense FLOP/s in 16 bits with 32-bit sums, from the makers' data sheets, by a part of the device's name."""


def peak_flops(device: torch.device, precision: str) -> float | None:
    """The rate a device's maker promises for mixed precision; None where it is not known here."""
    if device.type != "cuda" or precision == "fp32":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAKS.items() if part in name), None)

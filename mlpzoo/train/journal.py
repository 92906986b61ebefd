"""Records of a run: a progress line for people, `metrics.jsonl` for programs, and the trackers of the recipe."""

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
from mlpzoo.weights._writing import naming, write_text

METRICS = "metrics.jsonl"

Record = dict[str, Any]


class Journal:
    """The records of a run, kept by its main process.

    Args:
        folder: of the run.
        accelerator: whose trackers get the records as well.
        step: updates done; records of later updates, from an interrupted run, are dropped.
        updates: number of updates in all.
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
        # Unbuffered: of a full disk it is heard at once, and not again when the file is closed.
        self.file = self.path.open("ab", buffering=0) if self.main else None
        return self

    def __exit__(self, *error: Any) -> None:
        self.display.__exit__(*error)
        if self.file:
            self.file.close()

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Record figures of an update."""
        if self.file:
            line = memoryview((json.dumps({"step": step, **values}) + "\n").encode())
            with naming(self.path):
                while line:
                    line = line[self.file.write(line) :]
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
    """The records of a run, in order; an incomplete last line is left out."""
    records: list[Record] = []
    with contextlib.suppress(FileNotFoundError), (Path(folder) / METRICS).open(encoding="utf-8") as lines:
        for line in lines:
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict):
                    records.append(record)
    return records


class Speed:
    """Images per second since the last call."""

    def __init__(self) -> None:
        self.start = time.perf_counter()

    def of(self, images: int) -> float:
        """Speed, for that many images since the last call."""
        now = time.perf_counter()
        seconds, self.start = max(now - self.start, 1e-9), now
        return images / seconds

    def pause(self, since: float) -> None:
        """Leave out the time since then, which was not spent on training."""
        self.start += time.perf_counter() - since


PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "RTX 4090": 165e12, "V100": 125e12}
"""Dense FLOP/s in 16 bits with 32-bit accumulation, from data sheets, by a part of the device's name."""


def peak_flops(device: torch.device, precision: str) -> float | None:
    """A device's specified rate for mixed precision; None where it is not known."""
    if device.type != "cuda" or precision == "fp32":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAKS.items() if part in name), None)

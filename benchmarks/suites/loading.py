"""The suite `loading`: peak memory and time of loading a checkpoint, each case in a process of its own.

Counted is what creating and loading the model adds to what the process holds, over the size of the file's parameters:
1 is the model itself. Pages of a file that is mapped into memory count, though the system may drop them at will.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

import mlpzoo
from benchmarks import memory, models
from benchmarks import options as opt
from benchmarks.base import Base
from benchmarks.measure import Row
from benchmarks.options import Options
from benchmarks.suite import Suite, register

FORMS = ("npz", "pth", "safetensors")


def write(name: str, form: str, path: Path) -> int:
    """Write a model's parameters as a file of that form; return their size in bytes."""
    state = {key: value.detach() for key, value in mlpzoo.create_model(name).state_dict().items()}
    if form == "npz":
        with path.open("wb") as stream:
            np.savez(stream, **{key: value.numpy() for key, value in state.items()})
    elif form == "pth":
        torch.save({"model": state}, path)
    else:
        save_file(state, path)
    return sum(value.nbytes for value in state.values())


def case(name: str, path: str, img_size: int) -> memory.Step:
    """Loading of a file at a size, 0 for its own, to measure; see `benchmarks.memory.in_process`."""
    options, _ = models.model_options(name, img_size or None)
    mlpzoo.create_model(name, device="meta", **options)
    return lambda: mlpzoo.create_model(name, checkpoint_path=path, **options)


def run_loading(options: Options, name: str, base: Base | None) -> Iterator[list[Row]]:
    """Load files of a model; yields a row for each form and size."""
    for form in options.forms:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights"
            megabytes = write(name, form, path) / 1e6
            for size in options.img_sizes:
                found = memory.in_process(case, name, str(path), size, threads=options.threads)
                row = {"form": form, "img_size": size or None, "file_mb": megabytes, "seconds": found["seconds"]}
                yield [{**row, "added_mb": found["added_mb"], "added_over_file": found["added_mb"] / megabytes}]


register(
    Suite(
        name="loading",
        summary="peak memory and time of loading a checkpoint",
        run=run_loading,
        check=models.check,
        linux=True,
        options=(
            *(opt.MODELS, opt.CPU_ONLY, opt.several("forms", "of files", FORMS)),
            opt.numbers("img_sizes", "to load at, in pixels; 0 for the file's own", (0,)),
        ),
        columns=("model", "form", "img_size", "file_mb", "added_mb", "added_over_file", "seconds"),
    )
)

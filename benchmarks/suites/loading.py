"""Peak memory and time of loading a checkpoint: `python -m benchmarks.loading --help`.

Each case runs in a process of its own. What is counted is resident memory at its highest while the model is created
and loaded, less what it was before, over the size of the file uncompressed: 1 is the model itself. Pages of a file that
is mapped into memory count like any other, though the system may drop them at will. Linux only.
"""

import argparse
import csv
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

import mlpzoo
from benchmarks import environment

RESULTS = environment.ROOT / "benchmarks" / "results" / "loading-cpu.csv"
FORMS = ("npz", "pth", "safetensors")
COLUMNS = ("date", "device", "torch", "mlpzoo", "commit", "command", "model", "form", "img_size", "file_mb")
COLUMNS += ("peak_mb", "peak_over_file", "seconds")

CHILD = """
import json, sys, time
from pathlib import Path
import torch, mlpzoo

def status(key):
    return int(next(s for s in open("/proc/self/status") if s.startswith(key)).split()[1]) * 1024

torch.set_num_threads(1)
name, path, img_size = sys.argv[1], sys.argv[2], int(sys.argv[3])
options = {"img_size": img_size} if img_size else {}
mlpzoo.create_model(name, device="meta", **options)
Path("/proc/self/clear_refs").write_text("5")
before, start = status("VmRSS"), time.perf_counter()
model = mlpzoo.create_model(name, checkpoint_path=path, **options)
print(json.dumps({"peak": status("VmHWM") - before, "seconds": time.perf_counter() - start}))
"""


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


def measure(name: str, path: Path, img_size: int) -> dict[str, float]:
    """Load the file in a new process."""
    command = [sys.executable, "-c", CHILD, name, str(path), str(img_size)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=environment.ROOT)
    return json.loads(done.stdout)


def main() -> int:
    """Measure what the command line asks for, print it and append it to the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loading", description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=["mixer_b16", "vit_b16", "cyclemlp_b5"], metavar="NAME")
    parser.add_argument("--img-size", type=int, nargs="+", default=[0], help="size to load at; 0 for the file's own")
    parser.add_argument("--no-results", action="store_true", help="print only")
    given = parser.parse_args()
    unknown = [name for name in given.models if name not in mlpzoo.list_models()]
    if unknown or sys.platform != "linux":
        parser.error(f"unknown models: {', '.join(unknown)}" if unknown else "this runs on Linux only")
    words = ["python", "-m", "benchmarks.loading", "--models", *given.models]
    words += ["--img-size", *map(str, given.img_size)]
    about = environment.describe("cpu")
    rows = []
    for name in given.models:
        for form in FORMS:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "weights"
                size = write(name, form, path)
                for img_size in given.img_size:
                    found = measure(name, path, img_size)
                    ratio = found["peak"] / size
                    row = {key: about[key] for key in ("device", "torch", "mlpzoo", "commit")}
                    row |= {"date": environment.now(), "command": shlex.join(words), "model": name, "form": form}
                    row |= {
                        "img_size": img_size or "",
                        "file_mb": round(size / 1e6, 1),
                        "peak_over_file": round(ratio, 3),
                    }
                    row |= {"peak_mb": round(found["peak"] / 1e6, 1), "seconds": round(found["seconds"], 2)}
                    rows.append(row)
                    at = f" at {img_size}" if img_size else ""
                    print(f"{name}{at} from {form}: peak {ratio:.2f} times the file's {size / 1e6:.0f} MB", flush=True)
    if not given.no_results:
        new = not RESULTS.exists()
        with RESULTS.open("a", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Where a number was measured: device, versions and the state of the tree. Never a host name or a path."""

import datetime
import os
import platform
import subprocess
from pathlib import Path

import timm
import torch
import torchvision

import mlpzoo
from benchmarks.measure import Row

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = ("device", "cpu", "capability", "threads", "torch", "torchvision", "timm", "mlpzoo", "python", "commit")
COLUMNS = (*COLUMNS, "matmul_precision")


def describe(device: str) -> Row:
    """The columns that every row of a run shares, by name: `COLUMNS`. To be read at its start: the tree may change."""
    cuda = device == "cuda"
    name, kind = cpu()
    values = (
        torch.cuda.get_device_name() if cuda else name,
        kind,
        "sm_{}{}".format(*torch.cuda.get_device_capability()) if cuda else torch.backends.cpu.get_cpu_capability(),
        torch.get_num_threads(),
        torch.__version__,
        torchvision.__version__,
        timm.__version__,
        mlpzoo.__version__,
        platform.python_version(),
        commit(),
        torch.get_float32_matmul_precision(),
    )
    return dict(zip(COLUMNS, values, strict=True))


def moment() -> Row:
    """The columns that change during a run: the time in UTC, and the machine's load average over a minute."""
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    return {"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"), "load": load}


def cpu() -> tuple[str, str]:
    """The first processor's model name, and its kind: vendor, family and model number, such as `AuthenticAMD 25/1`.

    The name alone does not say which instructions it has. Where the system does not tell, both are the architecture.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    except OSError:
        lines = []
    about = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    kind = platform.machine()
    for keys in (("vendor_id", "cpu family", "model"), ("CPU implementer", "CPU architecture", "CPU part")):
        if all(key in about for key in keys):
            kind = "{} {}/{}".format(*(about[key] for key in keys))
    return about.get("model name", platform.machine()), kind


def commit() -> str:
    """Short hash of HEAD, with `-dirty` if anything but the results differs from it; `unknown` without git."""
    try:
        head = git("rev-parse", "--short", "HEAD")
        changes = git("status", "--porcelain", "--", ".", ":!benchmarks/results")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}-dirty" if changes else head


def resolve_commit(ref: str) -> str:
    """Full hash of a commit, branch or tag of this checkout; ValueError where there is none, or no checkout."""
    try:
        top = git("rev-parse", "--show-toplevel")
    except (OSError, subprocess.CalledProcessError):
        top = ""
    if not top or Path(top).resolve() != ROOT:
        raise ValueError("--base needs a git checkout of mlpzoo: these files are in none")
    try:
        return git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    except subprocess.CalledProcessError:
        raise ValueError(f"--base: git knows no commit '{ref}': give a hash, a branch or a tag") from None


def git(*arguments: str) -> str:
    """What git says to a command in this checkout."""
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()

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
    values = (
        torch.cuda.get_device_name() if cuda else cpu_name(),
        cpu_kind(),
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


def cpu_name() -> str:
    """The processor's model name, or its architecture where the system does not tell."""
    return _cpuinfo().get("model name") or platform.machine()


def cpu_kind() -> str:
    """Vendor, family and model number, such as `AuthenticAMD 25/1`; the architecture where the system does not tell.

    The name alone does not say which instructions and which libraries are fast.
    """
    about = _cpuinfo()
    vendor = about.get("vendor_id") or about.get("CPU implementer")
    family, model = about.get("cpu family") or about.get("CPU architecture"), about.get("model") or about.get("CPU part")
    return f"{vendor} {family}/{model}" if vendor else platform.machine()


def commit() -> str:
    """Short hash of HEAD, with `-dirty` if anything but the results differs from it; `unknown` without git."""
    try:
        head = git("rev-parse", "--short", "HEAD")
        changes = git("status", "--porcelain", "--", ".", ":!benchmarks/results")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}-dirty" if changes else head


def resolve_commit(ref: str) -> str:
    """Full hash of a commit, branch or tag of this checkout.

    Raises:
        ValueError: when there is no such thing, or no checkout.
    """
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


def _cpuinfo() -> dict[str, str]:
    """What Linux tells of the first processor."""
    try:
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}

"""Where a number was measured: device, versions and the state of the tree. Never a host name or a path."""

import datetime
import platform
import subprocess
from pathlib import Path

import timm
import torch

import mlpzoo

ROOT = Path(__file__).resolve().parents[1]


def describe(device: str) -> dict[str, str | int]:
    """The columns that every row of a run shares, by name. To be read at its start: the tree may change meanwhile."""
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else cpu_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "mlpzoo": mlpzoo.__version__,
        "python": platform.python_version(),
        "commit": commit(),
        "matmul_precision": torch.get_float32_matmul_precision(),
    }


def now() -> str:
    """The time in UTC."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def cpu_name() -> str:
    """The processor's model name, or its architecture where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


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

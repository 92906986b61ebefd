"""Checkpoints of a run: written atomically, verified by hash when read, the newest few kept.

A checkpoint is a folder `step-00001234` with `model.safetensors`, `ema.safetensors` where there is a moving average,
`state.pt` with everything else that resuming needs, and `manifest.json`, the size and SHA-256 of each of these. It is
written under another name, flushed to the disk, and renamed.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
EMA = "ema.safetensors"
STATE = "state.pt"

LITTLE = 1 << 20
"""Bytes left on a disk that is as good as full."""

State = dict[str, Any]
"""Nested dictionaries and lists of tensors, numbers and strings: what `torch.load` reads without unpickling code."""


class CheckpointFolder:
    """The checkpoints of one run.

    Args:
        folder: where they are; made when the first is written.
        keep: how many of the newest are kept.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep

    def steps(self) -> list[int]:
        """Updates after which a checkpoint was written, newest first; damaged ones included."""
        if not self.folder.is_dir():
            return []
        found = (re.fullmatch(r"step-(\d+)", path.name) for path in self.folder.iterdir())
        return sorted((int(match[1]) for match in found if match), reverse=True)

    def path(self, step: int) -> Path:
        """The folder of the checkpoint after that many updates."""
        return self.folder / f"step-{step:08d}"

    def save(self, step: int, weights: Mapping[str, Tensor], state: State, ema: Mapping[str, Tensor] | None) -> Path:
        """Write a checkpoint, then remove the oldest beyond `keep`.

        Raises:
            OSError: when it cannot be written; earlier checkpoints are unchanged.
        """
        target = self.path(step)
        partial: Path | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=self.folder))
            for name, tensors in ((WEIGHTS, weights), (EMA, ema)):
                if tensors is not None:
                    save_file({key: value.contiguous() for key, value in tensors.items()}, partial / name)
            torch.save(state, partial / STATE)
            manifest = {
                file.name: {"bytes": file.stat().st_size, "sha256": _sha256(file)} for file in partial.iterdir()
            }
            (partial / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
            for file in partial.iterdir():
                # Temporary files may be readable by their owner alone; a run may be shared.
                file.chmod(0o644)
                _flush(file)
            partial.chmod(0o755)
            _flush(partial)
            self._remove(target)
            if target.exists():
                # With something of somebody else's in it. The manifest goes last: it says that the rest is whole.
                for file in sorted(partial.iterdir(), key=lambda file: file.name == MANIFEST):
                    file.replace(target / file.name)
            else:
                partial.rename(target)
            _flush(self.folder)
        except (OSError, RuntimeError, SafetensorError) as error:
            newest = self.steps()
            kept = f"; the last one is {self.path(newest[0])}" if newest else ""
            raise OSError(f"cannot write the checkpoint {target}: {self._reason(error)}{kept}") from error
        finally:
            if partial is not None:
                shutil.rmtree(partial, ignore_errors=True)
        newest_whole = [step for step in self.steps() if (self.path(step) / MANIFEST).exists()][: self.keep]
        for old in set(self.steps()) - set(newest_whole):
            with contextlib.suppress(OSError):
                self._remove(self.path(old))
        return target

    def remove_all(self) -> None:
        """Remove every checkpoint, and the remains of an interrupted write.

        Raises:
            OSError: when something cannot be removed.
        """
        self.clear()
        for step in self.steps():
            self._remove(self.path(step))

    def _reason(self, error: Exception) -> str:
        """Why a checkpoint cannot be written. PyTorch and safetensors report a full disk as errors of their own."""
        full = not isinstance(error, OSError) and shutil.disk_usage(self.folder).free < LITTLE
        return os.strerror(errno.ENOSPC) if full else getattr(error, "strerror", None) or str(error).splitlines()[0]

    @staticmethod
    def _remove(path: Path) -> None:
        """Remove a checkpoint's own files, and its folder if nothing else is in it."""
        # The manifest first: without it, what is left is no checkpoint.
        for name in (MANIFEST, WEIGHTS, EMA, STATE):
            (path / name).unlink(missing_ok=True)
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()

    def newest(self, say: Callable[[str], object]) -> int | None:
        """The step of the newest complete checkpoint; None if there is none.

        Args:
            say: called with one line for each damaged checkpoint that is passed over.
        """
        for step in self.steps():
            problem = _problem(self.path(step))
            if problem is None:
                return step
            say(f"the checkpoint {self.path(step)} is damaged ({problem}): going back to the one before")
        return None

    def read(self, step: int) -> tuple[dict[str, Tensor], State, dict[str, Tensor] | None]:
        """Weights, state and moving average of a checkpoint, on the CPU."""
        path = self.path(step)
        ema = load_file(path / EMA) if (path / EMA).exists() else None
        return load_file(path / WEIGHTS), self.state(step), ema

    def state(self, step: int) -> State:
        """The state of a checkpoint alone."""
        state: State = torch.load(self.path(step) / STATE, map_location="cpu", weights_only=True)
        return state

    def clear(self) -> None:
        """Remove the remains of an interrupted write."""
        for path in self.folder.glob(".partial-*"):
            shutil.rmtree(path, ignore_errors=True)


def _problem(path: Path) -> str | None:
    """Why a checkpoint cannot be used; None where it is complete."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        for name, expected in manifest.items():
            file = path / name
            if Path(name).name != name or not file.is_file():
                return f"{name} is missing"
            if file.stat().st_size != expected["bytes"] or _sha256(file) != expected["sha256"]:
                return f"{name} is not what was written"
        missing = {WEIGHTS, STATE} - set(manifest)
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return f"{MANIFEST} is not readable"
    return f"{missing.pop()} is missing" if missing else None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Files that appear whole or not at all."""

import errno
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place once the block has ended well; else nothing changes.

    Raises:
        OSError: when it cannot be written, with `path` as the file that it names.
    """
    with replacing_all(path) as (temporary,):
        yield temporary


@contextmanager
def replacing_all(*paths: Path) -> Iterator[list[Path]]:
    """As `replacing`, for several files: all are on the disk before the first of them takes its place, in order."""
    temporaries: list[Path] = []
    made: list[Path] = []
    try:
        for path in paths:
            made += [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
            path.parent.mkdir(parents=True, exist_ok=True)
            # Cut, for the whole must not be longer than a file's name may be.
            descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name[:40]}.", suffix=".part")
            os.close(descriptor)
            temporaries.append(Path(name))
        yield temporaries
        for temporary in temporaries:
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            # mkstemp lets only the owner read; a released file is for everybody.
            temporary.chmod(0o644)
        for temporary, path in zip(temporaries, paths, strict=True):
            temporary.replace(path)
        made.clear()
    except OSError as error:
        names = dict(zip(map(str, temporaries), map(str, paths), strict=False))
        if error.errno is None or (error.filename is not None and str(error.filename) not in names):
            raise
        # A full disk is reported without a name; the temporary one would tell nobody anything.
        named = names.get(str(error.filename), ", ".join(map(str, paths)))
        raise OSError(error.errno, error.strerror, named) from error
    finally:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)
        for folder in made:
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name a file in errors of the system that name none, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def disk_is_full(error: OSError) -> bool:
    """Whether there is no room left, so that nothing else can be written either."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def write_safetensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors into a safetensors file, whole or not at all."""
    with replacing(path) as temporary:
        save_tensors(tensors, temporary, metadata)


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors into a safetensors file.

    Raises:
        OSError: when it cannot be written.
    """
    dense = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    try:
        save_file(dense, path, metadata={"format": "pt", **(metadata or {})})
    except SafetensorError as error:
        # The library reports the system's errors, such as a full disk, as text of its own.
        found = re.search(r"os error (\d+)", str(error))
        if not found:
            raise
        number = int(found[1])
        raise OSError(number, os.strerror(number), str(path)) from error


def write_text(text: str, path: Path) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")

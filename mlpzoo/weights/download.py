"""Released files from the network into a cache folder: resumed, verified, and there whole or not at all."""

import errno
import hashlib
import logging
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import torch
from filelock import FileLock, Timeout
from huggingface_hub import hf_hub_download
from huggingface_hub import utils as hub

from mlpzoo.weights._files import CheckpointError
from mlpzoo.weights._http import URL, PassingError, discard, transfer

_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.\w+$")

_logger = logging.getLogger("mlpzoo")


def cached_path(url: str, cache_dir: str | Path | None = None) -> Path:
    """Where `fetch` keeps the file of a URL, there or not. A file put there by hand is used as if downloaded.

    Releases share file names (`imagenet1k/Mixer-B_16.npz` and `imagenet21k/Mixer-B_16.npz`), so ours hold the whole
    path to be read and the start of the URL's SHA-256 to be unique, in a folder `mlpzoo` of their own.

    Args:
        url: the URL.
        cache_dir: folder to use instead of PyTorch's, `torch.hub.get_dir()/checkpoints`, which the environment
            variable `TORCH_HOME` moves.
    """
    path = PurePosixPath(unquote(urlsplit(url).path))
    suffix = re.sub(r"[^\w.]+", "", path.suffix, flags=re.ASCII)[:20]
    readable = re.sub(r"[^\w.-]+", "-", str(path).removesuffix(path.suffix), flags=re.ASCII).strip("-.")[-150:]
    unique = hashlib.sha256(url.encode()).hexdigest()[:8]
    return cache_folder(cache_dir) / f"{readable or 'file'}.{unique}{suffix}"


def cache_folder(cache_dir: str | Path | None = None) -> Path:
    """The folder of our own in the cache, there or not; the argument as in `cached_path`."""
    return _folder(cache_dir) / "mlpzoo"


def fetch(
    url: str,
    *,
    sha256: str | None = None,
    cache_dir: str | Path | None = None,
    progress: bool = True,
    timeout: float = 30.0,
    backoff: Sequence[float] = (1.0, 2.0, 4.0),
) -> Path:
    """Path of a file from the web, downloaded unless it is in the cache.

    The file takes its name only when whole and verified. A download that is cut stays beside it as `.part` and is
    resumed by the next call if the server still has the same version. Of several processes that ask at once, one
    downloads and the others wait. With the environment variable `HF_HUB_OFFLINE=1` no request is made.

    Args:
        url: an `http` or `https` URL.
        sha256: expected SHA-256, 64 hexadecimal digits. If not given, the digits in the file name are expected, as in
            `resnet50-10536d42.pth`, the way `torch.hub` names files. Where either is known, files in the cache are
            verified too, and one that `torch.hub` or timm has put there under its plain name is used.
        cache_dir: folder to use instead of PyTorch's, see `cached_path`.
        progress: show a progress bar on standard error when that is a terminal.
        timeout: seconds the server may be silent.
        backoff: seconds to wait before each new try, after a failure that may pass.

    Raises:
        CheckpointError: when the file cannot be had, saying why, what to do, and where to put it by hand.
        ValueError: when `sha256` is not one.
    """
    expected = _checked(sha256)
    if not URL.fullmatch(url):
        raise CheckpointError(
            f"cannot get {url!r}: give an http or https URL without user name and password, special characters "
            "percent-encoded; a file on disk is loaded by its path"
        )
    name = PurePosixPath(urlsplit(url).path).name
    if not expected and (in_name := _HASH_IN_NAME.search(name)):
        expected = in_name[1]
    target = cached_path(url, cache_dir)
    try:
        if _is_cached(target, expected):
            return target
        shared = _folder(cache_dir) / name
        if expected and shared.is_file() and sha256_of(shared).startswith(expected):
            return shared
        if _offline():
            raise CheckpointError("it is not in the cache, and HF_HUB_OFFLINE is set, so nothing is downloaded")
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target):
            if not _is_cached(target, expected):
                _download(url, target, expected, progress, timeout, backoff)
        return target
    except CheckpointError as error:
        reason = str(error)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = f"the disk of {target.parent} is full. What came is kept: free some space and call again"
        else:
            reason = (
                f"{error.filename or target.parent}: {error.strerror or error}. Choose another cache folder by "
                "cache_dir or the environment variable TORCH_HOME"
            )
    raise CheckpointError(f"cannot get {url}: {reason}. To do it by hand, save the file as {target}")


def fetch_hub(
    repo_id: str,
    filename: str,
    *,
    revision: str | None = None,
    sha256: str | None = None,
    cache_dir: str | Path | None = None,
    progress: bool = True,
    token: bool | str = False,
) -> Path:
    """Path of a file on the Hugging Face hub, downloaded by its client unless it is in that client's cache.

    Args:
        repo_id: repository, as in `timm/mixer_b16_224.goog_in21k`, with or without `hf-hub:` before it.
        filename: the file in it.
        revision: branch, tag or commit; the default branch if not given.
        sha256: expected SHA-256, 64 hexadecimal digits.
        cache_dir: folder to use instead of the client's, which the environment variable `HF_HOME` moves.
        progress: show the client's progress bar.
        token: what to authenticate with: nothing, or, for private repositories, a token or True for the one stored
            on this machine.

    Raises:
        CheckpointError: when the file cannot be had, saying why.
        ValueError: when `sha256` is not one.
    """
    expected = _checked(sha256)
    repo_id = repo_id.removeprefix("hf-hub:")
    silence = not progress and not hub.are_progress_bars_disabled()
    if silence:
        hub.disable_progress_bars()
    try:
        path = hf_hub_download(
            repo_id, filename, revision=revision, cache_dir=cache_dir, token=token, local_files_only=_offline()
        )
        _verify(Path(path), expected)
        return Path(path)
    except hub.GatedRepoError:
        reason = "its owners grant access one by one: ask for it on the repository's page, then pass token="
    except hub.RepositoryNotFoundError:
        reason = "there is no such repository, or it is private: check the name, or pass token="
    except hub.RevisionNotFoundError:
        reason = f"the repository has no revision {revision}"
    except hub.LocalEntryNotFoundError as error:
        why = "HF_HUB_OFFLINE is set, so nothing is downloaded"
        reason = f"it is not in the cache, and {why if _offline() else f'the hub gave none ({_line(error)})'}"
    except hub.EntryNotFoundError:
        reason = "the repository has no such file"
    except Exception as error:
        # The client's errors share no base class, and those of its HTTP library have changed with its versions.
        reason = _line(error)
    finally:
        if silence:
            hub.enable_progress_bars()
    raise CheckpointError(f"cannot get {filename} of {repo_id} from the Hugging Face hub: {reason}")


def _line(error: BaseException) -> str:
    """The cause of an error in one line."""
    return " ".join(str(error.__cause__ or error).split()) or type(error).__name__


def _checked(sha256: str | None) -> str:
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ValueError(f"sha256 must be 64 hexadecimal digits, got {sha256!r}")
    return (sha256 or "").lower()


def _folder(cache_dir: str | Path | None) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" if cache_dir is None else Path(cache_dir).expanduser()


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def hash_in_name(name: str) -> str:
    """The start of a file's SHA-256 at the end of its name, as PyTorch writes it; empty where there is none."""
    found = _HASH_IN_NAME.search(name)
    return found[1] if found else ""


def sha256_of(path: Path) -> str:
    """A file's SHA-256, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _verify(path: Path, expected: str) -> None:
    if expected and not (found := sha256_of(path)).startswith(expected):
        raise CheckpointError(
            f"{path} is not the file expected: its SHA-256 is {found}, not {expected}. Delete it to download anew"
        )


def _is_cached(target: Path, expected: str) -> bool:
    if not target.is_file():
        return False
    _verify(target, expected)
    return True


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Keep other processes and threads from the same download. The lock file stays: deleting it would let two in."""
    lock = FileLock(f"{target}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _logger.warning("waiting for another process that downloads %s", target)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _download(url: str, target: Path, expected: str, progress: bool, timeout: float, backoff: Sequence[float]) -> None:
    part = target.with_name(f"{target.name}.part")
    for wait in (*backoff, None):
        try:
            transfer(url, part, hash_known=bool(expected), progress=progress, timeout=timeout)
            break
        except PassingError as error:
            if wait is None:
                raise
            _logger.warning("%s: %s. Next try in %g s", url, error, wait)
            time.sleep(wait)
    if expected and not (found := sha256_of(part)).startswith(expected):
        discard(part)
        raise CheckpointError(
            f"what came is not the file expected: its SHA-256 is {found}, not {expected}. It was deleted. If the next "
            "try brings the same, the file was replaced on the server or on the way"
        )
    os.replace(part, target)
    discard(part)

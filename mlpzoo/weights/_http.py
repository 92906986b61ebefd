"""One HTTP request that brings a partial file up to the whole, from where it stands.

The standard library makes it, as in `torch.hub`: no HTTP client is among our dependencies, and the one that the
Hugging Face client brings has changed with its versions. No credentials are sent, and none are taken from URLs.

Beside `NAME.part`, `NAME.part.tag` holds what the server calls that version of the file, its ETag or date: only the
same version is resumed.
"""

import http.client
import os
import re
import shutil
import socket
import ssl
import urllib.request
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urljoin, urlsplit

from huggingface_hub.utils import tqdm

from mlpzoo._version import __version__
from mlpzoo.weights._files import CheckpointError

MAX_BYTES = 16 << 30
"""Largest file taken: four billion parameters in float32."""

URL = re.compile(r"https?://(?:[\w.-]+|\[[0-9a-f:]+\])(?::\d{1,5})?(?:/[!-~]*)?", re.ASCII | re.IGNORECASE)
"""URLs taken: of the web, without user name and password, percent-encoded."""

_BLOCK = 1 << 20


class PassingError(CheckpointError):
    """A failure that may be gone at the next try."""


def transfer(url: str, part: Path, *, hash_known: bool, progress: bool, timeout: float) -> None:
    """Download into a partial file, going on from what it holds if the server still has the same version.

    Args:
        url: one that matches `URL`.
        part: the partial file; its folder exists. Whole when this returns, kept as far as it came when this raises.
        hash_known: the caller verifies the file, so a server that does not announce its length is no danger.
        progress: show a progress bar on standard error when that is a terminal.
        timeout: seconds the server may be silent.

    Raises:
        PassingError: when another try may succeed.
        CheckpointError: when it would not.
        OSError: when the disk is at fault.
    """
    tag = _tag_file(part).read_text("latin-1") if _tag_file(part).is_file() else ""
    offset = part.stat().st_size if tag and part.is_file() else 0
    headers = {"User-Agent": f"mlpzoo/{__version__}"}
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": tag}
    with _open(urllib.request.Request(url, headers=headers), part, timeout) as response:
        kind = response.headers.get("Content-Encoding") or response.headers.get_content_type()
        if kind in ("text/html", "gzip", "deflate", "br", "zstd"):
            raise CheckpointError(
                f"the server sent {kind}, not the file as it is: see in a browser whether it, or the network, asks for "
                "a login"
            )
        if response.status == 206 and offset:
            if not _continues(response, offset, tag):
                discard(part)
                raise PassingError("the server has another file now: starting over")
        elif response.status == 200:
            offset = 0
            discard(part)
            # Before the data: a part without a tag is never resumed, one with an older tag would be.
            _tag_file(part).write_text(_tag(response.headers), "latin-1")
        else:
            raise CheckpointError(f"the server answered {response.status} where it should send the file")
        total = None if response.length is None else offset + response.length
        _check_size(total, offset, part, must_be_known=not response.chunked and not hash_known)
        name = part.name.removesuffix(".part")
        silent = None if progress else True  # None: unless standard error is a terminal
        bar = tqdm(total=total, initial=offset, unit="B", unit_scale=True, desc=name, disable=silent)
        with bar, part.open("ab") as stream:
            while (size := stream.tell()) <= MAX_BYTES and (block := _read(response, size, timeout)):
                stream.write(block)
                bar.update(len(block))
            stream.flush()
            os.fsync(stream.fileno())
    if size > MAX_BYTES:
        discard(part)
        raise CheckpointError(f"the server sends more than {MAX_BYTES} bytes, more than any released file has; refused")
    if total is not None and size < total:
        raise PassingError(_cut(size, f"the connection was closed before the end of {total} bytes"))
    if not size:
        raise CheckpointError("the server sent an empty file")


def discard(part: Path) -> None:
    """Delete what came so far."""
    part.unlink(missing_ok=True)
    _tag_file(part).unlink(missing_ok=True)


def _tag_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.tag")


def _tag(headers: Message) -> str:
    """The server's name for the version, or nothing. Weak ETags cannot ask for the rest of a file."""
    entity = headers.get("ETag", "")
    return entity if entity.startswith('"') else headers.get("Last-Modified", "")


def _continues(response: http.client.HTTPResponse, offset: int, tag: str) -> bool:
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
    return (
        span is not None
        and int(span[1]) == offset
        and response.length == int(span[2]) - offset
        and _tag(response.headers) == tag
    )


def _check_size(total: int | None, offset: int, part: Path, *, must_be_known: bool) -> None:
    if total is None:
        if must_be_known:
            raise CheckpointError("the server does not say how long the file is, so a cut could not be noticed")
        return
    if total > MAX_BYTES:
        raise CheckpointError(f"the server announces {total} bytes, more than any released file has; refused")
    free = shutil.disk_usage(part.parent).free
    if total - offset > free:
        raise CheckpointError(
            f"{total - offset} bytes are to come, and the disk of {part.parent} has {free} free: free some space and "
            "call again"
        )


def _read(response: http.client.HTTPResponse, size: int, timeout: float) -> bytes:
    """What has arrived, without waiting for more: a connection that then breaks or stalls takes nothing with it."""
    try:
        return response.read1(_BLOCK)
    except (OSError, http.client.HTTPException) as error:
        raise PassingError(_cut(size, _reason(error, timeout))) from None


def _cut(size: int, reason: str) -> str:
    return f"{reason}. The {size} bytes that came are kept, and the next try goes on from there if the server lets it"


def _open(request: urllib.request.Request, part: Path, timeout: float) -> http.client.HTTPResponse:
    try:
        response: http.client.HTTPResponse = urllib.request.build_opener(_WebRedirects).open(request, timeout=timeout)
        return response
    except CheckpointError:
        raise
    except HTTPError as error:
        error.close()
        answer = f"{error.code} {http.client.responses.get(error.code, '')}".strip()
        if error.code == 416:
            discard(part)
            raise PassingError(f"the server cannot resume ({answer}): starting over") from None
        if error.code == 429 or error.code >= 500:
            raise PassingError(f"the server is busy or out of order ({answer}): try again later") from None
        if error.code in (404, 410):
            raise CheckpointError(f"the server has no such file ({answer}); it may have moved") from None
        if error.code < 400:
            raise CheckpointError(f"the server redirects in a circle or to nowhere ({answer})") from None
        raise CheckpointError(f"the server refuses ({answer})") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        cause = error.reason if isinstance(error, URLError) else error
        passing = not isinstance(cause, ssl.SSLCertVerificationError | ValueError)
        raise (PassingError if passing else CheckpointError)(_reason(cause, timeout)) from None


def _reason(error: Any, timeout: float) -> str:
    if isinstance(error, TimeoutError):
        return f"the server was silent for {timeout:g} s"
    if isinstance(error, socket.gaierror):
        return f"the server's name cannot be resolved ({error.strerror}): check the network"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not trusted ({error.verify_message})"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection was closed before the end"
    if isinstance(error, OSError):
        return f"there is no connection, or it broke ({error.strerror or error})"
    return f"what the server answers is not proper HTTP ({error})"


class _WebRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects to the web only, and from https to https only."""

    def http_error_302(self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any) -> Any:
        new = urljoin(req.full_url, headers.get("Location", ""))
        if not URL.fullmatch(new) or (req.type == "https" and urlsplit(new).scheme != "https"):
            fp.close()
            raise CheckpointError(f"the server redirects to {new!r}; refused")
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

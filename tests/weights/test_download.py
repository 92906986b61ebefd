"""Downloads, from a server in this process: whole and verified under their name, or not there."""

import errno
import functools
import hashlib
import io
import logging
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import URLError

import huggingface_hub
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mlpzoo
from mlpzoo.weights import CheckpointError, _http, download
from mlpzoo.weights.download import cached_path, fetch, fetch_hub

BODY = bytes(range(256)) * 1200
SHA256 = hashlib.sha256(BODY).hexdigest()
HALF = len(BODY) // 2
DATE = "Wed, 21 Oct 2015 07:28:00 GMT"
QUICK = {"backoff": (0, 0, 0), "progress": False, "timeout": 20}


class Answer:
    """How the server answers one request. As it is: whole files and ranges, the way large stores do."""

    def __init__(
        self, body=BODY, *, status=200, etag='"v1"', ranges=True, length=True, stop=None, hold=None, headers=()
    ):
        self.body, self.status, self.etag, self.ranges, self.length = body, status, etag, ranges, length
        self.stop, self.hold, self.headers = stop, hold, dict(headers)

    def give(self, handler):
        asked = handler.headers
        start, status, body = 0, self.status, self.body
        version = self.etag if self.etag and self.etag[0] == '"' else self.headers.get("Last-Modified")
        if self.ranges and asked.get("Range") and asked.get("If-Range") == version:
            start = int(asked["Range"].removeprefix("bytes=").removesuffix("-"))
            status = 206 if start < len(body) else 416
        handler.send_response(status)
        headers = {"Content-Type": "application/octet-stream", "ETag": self.etag}
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        if self.length:
            headers["Content-Length"] = str(len(body) - start)
        for name, value in {**headers, **self.headers}.items():
            if value is not None:
                handler.send_header(name, value)
        handler.end_headers()
        if status in (200, 206) and handler.command == "GET":
            handler.wfile.write(body[start : self.stop])
        if self.hold:
            handler.wfile.flush()
            self.hold.wait(20)


class Server(ThreadingHTTPServer):
    """Answers from a script, then normally; remembers the requests' headers."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.requests, self.seen = [], [], threading.Event()

    def url(self, path="/zoo/small/weights.npz"):
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.server.requests.append(dict(self.headers))
        self.server.seen.set()
        (self.server.script.pop(0) if self.server.script else Answer()).give(self)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def running():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def server(running):
    running.script, running.requests, running.seen = [], [], threading.Event()
    return running


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


def files(folder: Path) -> set[str]:
    """Names in a folder, locks aside."""
    return {path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def test_downloads_once(server, tmp_path):
    path = fetch(server.url(), sha256=SHA256, cache_dir=tmp_path, **QUICK)
    assert path == cached_path(server.url(), tmp_path)
    assert path.read_bytes() == BODY
    assert fetch(server.url(), sha256=SHA256.upper(), cache_dir=tmp_path, **QUICK) == path
    assert len(server.requests) == 1
    assert files(tmp_path) == {path.name}


def test_sends_no_credentials(server, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch(server.url(), cache_dir=tmp_path, **QUICK)
    assert set(server.requests[0]) == {"Accept-Encoding", "Host", "User-Agent", "Connection"}


def test_default_folder_is_the_one_of_torch_hub(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert cached_path("https://a.org/b/c.npz").parent == tmp_path / "hub" / "checkpoints" / "mlpzoo"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("https://a.org/in1k/Mixer-B_16.npz", "https://a.org/in21k/Mixer-B_16.npz"),
        ("https://a.org/m/w.pth", "https://b.org/m/w.pth"),
        ("https://a.org/m-n/w.pth", "https://a.org/m/n-w.pth"),
        ("https://a.org/w.pth?v=1", "https://a.org/w.pth?v=2"),
        ("https://a.org/W.pth", "https://a.org/w.pth"),
    ],
)
def test_names_in_the_cache_are_one_per_url(first, second):
    # Some file systems ignore case.
    assert str(cached_path(first, "x")).lower() != str(cached_path(second, "x")).lower()


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=400))
def test_names_in_the_cache_are_plain(path):
    cached = cached_path(f"https://a.org/{path}", "cache")
    assert cached.parent == Path("cache/mlpzoo")
    assert len(cached.name) < 200
    assert cached.name.isascii()
    assert not set(cached.name) & set('/\\:*?"<>| ')
    assert not cached.name.startswith(".")


def test_uses_what_was_put_there_by_hand(server, tmp_path):
    path = cached_path(server.url(), tmp_path)
    path.parent.mkdir()
    path.write_bytes(BODY)
    assert fetch(server.url(), cache_dir=tmp_path, **QUICK) == path
    assert not server.requests


def test_uses_what_torch_hub_put_there_if_it_can_be_told(server, tmp_path):
    shared = tmp_path / "weights.npz"
    shared.write_bytes(BODY)
    assert fetch(server.url(), sha256=SHA256, cache_dir=tmp_path, **QUICK) == shared
    shared.write_bytes(b"the file of that name from elsewhere")
    assert fetch(server.url(), sha256=SHA256, cache_dir=tmp_path, **QUICK) == cached_path(server.url(), tmp_path)
    assert fetch(server.url("/another/weights.npz"), cache_dir=tmp_path, **QUICK) != shared
    assert len(server.requests) == 2


def test_wrong_file_in_the_cache_is_named_and_left(server, tmp_path):
    path = cached_path(server.url(), tmp_path)
    path.parent.mkdir()
    path.write_bytes(b"other")
    with pytest.raises(CheckpointError, match="not the file expected.*Delete it"):
        fetch(server.url(), sha256=SHA256, cache_dir=tmp_path, **QUICK)
    assert path.read_bytes() == b"other"


@pytest.mark.parametrize("how", ["argument", "name"])
def test_wrong_content_is_deleted(server, tmp_path, how):
    url = server.url("/weights-0123abcd.pth") if how == "name" else server.url()
    with pytest.raises(CheckpointError, match=f"SHA-256 is {SHA256}, not .*It was deleted") as caught:
        fetch(url, sha256="0" * 64 if how == "argument" else None, cache_dir=tmp_path, **QUICK)
    assert url in str(caught.value)
    assert str(cached_path(url, tmp_path)) in str(caught.value)
    assert len(server.requests) == 1
    assert not files(tmp_path)


def test_hash_in_the_name(server, tmp_path):
    url = server.url(f"/weights-{SHA256[:8]}.pth")
    (tmp_path / f"weights-{SHA256[:8]}.pth").write_bytes(b"damaged")
    assert fetch(url, cache_dir=tmp_path, **QUICK).read_bytes() == BODY
    # An argument goes before digits that may be a date.
    assert fetch(server.url("/weights-20210312.pth"), sha256=SHA256, cache_dir=tmp_path, **QUICK).read_bytes() == BODY


def test_rejects_a_hash_that_is_none():
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        fetch("https://a.org/b", sha256="10536d42")


def test_cut_download_is_kept_and_resumed_by_the_next_call(server, tmp_path):
    server.script = [Answer(stop=HALF)]
    path = cached_path(server.url(), tmp_path)
    with pytest.raises(CheckpointError, match=f"The {HALF} bytes that came are kept"):
        fetch(server.url(), cache_dir=tmp_path, **{**QUICK, "backoff": ()})
    assert files(tmp_path) == {f"{path.name}.part", f"{path.name}.part.tag"}
    assert fetch(server.url(), cache_dir=tmp_path, **QUICK).read_bytes() == BODY
    assert server.requests[1]["Range"] == f"bytes={HALF}-"
    assert server.requests[1]["If-Range"] == '"v1"'
    assert files(tmp_path) == {path.name}


@given(st.lists(st.integers(0, len(BODY) - 1), max_size=4), st.sampled_from(['"v1"', 'W/"v1"', None]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_however_often_it_is_cut_the_file_is_right(running, tmp_path_factory, stops, etag, ranges):
    tmp_path = tmp_path_factory.mktemp("cuts")
    dated = {"Last-Modified": DATE}
    running.script = [Answer(stop=stop, etag=etag, ranges=ranges, headers=dated) for stop in stops]
    final = Answer(etag=etag, ranges=ranges, headers=dated)
    running.script.append(final)
    try:
        path = fetch(running.url(), cache_dir=tmp_path, **{**QUICK, "backoff": (0,) * len(stops)})
        assert path.read_bytes() == BODY
        assert files(tmp_path) == {path.name}
    finally:
        running.script = []
        shutil.rmtree(tmp_path)


class Careless(Answer):
    """Gives the rest of a file though it is another version than the one asked for."""

    def give(self, handler):
        handler.headers.replace_header("If-Range", self.etag)
        super().give(handler)


OTHER = bytes(reversed(BODY))


@pytest.mark.parametrize(
    "second",
    [
        Answer(OTHER, etag='"v2"'),
        Careless(OTHER, etag='"v2"'),
        Answer(OTHER, headers={"Content-Range": f"bytes 0-{len(BODY) - 1}/{len(BODY)}"}),
        Answer(OTHER, headers={"Content-Range": f"bytes {HALF}-{len(BODY)}/{len(BODY) + 1}"}),
        Answer(OTHER, headers={"Content-Range": None}),
    ],
    ids=["other version", "careless", "other start", "other length", "no range"],
)
def test_never_joins_two_versions(server, tmp_path, second):
    server.script = [Answer(stop=HALF), second, Answer(OTHER, etag='"v2"')]
    assert fetch(server.url(), cache_dir=tmp_path, **QUICK).read_bytes() == OTHER
    assert server.requests[1]["Range"] == f"bytes={HALF}-"


def test_starts_over_when_there_is_no_such_range(server, tmp_path):
    server.script = [Answer(stop=HALF), Answer(BODY[:10])]
    assert fetch(server.url(), cache_dir=tmp_path, **QUICK).read_bytes() == BODY
    assert ["Range" in request for request in server.requests] == [False, True, False]


@pytest.mark.parametrize(
    ("etag", "date", "version"),
    [(None, DATE, DATE), ('W/"v1"', DATE, DATE), ('"v1"', DATE, '"v1"'), ('W/"v1"', None, None), (None, None, None)],
)
def test_resumes_what_has_a_version(server, tmp_path, etag, date, version):
    server.script = [Answer(stop=stop, etag=etag, headers={"Last-Modified": date}) for stop in (HALF, None)]
    assert fetch(server.url(), cache_dir=tmp_path, **QUICK).read_bytes() == BODY
    assert server.requests[1].get("Range") == (f"bytes={HALF}-" if version else None)
    assert server.requests[1].get("If-Range") == version


def test_chunks(server, tmp_path):
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY[:HALF], BODY[HALF:], b""))
    chunked = {"length": False, "ranges": False, "headers": {"Transfer-Encoding": "chunked"}}
    server.script = [Answer(chunks, **chunked, stop=stop) for stop in (5, HALF, HALF + 13, len(chunks) - 5, None)]
    for _ in range(4):
        with pytest.raises(CheckpointError, match=r"closed before the end. The \d+ bytes that came are kept"):
            fetch(server.url(), cache_dir=tmp_path, **{**QUICK, "backoff": ()})
        assert not cached_path(server.url(), tmp_path).exists()
    assert fetch(server.url(), cache_dir=tmp_path, **QUICK).read_bytes() == BODY


@pytest.mark.parametrize("status", [429, 500, 503])
def test_tries_again_when_the_server_is_out_of_order(server, tmp_path, status, caplog):
    server.script = [Answer(b"", status=status)] * 2
    with caplog.at_level(logging.WARNING, "mlpzoo"):
        assert fetch(server.url(), cache_dir=tmp_path, **QUICK).read_bytes() == BODY
    assert len(server.requests) == 3
    assert f"({status} " in caplog.text


def test_gives_up_in_the_end(server, tmp_path):
    server.script = [Answer(b"", status=500)] * 4
    with pytest.raises(CheckpointError, match=r"500 Internal Server Error\): try again later.*do it by hand"):
        fetch(server.url(), cache_dir=tmp_path, **QUICK)
    assert len(server.requests) == 4
    assert not files(tmp_path)


def test_waits_between_tries(server, tmp_path, monkeypatch):
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    server.script = [Answer(b"", status=500)] * 2
    fetch(server.url(), cache_dir=tmp_path, progress=False)
    assert slept == [1, 2]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(b"", status=404), "has no such file .404 Not Found"),
        (Answer(b"", status=403), "refuses .403 Forbidden"),
        (Answer(b"", status=204), "answered 204"),
        (Answer(b"<html>", headers={"Content-Type": "text/html; charset=utf-8"}), "login"),
        (Answer(headers={"Content-Encoding": "gzip"}), "gzip"),
        (Answer(b""), "empty file"),
        (Answer(length=False), "does not say how long"),
        (Answer(b"", headers={"Content-Length": str(17 << 30)}), "announces 18253611008 bytes"),
        (
            Answer(b"", status=302, headers={"Location": "file:///etc/passwd"}),
            "redirects to 'file:///etc/passwd'; refused",
        ),
        (Answer(b"", status=301, headers={"Location": "ftp://a.org/b"}), "redirects to 'ftp://a.org/b'; refused"),
        (Answer(b"", status=308, headers={"Location": "http://me:secret@a.org/b"}), "refused"),
        (Answer(b"", status=302), "to nowhere|redirects in a circle"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_answers_are_errors_at_once(server, tmp_path, answer, words):
    server.script = [answer]
    with pytest.raises(CheckpointError, match=words) as caught:
        fetch(server.url(), cache_dir=tmp_path, **QUICK)
    message = str(caught.value)
    assert message.startswith(f"cannot get {server.url()}: the server ")
    assert str(cached_path(server.url(), tmp_path)) in message
    assert "\n" not in message
    assert not cached_path(server.url(), tmp_path).exists()


def test_a_login_page_does_not_cost_what_came_before(server, tmp_path):
    server.script = [Answer(stop=HALF), Answer(b"<html>", ranges=False, headers={"Content-Type": "text/html"})]
    with pytest.raises(CheckpointError, match="login"):
        fetch(server.url(), cache_dir=tmp_path, **QUICK)
    fetch(server.url(), cache_dir=tmp_path, **QUICK)
    assert server.requests[-1]["Range"] == f"bytes={HALF}-"


def test_follows_redirects(server, tmp_path):
    server.script = [Answer(b"", status=302, headers={"Location": "/elsewhere"})]
    assert fetch(server.url(), cache_dir=tmp_path, **QUICK).read_bytes() == BODY


def test_does_not_follow_from_https_to_http():
    request = _http.urllib.request.Request("https://a.org/b")
    with (
        open(os.devnull, "rb") as answer,
        pytest.raises(CheckpointError, match="redirects to 'http://a.org/c'; refused"),
    ):
        _http._WebRedirects().http_error_302(request, answer, 302, "", {"Location": "http://a.org/c"})


def test_length_unknown_but_hash_known(server, tmp_path):
    server.script = [Answer(length=False)]
    assert fetch(server.url(), sha256=SHA256, cache_dir=tmp_path, **QUICK).read_bytes() == BODY


def test_more_than_announced_is_not_read(server, tmp_path):
    server.script = [Answer(headers={"Content-Length": str(HALF)})]
    with pytest.raises(CheckpointError, match="SHA-256"):
        fetch(server.url(), sha256=SHA256, cache_dir=tmp_path, **QUICK)
    assert not files(tmp_path)


def test_endless_answer_is_stopped(server, tmp_path, monkeypatch):
    monkeypatch.setattr(_http, "MAX_BYTES", HALF)
    monkeypatch.setattr(_http, "_BLOCK", 4096)
    hold = threading.Event()
    server.script = [Answer(length=False, hold=hold)]
    with pytest.raises(CheckpointError, match=f"more than {HALF} bytes"):
        fetch(server.url(), sha256=SHA256, cache_dir=tmp_path, **{**QUICK, "timeout": 5, "backoff": ()})
    hold.set()
    assert not files(tmp_path)


def test_silent_server(server, tmp_path):
    hold = threading.Event()
    server.script = [Answer(stop=HALF, hold=hold)]
    with pytest.raises(CheckpointError, match=rf"silent for 0.2 s. The {HALF} bytes that came are kept"):
        fetch(server.url(), cache_dir=tmp_path, **{**QUICK, "timeout": 0.2, "backoff": ()})
    hold.set()


def test_no_server(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/a.npz"
    with pytest.raises(CheckpointError, match=r"no connection.*refused.*do it by hand"):
        fetch(url, cache_dir=tmp_path, **QUICK)


@pytest.mark.parametrize(
    ("error", "words", "tries"),
    [
        (URLError(socket.gaierror(-3, "Temporary failure in name resolution")), "check the network", 4),
        (URLError(TimeoutError("timed out")), "silent for 20 s", 4),
        (URLError(ConnectionResetError(errno.ECONNRESET, "Connection reset")), "it broke", 4),
        (URLError(ssl.SSLCertVerificationError(1, "self-signed certificate")), "certificate is not trusted", 1),
        (UnicodeError("label too long"), "not proper HTTP", 1),
    ],
)
def test_no_network(tmp_path, monkeypatch, error, words, tries):
    count = []

    def refuse(*args, **kwargs):
        count.append(args)
        raise error

    if isinstance(getattr(error, "reason", None), ssl.SSLCertVerificationError):
        error.reason.verify_message = "self-signed certificate"
    monkeypatch.setattr(_http.urllib.request.OpenerDirector, "open", refuse)
    with pytest.raises(CheckpointError, match=words):
        fetch("https://a.org/b.npz", cache_dir=tmp_path, **QUICK)
    assert len(count) == tries


def test_answer_that_is_no_http(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"220 mail server ready\r\n")

        with ThreadPoolExecutor() as pool:
            pool.submit(answer)
            with pytest.raises(CheckpointError, match="not proper HTTP"):
                fetch(f"http://127.0.0.1:{listener.getsockname()[1]}/a", cache_dir=tmp_path, **{**QUICK, "backoff": ()})


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://a.org/b",
        "data:,x",
        "weights.npz",
        "",
        "https://me:secret@a.org/b",
        "https://a.org/ä",
        "https://a.org/b\r\nX: y",
        "http://[::1/b",
        "https:///b",
        "http://a.org:port/b",
    ],
)
def test_urls_that_are_not_taken(tmp_path, url):
    with pytest.raises(CheckpointError, match="give an http or https URL"):
        fetch(url, cache_dir=tmp_path)


@pytest.mark.parametrize("value", ["1", "true", "ON"])
def test_offline(server, tmp_path, monkeypatch, value):
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    with pytest.raises(CheckpointError, match="not in the cache, and HF_HUB_OFFLINE is set"):
        fetch(server.url(), cache_dir=tmp_path, **QUICK)
    path = cached_path(server.url(), tmp_path)
    path.parent.mkdir()
    path.write_bytes(BODY)
    assert fetch(server.url(), cache_dir=tmp_path, **QUICK) == path
    assert not server.requests


def test_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"Choose another cache folder by cache_dir or .*TORCH_HOME"):
        fetch(server.url(), cache_dir=tmp_path / "file", **QUICK)
    assert not server.requests


def read_only(*args, **kwargs):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), "the folder")


@pytest.mark.parametrize("call", ["os.open", "pathlib.Path.mkdir", "pathlib.Path.write_text", "os.replace"])
def test_folder_that_cannot_be_written(server, tmp_path, monkeypatch, call):
    with monkeypatch.context() as patch:
        patch.setattr(call, read_only)
        with pytest.raises(CheckpointError, match="the folder: Read-only file system. Choose another"):
            fetch(server.url(), cache_dir=tmp_path, **QUICK)
    path = cached_path(server.url(), tmp_path)
    assert not path.exists()
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(BODY)
    with monkeypatch.context() as patch:
        patch.setattr(call, read_only)
        assert fetch(server.url(), cache_dir=tmp_path, **QUICK) == path


def test_disk_too_small(server, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(CheckpointError, match=f"{len(BODY)} bytes are to come.*has 1000 free"):
        fetch(server.url(), cache_dir=tmp_path, **QUICK)


def test_disk_full_on_the_way(server, tmp_path, monkeypatch):
    original = Path.open

    class Full:
        def __init__(self, stream):
            self.stream = stream

        def __getattr__(self, name):
            return getattr(self.stream, name)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.stream.close()

        def write(self, block):
            self.stream.write(block[: HALF - self.stream.tell()])
            if self.stream.tell() >= HALF:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def opened(path, mode="r", **options):
        stream = original(path, mode, **options)
        return Full(stream) if mode == "ab" else stream

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", opened)
        with pytest.raises(CheckpointError, match="is full. What came is kept: free some space"):
            fetch(server.url(), cache_dir=tmp_path, **QUICK)
    assert len(server.requests) == 1
    assert not cached_path(server.url(), tmp_path).exists()
    assert fetch(server.url(), cache_dir=tmp_path, **QUICK).read_bytes() == BODY
    assert server.requests[1]["Range"] == f"bytes={HALF}-"


def test_two_threads_download_once(server, tmp_path, caplog):
    hold = threading.Event()
    server.script = [Answer(stop=HALF, hold=hold)]
    with ThreadPoolExecutor() as pool, caplog.at_level(logging.WARNING, "mlpzoo"):
        first = pool.submit(fetch, server.url(), cache_dir=tmp_path, **QUICK)
        assert server.seen.wait(20)
        second = pool.submit(fetch, server.url(), cache_dir=tmp_path, **QUICK)
        wait_for(lambda: "waiting for another process" in caplog.text)
        hold.set()
        assert first.result() == second.result()
    assert first.result().read_bytes() == BODY
    # The first was cut and resumed; the second asked for nothing.
    assert ["Range" in request for request in server.requests] == [False, True]


def wait_for(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "waited for two minutes"
        time.sleep(0.01)


@pytest.fixture
def other_process():
    """Another Python, which fetches what it is told to."""
    source = (
        "import sys\n"
        "from mlpzoo.weights.download import fetch\n"
        "for line in sys.stdin:\n"
        "    url, folder = line.split()\n"
        "    print(fetch(url, cache_dir=folder, progress=False), flush=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(mlpzoo.__file__).parents[1])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", source], env=environment, text=True, bufsize=1, **pipes) as process:
        yield process
        process.kill()


def test_two_processes(server, tmp_path, other_process, caplog):
    caplog.set_level(logging.WARNING, "mlpzoo")
    hold = threading.Event()
    server.script = [Answer(stop=HALF, hold=hold)]
    other_process.stdin.write(f"{server.url()} {tmp_path}\n")
    assert server.seen.wait(120)
    with ThreadPoolExecutor() as pool:
        ours = pool.submit(fetch, server.url(), cache_dir=tmp_path, **QUICK)
        wait_for(lambda: "waiting for another process" in caplog.text)
        hold.set()
        assert str(ours.result()) == other_process.stdout.readline().strip()
    assert ours.result().read_bytes() == BODY
    # The other was cut and went on; we asked for nothing.
    assert ["Range" in request for request in server.requests] == [False, True]

    # Now it is killed half way. We, who wait, go on from there.
    caplog.clear()
    url = server.url("/another.npz")
    path = cached_path(url, tmp_path)
    part = path.with_name(f"{path.name}.part")
    server.script = [Answer(stop=HALF, hold=threading.Event())]
    other_process.stdin.write(f"{url} {tmp_path}\n")
    wait_for(lambda: part.is_file() and part.stat().st_size == HALF)
    with ThreadPoolExecutor() as pool:
        ours = pool.submit(fetch, url, cache_dir=tmp_path, **QUICK)
        wait_for(lambda: "waiting for another process" in caplog.text)
        assert not path.exists()
        other_process.kill()
        assert ours.result() == path
    assert path.read_bytes() == BODY
    assert server.requests[-1]["Range"] == f"bytes={HALF}-"
    assert len(server.requests) == 4


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("stderr", "progress"), [(Terminal, True), (Terminal, False), (io.StringIO, True)])
def test_progress_bar_on_a_terminal(server, tmp_path, monkeypatch, stderr, progress):
    monkeypatch.setattr(sys, "stderr", stderr())
    path = fetch(server.url(), cache_dir=tmp_path, progress=progress)
    shown = sys.stderr.getvalue()
    if progress and stderr is Terminal:
        assert f"{path.name}: 100%" in shown
    else:
        assert shown == ""


@pytest.fixture
def hub(server, monkeypatch):
    """The Hugging Face client, talking to the server."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", True)
    talk = functools.partial(huggingface_hub.hf_hub_download, endpoint=server.url(""))
    monkeypatch.setattr(download, "hf_hub_download", talk)
    return server


ON_HUB = {"ETag": f'"{SHA256}"', "X-Repo-Commit": "a" * 40}


def test_hub(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.script = [Answer(ranges=False, headers=ON_HUB)] * 2
    path = fetch_hub("hf-hub:some/model", "model.safetensors", sha256=SHA256, cache_dir=tmp_path, progress=False)
    assert path.read_bytes() == BODY
    assert hub.requests
    assert not any("authorization" in map(str.lower, request) for request in hub.requests)
    hub.script = [Answer(headers=ON_HUB)]
    with pytest.raises(CheckpointError, match=f"not the file expected: its SHA-256 is {SHA256}"):
        fetch_hub("some/model", "model.safetensors", sha256="0" * 64, cache_dir=tmp_path)
    requests = len(hub.requests)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch_hub("some/model", "model.safetensors", cache_dir=tmp_path) == path
    with pytest.raises(CheckpointError, match="not in the cache, and HF_HUB_OFFLINE is set"):
        fetch_hub("some/model", "another.safetensors", cache_dir=tmp_path)
    assert len(hub.requests) == requests


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (401, "RepoNotFound", "no such repository, or it is private"),
        (403, "GatedRepo", "ask for it on the repository's page"),
        (404, "RevisionNotFound", "no revision v9"),
        (404, "EntryNotFound", "no such file"),
        (400, "", "the hub gave none .Bad request"),
    ],
)
def test_hub_refuses(hub, tmp_path, status, code, words):
    hub.script = [Answer(b"", status=status, headers={"X-Error-Code": code})] * 2
    with pytest.raises(CheckpointError, match=words) as caught:
        fetch_hub("some/model", "model.safetensors", revision="v9", cache_dir=tmp_path)
    assert "cannot get model.safetensors of some/model from the Hugging Face hub" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (huggingface_hub.utils.LocalEntryNotFoundError("not cached"), "the hub gave none .not cached"),
        (RuntimeError("its HTTP library\n\ndoes not know"), "its HTTP library does not know"),
        (ValueError(), "ValueError"),
    ],
)
def test_hub_out_of_reach(monkeypatch, error, words):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(download, "hf_hub_download", fail)
    with pytest.raises(CheckpointError, match=words):
        fetch_hub("some/model", "model.safetensors", progress=False)
    assert not huggingface_hub.utils.are_progress_bars_disabled()


def test_hub_rejects_bad_ids(tmp_path):
    with pytest.raises(CheckpointError, match="Repo id must"):
        fetch_hub("a/b/c/d", "model.safetensors", cache_dir=tmp_path)

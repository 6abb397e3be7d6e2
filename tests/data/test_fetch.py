"""Fetching from a server that misbehaves in every way we could think of, all on this machine.

- An honest server's file arrives byte for byte, checked, with its terms and checksum beside it; the second time nothing is fetched.
- A server that truncates, stalls, lies about the length, sends a page, the wrong bytes, an error or endless redirects never
  leaves a file in place, and the message says what it did in its own numbers.
- A resume continues only the same version: a change between the halves, or a server that ignores Range, starts afresh.
- What is there is never overwritten; what changed upstream is refused.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import io
import json
import os
import threading
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from towerkit.core.errors import FetchError, RunError
from towerkit.data import arrivals
from towerkit.data.fetch import CHECKSUMS, NOTE, FetchedSet, fetch, public_set
from towerkit.data.http import Policy, _Redirects, check_address
from towerkit.data.public_sets import PUBLIC_SETS, PublicSet

QUICK = Policy(connect_s=5, stall_s=0.3, attempts=3, pause_s=0.01, longest_pause_s=0.5)


def archive(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        for name in ("u.data", "u.item", "u.user"):
            file.writestr(f"ml-100k/{name}", members.get(name.replace(".", "_"), b"1\t2\t3\t881250949\n" * 5000))
    return buffer.getvalue()


GOOD = archive()
PAIRS = b"0 1 2 3\n1 0\n"


@dataclasses.dataclass
class Server:
    """What the loopback server answers, and what it was asked."""

    base: str = ""
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)
    behave: Callable[[BaseHTTPRequestHandler, bytes | None], bool] | None = None
    """May answer by itself, and then says so."""
    asked: list[tuple[str, str | None]] = dataclasses.field(default_factory=list)
    """Path and Range header of each request."""
    has_tags: bool = True
    heeds_range: bool = True


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Server

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        state, self.close_connection = self.state, True
        state.asked.append((self.path, self.headers.get("Range")))
        content = state.files.get(self.path)
        try:
            if state.behave is not None and state.behave(self, content):
                return
            if content is None:
                self.send_error(404)
            else:
                answer(self, content, state)
        except (BrokenPipeError, ConnectionResetError):
            pass


def answer(handler: BaseHTTPRequestHandler, content: bytes, state: Server) -> None:
    """As an honest server does, with Range and If-Range."""
    tag, wanted = f'"{hashlib.sha1(content).hexdigest()}"', handler.headers.get("Range")  # noqa: S324
    start = 0
    if state.heeds_range and wanted and handler.headers.get("If-Range") in (None, tag):
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
    handler.send_response(206 if start else 200)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    if state.has_tags:
        handler.send_header("ETag", tag)
    handler.send_header("Content-Length", str(len(content) - start))
    handler.end_headers()
    handler.wfile.write(content[start:])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server on this machine, with an honest MovieLens archive and its MD5, and two adjacency files."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("TOWERKIT_DATA", raising=False)
    state = Server()
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"state": state}))
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.base = f"http://127.0.0.1:{http.server_address[1]}"
    md5 = hashlib.md5(GOOD).hexdigest()  # noqa: S324
    state.files = {
        "/ml-100k.zip": GOOD,
        "/ml-100k.zip.md5": f"MD5 (ml-100k.zip) = {md5}\n".encode(),
        "/train.txt": PAIRS,
        "/test.txt": PAIRS,
    }
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


def here(name: str, server: Server, **changes: object) -> PublicSet:
    """A public set whose files lie on the loopback server."""
    found = PUBLIC_SETS[name]
    files = tuple(
        dataclasses.replace(
            file,
            url=f"{server.base}/{file.name}",
            md5_url=f"{server.base}/{file.name}.md5" if file.md5_url else None,
            **changes,  # type: ignore[arg-type]
        )
        for file in found.files
    )
    return dataclasses.replace(found, files=files)


def bring(
    server: Server, to: Path, name: str = "ml-100k", policy: Policy = QUICK, **changes: object
) -> tuple[FetchedSet, str]:
    """Fetch, and what was told on the way."""
    told: list[str] = []
    found = fetch(here(name, server, **changes), to, policy=policy, tell=told.append)
    return found, "\n".join(told)


def refused(server: Server, to: Path, name: str = "ml-100k", policy: Policy = QUICK, **changes: object) -> str:
    """The message of a fetch that must fail and must leave no file in place."""
    before = {path: path.read_bytes() for path in (to / name).glob("*") if not path.name.endswith(".part")}
    with pytest.raises(FetchError, match=".") as caught:
        bring(server, to, name, policy, **changes)
    after = {path.name for path in (to / name).glob("*") if ".part" not in path.name}
    assert after <= {path.name for path in before} | {NOTE}
    assert all(path.read_bytes() == content for path, content in before.items() if path.exists())
    return str(caught.value)


def test_an_honest_server(server: Server, tmp_path: Path) -> None:
    found, told = bring(server, tmp_path)
    folder = tmp_path / "ml-100k"
    assert (folder / "ml-100k.zip").read_bytes() == GOOD
    assert sorted(path.name for path in folder.iterdir()) == [NOTE, CHECKSUMS, "ml-100k.zip"]
    assert not list(tmp_path.glob(".*"))  # the lock is gone
    assert told.index("Forbidden without separate permission") < told.index("ml-100k.zip: 0.2 of 0.2 MB")
    assert "no commercial use" in (folder / NOTE).read_text()
    record = json.loads((folder / CHECKSUMS).read_text())["ml-100k.zip"]
    assert record["sha256"] == hashlib.sha256(GOOD).hexdigest() == found.files[0].sha256
    assert record["checked"] == f"the MD5 stated at {server.base}/ml-100k.zip.md5"
    server.asked.clear()
    again, _ = bring(server, tmp_path)
    assert (again.files[0].state, server.asked) == ("already there", [])
    assert again.files[0].sha256 == found.files[0].sha256


def test_a_set_without_a_stated_checksum_records_one(server: Server, tmp_path: Path) -> None:
    found, told = bring(server, tmp_path, "gowalla")
    assert [file.state for file in found.files] == ["fetched", "fetched"]
    assert "recorded now" in found.files[0].checked
    assert "is not the 5eec1eb2edb8dd648377d348b8e136cf that the RecZoo collection states" in told
    md5 = hashlib.md5(PAIRS).hexdigest()  # noqa: S324
    agreed, told = bring(server, tmp_path / "b", "gowalla", md5_elsewhere=md5)
    assert "agrees with the RecZoo" in agreed.files[0].checked and "is not the" not in told
    (tmp_path / "gowalla" / "train.txt").unlink()
    again, _ = bring(server, tmp_path, "gowalla")
    assert [file.state for file in again.files] == ["fetched", "already there"]
    assert again.files[0].checked == "the SHA-256 recorded when it was first fetched"
    (tmp_path / "gowalla" / "train.txt").unlink()
    server.files["/train.txt"] = PAIRS + b"2 0\n"
    message = refused(server, tmp_path, "gowalla")
    assert f"{server.base}/train.txt changed since it was first fetched on 20" in message
    assert hashlib.sha256(PAIRS).hexdigest() in message and hashlib.sha256(PAIRS + b"2 0\n").hexdigest() in message
    assert "(12 and 16 bytes)" in message and "--to" in message


def test_a_server_that_truncates(server: Server, tmp_path: Path) -> None:
    """Each answer ends 100,000 bytes after its start: the third attempt brings the last bytes."""

    def truncate(handler: BaseHTTPRequestHandler, content: bytes | None) -> bool:
        if content is not GOOD:
            return False
        wanted = handler.headers.get("Range")
        start = int(wanted[6:-1]) if wanted else 0
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Range", f"bytes {start}-{len(GOOD) - 1}/{len(GOOD)}")
        handler.send_header("ETag", '"same"')
        handler.send_header("Content-Length", str(len(GOOD) - start))
        handler.end_headers()
        handler.wfile.write(GOOD[start : start + 100_000])
        return True

    server.behave = truncate
    found, told = bring(server, tmp_path)
    assert (tmp_path / "ml-100k" / "ml-100k.zip").read_bytes() == GOOD
    assert [wanted for path, wanted in server.asked if path == "/ml-100k.zip"] == [
        None,
        "bytes=100000-",
        "bytes=200000-",
    ]
    assert f"the connection ended after 100,000 of {len(GOOD):,} bytes; attempt 2 of 3" in told
    few = dataclasses.replace(QUICK, attempts=2)
    message = refused(server, tmp_path / "b", policy=few)
    assert "given up after 2 attempts" in message and f"after 200,000 of {len(GOOD):,} bytes" in message
    assert f"200,000 bytes are kept in {tmp_path / 'b' / 'ml-100k' / 'ml-100k.zip.part'}" in message
    server.asked.clear()
    found, _ = bring(server, tmp_path / "b", policy=few)
    assert server.asked[-1] == ("/ml-100k.zip", "bytes=200000-")
    assert found.files[0].sha256 == hashlib.sha256(GOOD).hexdigest()


@pytest.mark.parametrize("drip", [b"", b"x"], ids=["silence", "a byte at a time"])
def test_a_server_that_stalls(server: Server, tmp_path: Path, drip: bytes) -> None:
    def stall(handler: BaseHTTPRequestHandler, content: bytes | None) -> bool:
        if content is not GOOD:
            return False
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(GOOD)))
        handler.end_headers()
        handler.wfile.write(GOOD[:2000])
        for _ in range(12):
            handler.wfile.write(drip)
            time.sleep(0.1)
        return True

    server.behave = stall
    message = refused(server, tmp_path, policy=dataclasses.replace(QUICK, attempts=2))
    assert "given up after 2 attempts" in message
    assert ("bytes came in 0.3 s" if drip else "the server stalled: nothing came for 0.3 s") in message


def test_a_server_that_never_answers(server: Server, tmp_path: Path) -> None:
    def wait(*_: object) -> bool:
        time.sleep(0.6)
        return True

    server.behave = wait
    assert "(no answer in time)" in refused(server, tmp_path)


def test_no_server(tmp_path: Path, server: Server) -> None:
    server.base = "http://127.0.0.1:9"
    assert "given up after 3 attempts (cannot connect ([Errno" in refused(server, tmp_path)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ("70000000", "declares 70,000,000 bytes, more than the 67,108,864"),
        (None, "declares no length (Content-Length: None)"),
        ("many", "declares no length (Content-Length: 'many')"),
        ("1000", "the 1,000 bytes that came have the MD5"),
        (str(len(GOOD) + 5), f"the connection ended after {len(GOOD):,} of {len(GOOD) + 5:,} bytes"),
    ],
)
def test_a_server_that_lies_about_the_length(
    server: Server, tmp_path: Path, declared: str | None, message: str
) -> None:
    def lie(handler: BaseHTTPRequestHandler, content: bytes | None) -> bool:
        if content is not GOOD:
            return False
        handler.send_response(200)
        if declared is not None:
            handler.send_header("Content-Length", declared)
        handler.end_headers()
        handler.wfile.write(GOOD)
        return True

    server.behave = lie
    assert message in refused(server, tmp_path)


@pytest.mark.parametrize("whole", [True, False])
def test_a_chunked_answer_must_be_closed(server: Server, tmp_path: Path, whole: bool) -> None:
    def chunk(handler: BaseHTTPRequestHandler, content: bytes | None) -> bool:
        if content is not GOOD:
            return False
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for start in range(0, len(GOOD), 1 << 15):
            piece = GOOD[start : start + (1 << 15)]
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        if whole:
            handler.wfile.write(b"0\r\n\r\n")
        return True

    server.behave = chunk
    if whole:
        assert bring(server, tmp_path)[0].files[0].bytes == len(GOOD)
    else:
        assert "the connection broke (IncompleteRead" in refused(server, tmp_path)
    message = refused(server, tmp_path / "b", max_bytes=100_000)
    assert "sent more than the 100,000 bytes" in message


def test_a_page_instead_of_the_archive(server: Server, tmp_path: Path) -> None:
    page = b"<!DOCTYPE html><title>Please log in</title>"
    server.files["/ml-100k.zip"] = page
    assert f"the {len(page)} bytes that came have the MD5 {hashlib.md5(page).hexdigest()}" in refused(server, tmp_path)  # noqa: S324
    del server.files["/ml-100k.zip.md5"]
    message = refused(server, tmp_path)
    assert "expected a zip archive, but what came begins with b'<!DOCTYPE html><title>Please log in" in message
    server.files["/test.txt"] = page
    with pytest.raises(FetchError, match="test.txt: expected lines of numbers, but what came begins with b'<!DOCTYPE"):
        bring(server, tmp_path, "gowalla")
    assert not (tmp_path / "gowalla" / "test.txt").exists()
    server.files["/ml-100k.zip.md5"] = page
    assert "expected one MD5 of ml-100k.zip, received '<!DOCTYPE" in refused(server, tmp_path)


def test_a_wrong_checksum(server: Server, tmp_path: Path) -> None:
    server.files["/ml-100k.zip.md5"] = b"MD5 (ml-100k.zip) = 00000000000000000000000000000000\n"
    message = refused(server, tmp_path)
    assert f"have the MD5 {hashlib.md5(GOOD).hexdigest()}, but" in message  # noqa: S324
    assert "states 00000000000000000000000000000000" in message
    assert not list((tmp_path / "ml-100k").glob("*.part*"))


def test_the_md5_of_the_right_line(server: Server, tmp_path: Path) -> None:
    md5 = hashlib.md5(GOOD).hexdigest().upper()  # noqa: S324
    server.files["/ml-100k.zip.md5"] = f"{'0' * 32}  other.zip\n{md5}  ml-100k.zip\n".encode()
    assert bring(server, tmp_path)[0].files[0].state == "fetched"
    del server.files["/ml-100k.zip.md5"]
    found, told = bring(server, tmp_path / "b")
    assert "ml-100k.zip.md5 is gone" in told and "recorded now" in found.files[0].checked


def test_archives_that_must_not_be_kept(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del server.files["/ml-100k.zip.md5"]
    torn = bytearray(GOOD)
    torn[5000] ^= 1
    server.files["/ml-100k.zip"] = bytes(torn)
    assert "the member 'ml-100k/u.data' is damaged" in refused(server, tmp_path)
    server.files["/ml-100k.zip"] = GOOD[:-10]
    assert "the archive is damaged (" in refused(server, tmp_path)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("../../etc/evil", b"x")
    server.files["/ml-100k.zip"] = buffer.getvalue()
    assert (
        "the archive lacks 'ml-100k/u.data', 'ml-100k/u.item', 'ml-100k/u.user'; it holds '../../etc/evil'"
        in refused(server, tmp_path)
    )
    server.files["/ml-100k.zip"] = GOOD
    monkeypatch.setattr(arrivals, "UNPACKED_BYTES", 100_000)
    assert "unpacks to 240,000 bytes, more than the 100,000" in refused(server, tmp_path)


@pytest.mark.parametrize(
    ("status", "message", "requests"),
    [
        (404, "the server answered 404 Not Found; the publisher moved the file", 1),
        (403, "the server answered 403 Forbidden", 1),
        (500, "given up after 3 attempts (the server answered 500 Internal Server Error)", 3),
        (429, "given up after 3 attempts (the server answered 429 Too Many Requests)", 3),
        (206, "given up after 3 attempts (the server answered with a part that does not fit", 3),
    ],
)
def test_errors_of_the_server(server: Server, tmp_path: Path, status: int, message: str, requests: int) -> None:
    def fail(handler: BaseHTTPRequestHandler, content: bytes | None) -> bool:
        if content is not GOOD:
            return False
        handler.send_response(status)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    server.behave = fail
    assert message in refused(server, tmp_path)
    assert len([path for path, _ in server.asked if path == "/ml-100k.zip"]) == requests


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    waits = iter(["0", "Wed, 21 Oct 2015 07:28:00 GMT", None])

    def busy(handler: BaseHTTPRequestHandler, content: bytes | None) -> bool:
        wait = next(waits, None) if content is GOOD else None
        if wait is None:
            return False
        handler.send_response(503)
        handler.send_header("Retry-After", wait)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    server.behave = busy
    _, told = bring(server, tmp_path)
    assert "the server answered 503 Service Unavailable; attempt 3 of 3 in 0.02 s" in told
    waits = iter(["3600"])
    message = refused(server, tmp_path / "b")
    assert "asks to wait 3,600 s, longer than the 0.5 s" in message


def test_redirects(server: Server, tmp_path: Path) -> None:
    target = {"/ml-100k.zip": "/1", "/1": "/ml.zip"}
    server.files["/ml.zip"] = server.files.pop("/ml-100k.zip")

    def redirect(handler: BaseHTTPRequestHandler, content: bytes | None) -> bool:
        if handler.path not in target:
            return False
        handler.send_response(302)
        handler.send_header("Location", target[handler.path])
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    server.behave = redirect
    assert bring(server, tmp_path)[0].files[0].state == "fetched"
    target["/1"] = "/ml-100k.zip"
    assert f"redirected more than 5 times, last to {server.base}/" in refused(server, tmp_path / "b")
    target["/1"] = "file:///etc/passwd"
    assert "redirects to file:///etc/passwd, but only http and https" in refused(server, tmp_path / "b")
    target["/1"] = "ftp://127.0.0.1/a.zip"
    assert "ftp://127.0.0.1/a.zip: only http and https addresses" in refused(server, tmp_path / "b")


def test_no_way_from_https_to_http() -> None:
    request = urllib.request.Request("https://example.org/a.zip")
    with pytest.raises(
        FetchError, match="https://example.org/a.zip: redirects to http://example.org/b.zip, from https"
    ):
        _Redirects().redirect_request(request, io.BytesIO(), 302, "Found", {}, "http://example.org/b.zip")
    assert (
        _Redirects().redirect_request(request, io.BytesIO(), 302, "Found", {}, "https://example.org/b.zip") is not None
    )
    with pytest.raises(FetchError, match="file:///etc/passwd: only http and https"):
        check_address("file:///etc/passwd")


def half(server: Server, to: Path) -> None:
    """Leave the first 100,000 bytes of the honest archive, as an interrupted fetch does."""

    def stop(handler: BaseHTTPRequestHandler, content: bytes | None) -> bool:
        if content is not GOOD:
            return False
        handler.send_response(200)
        handler.send_header("ETag", f'"{hashlib.sha1(GOOD).hexdigest()}"')  # noqa: S324
        handler.send_header("Content-Length", str(len(GOOD)))
        handler.end_headers()
        handler.wfile.write(GOOD[:100_000])
        return True

    server.behave = stop
    assert "100,000 bytes are kept" in refused(server, to, policy=dataclasses.replace(QUICK, attempts=1))
    server.behave = None
    server.asked.clear()


def test_the_content_changes_between_the_halves(server: Server, tmp_path: Path) -> None:
    half(server, tmp_path)
    changed = archive(u_item=b"7|Other\n" * 5000)
    server.files["/ml-100k.zip"] = changed
    server.files["/ml-100k.zip.md5"] = hashlib.md5(changed).hexdigest().encode()  # noqa: S324
    _, told = bring(server, tmp_path)
    assert server.asked[-1] == ("/ml-100k.zip", "bytes=100000-")
    assert "sends the whole file, not the rest" in told
    assert (tmp_path / "ml-100k" / "ml-100k.zip").read_bytes() == changed


@pytest.mark.parametrize("says_so", [True, False])
def test_a_resume_that_mixes_two_versions(server: Server, tmp_path: Path, says_so: bool) -> None:
    """The server ignores If-Range and sends the rest of another version, with or without its ETag."""
    half(server, tmp_path)
    other = GOOD.replace(b"881250949", b"999999999")
    assert len(other) == len(GOOD)

    def mix(handler: BaseHTTPRequestHandler, content: bytes | None) -> bool:
        wanted = handler.headers.get("Range")
        if content is not GOOD or wanted is None:
            return False
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 100000-{len(other) - 1}/{len(other)}")
        if says_so:
            handler.send_header("ETag", '"other"')
        handler.send_header("Content-Length", str(len(other) - 100_000))
        handler.end_headers()
        handler.wfile.write(other[100_000:])
        return True

    server.behave = mix
    if says_so:
        _, told = bring(server, tmp_path)
        assert "the server answered with a part that does not fit, so the file starts afresh" in told
        assert (tmp_path / "ml-100k" / "ml-100k.zip").read_bytes() == GOOD
    else:
        assert f"states {hashlib.md5(GOOD).hexdigest()}" in refused(server, tmp_path)  # noqa: S324
        assert not list((tmp_path / "ml-100k").glob("*.part*"))


def test_a_server_that_ignores_range(server: Server, tmp_path: Path) -> None:
    half(server, tmp_path)
    server.heeds_range = False
    _, told = bring(server, tmp_path)
    assert "sends the whole file, not the rest, so it starts afresh" in told
    assert (tmp_path / "ml-100k" / "ml-100k.zip").read_bytes() == GOOD


def test_without_a_version_nothing_is_resumed(server: Server, tmp_path: Path) -> None:
    server.has_tags = False
    part = tmp_path / "ml-100k" / "ml-100k.zip.part"
    part.parent.mkdir()
    part.write_bytes(b"somebody else's bytes")
    assert bring(server, tmp_path)[0].files[0].state == "fetched"
    assert server.asked[-1] == ("/ml-100k.zip", None)


@pytest.mark.parametrize("state", ["{", "[]", '{"url": 3}', '{"url": "U", "validator": "a\\nb", "total": 9}'])
def test_a_damaged_state_starts_afresh(server: Server, tmp_path: Path, state: str) -> None:
    half(server, tmp_path)
    path = tmp_path / "ml-100k" / "ml-100k.zip.part.json"
    path.write_text(state.replace('"U"', json.dumps(f"{server.base}/ml-100k.zip")))
    bring(server, tmp_path)
    assert server.asked[-1] == ("/ml-100k.zip", None)


def test_nothing_that_is_there_is_overwritten(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "ml-100k"
    folder.mkdir()
    mine = folder / "ml-100k.zip"
    mine.write_bytes(b"mine")
    message = refused(server, tmp_path)
    assert f"{mine} exists and differs from the MD5 stated at" in message
    assert hashlib.sha256(b"mine").hexdigest() in message
    mine.write_bytes(GOOD)
    assert bring(server, tmp_path)[0].files[0].state == "already there"
    mine.write_bytes(GOOD + b"x")
    message = refused(server, tmp_path)
    assert f"{mine} is not as it was fetched" in message and hashlib.sha256(GOOD).hexdigest() in message
    mine.unlink()
    mine.mkdir()
    with pytest.raises(FetchError, match="exists and is not a file"):
        bring(server, tmp_path)


def test_a_file_without_a_record_is_compared_with_the_publishers(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "gowalla"
    folder.mkdir()
    (folder / "train.txt").write_bytes(PAIRS)
    (folder / "test.txt").write_bytes(b"5 5\n")
    with pytest.raises(FetchError, match="test.txt exists and differs from the publisher's file"):
        bring(server, tmp_path, "gowalla")
    assert (folder / "test.txt").read_bytes() == b"5 5\n"
    assert json.loads((folder / CHECKSUMS).read_text())["train.txt"]["bytes"] == len(PAIRS)
    assert not list(folder.glob("*.part*"))


def test_two_at_once(server: Server, tmp_path: Path) -> None:
    """The second is refused with the number of the first one's process; nothing is torn."""
    entered, go_on = threading.Event(), threading.Event()

    def hold(_: BaseHTTPRequestHandler, content: bytes | None) -> bool:
        if content is GOOD:
            entered.set()
            go_on.wait(10)
        return False

    server.behave = hold
    patient = dataclasses.replace(QUICK, stall_s=10)
    first = threading.Thread(target=bring, args=(server, tmp_path), kwargs={"policy": patient})
    first.start()
    assert entered.wait(10)
    with pytest.raises(RunError, match="The folder 'ml-100k' is being written by process [0-9]+"):
        bring(server, tmp_path)
    go_on.set()
    first.join()
    assert (tmp_path / "ml-100k" / "ml-100k.zip").read_bytes() == GOOD


def test_places_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FetchError, match="The folder .*file/ml-100k cannot be made"):
        bring(server, tmp_path / "file")
    folder = tmp_path / "ml-100k"
    folder.mkdir()
    (tmp_path / "elsewhere").write_text("precious")
    (folder / "ml-100k.zip.part").symlink_to(tmp_path / "elsewhere")
    assert "ml-100k.zip.part is not a plain file" in refused(server, tmp_path)
    assert (tmp_path / "elsewhere").read_text() == "precious"
    (folder / "ml-100k.zip.part").unlink()
    (folder / CHECKSUMS).write_text('{"ml-100k.zip": 3}')
    assert "checksums.json is not one that towerkit wrote" in refused(server, tmp_path)


def test_a_full_disk(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "ml-100k").mkdir()
    (tmp_path / "ml-100k" / NOTE).touch()  # it is written in a safer way, by another module
    with monkeypatch.context() as patched:
        patched.setattr("towerkit.data.download.os.fsync", full)
        with pytest.raises(FetchError, match="ml-100k.zip.part cannot be written .No space left on device.; free some"):
            bring(server, tmp_path)
    assert bring(server, tmp_path)[0].files[0].state == "fetched"


def test_the_names() -> None:
    assert sorted(PUBLIC_SETS) == ["amazon-book", "gowalla", "ml-100k", "ml-1m", "ml-latest-small", "yelp2018"]
    with pytest.raises(FetchError, match="no public data set 'ml100k'; did you mean 'ml-100k'"):
        public_set("ml100k")
    for found in PUBLIC_SETS.values():
        assert all(file.url.startswith("https://") for file in found.files)
        assert found.terms and found.redistribution

"""The commands of public data sets: what they print, where the files go, and how a failure ends."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from towerkit import cli
from towerkit.data import fetch, public_sets
from towerkit.data.public_sets import PUBLIC_SETS

PAIRS = b"0 1 2\n1 0\n"


class Handler(BaseHTTPRequestHandler):
    """Gives the same two lines at every address but one."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        if "gone" in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(PAIRS)))
        self.end_headers()
        self.wfile.write(PAIRS)


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Gowalla from this machine, and Yelp from an address that is gone."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    base = f"http://127.0.0.1:{http.server_address[1]}"
    for name, folder in (("gowalla", "there"), ("yelp2018", "gone")):
        files = [dataclasses.replace(file, url=f"{base}/{folder}/{file.name}") for file in PUBLIC_SETS[name].files]
        monkeypatch.setitem(public_sets.PUBLIC_SETS, name, dataclasses.replace(PUBLIC_SETS[name], files=tuple(files)))  # type: ignore[arg-type]
    assert fetch.PUBLIC_SETS is public_sets.PUBLIC_SETS
    yield base
    http.shutdown()
    thread.join()
    http.server_close()


def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["towerkit", "data", *words])
    status = 0
    try:
        cli.main()
    except SystemExit as stop:
        status = int(stop.code or 0)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_fetch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.setenv("TOWERKIT_DATA", str(tmp_path))
    status, out, err = call(monkeypatch, capsys, "fetch", "gowalla")
    assert status == 0
    assert err.index("Terms, in short") < err.index("train.txt: 0.0 of 0.0 MB")
    assert "train.txt: fetched, 10 bytes" in out
    assert "path: '${TOWERKIT_DATA}/gowalla/train.txt'" in out or "path: ${TOWERKIT_DATA}/gowalla/train.txt" in out
    status, out, _ = call(monkeypatch, capsys, "fetch", "gowalla", "--json")
    found = json.loads(out)
    assert status == 0
    assert [file["state"] for file in found["files"]] == ["already there", "already there"]
    assert found["files"][0]["sha256"] == hashlib.sha256(PAIRS).hexdigest()
    assert found["redistribution"].startswith("Not granted")
    status, out, _ = call(monkeypatch, capsys, "list", "--json")
    there = {each["name"]: each["is_there"] for each in json.loads(out)["sets"]}
    assert there == {name: name == "gowalla" for name in PUBLIC_SETS}
    assert "passing it on: Forbidden" in call(monkeypatch, capsys, "list")[1]


def test_the_default_folder_is_data(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv("TOWERKIT_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    status, out, _ = call(monkeypatch, capsys, "fetch", "gowalla")
    assert status == 0 and (tmp_path / "data" / "gowalla" / "test.txt").read_bytes() == PAIRS
    assert f"{tmp_path}/data/gowalla/train.txt" in out  # in full: a spec's relative paths start at the spec


def test_failures(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, out, err = call(monkeypatch, capsys, "fetch", "yelp2018", "--to", str(tmp_path), "--json")
    assert status == 1
    error = json.loads(out)["error"]
    assert error["type"] == "FetchError" and "/gone/train.txt: the server answered 404" in error["message"]
    assert "Traceback" not in err
    assert list((tmp_path / "yelp2018").glob("*.txt")) == [tmp_path / "yelp2018" / "LICENSE-NOTE.txt"]
    status, out, err = call(monkeypatch, capsys, "fetch", "ml100k", "--to", str(tmp_path))
    assert (status, out) == (1, "") and "did you mean 'ml-100k'?" in err

"""Small Runs, and a service of them in this process that is asked over real connections."""

from __future__ import annotations

import asyncio
import http.client
import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from tests.recommend.conftest import ITEMS, NUM_ITEMS, NUM_USERS, USERS

import towerkit as tk
from towerkit.run import Run

if importlib.util.find_spec("fastapi") is None:
    collect_ignore_glob = ["*"]  # they need the extra serve

_DRAW = np.random.default_rng(11)
TIMED: dict[str, Any] = {
    "user": [f"u{n}" for n in _DRAW.integers(0, NUM_USERS, 900)],
    "item": [f"i{n}" for n in _DRAW.integers(0, NUM_ITEMS, 900)],
    "time": [1_700_000_000 + 3600 * n for n in range(900)],
}
MODEL: dict[str, Any] = {
    "kind": "two_tower",
    "query": {"towers": {"id": {"kind": "id", "dim": 6}, "about": {"kind": "table", "columns": ["age"], "dim": 6}}},
    "candidate": {
        "towers": {"id": {"kind": "id", "dim": 6}, "more": {"kind": "table", "columns": ["price"], "dim": 6}}
    },
}
PLAIN: dict[str, Any] = {
    "kind": "two_tower",
    "query": {"kind": "id_history", "dim": 6, "length": 8, "half_life_days": 3},
    "candidate": {"kind": "id", "dim": 6},
}
POOL = PLAIN | {"query": {"kind": "history", "dim": 6, "length": 6}}


def trained(folder: Path, model: dict[str, Any], update: dict[str, Any] | None = None, seed: int = 0) -> Run:
    """A Run of the small shop."""
    spec: dict[str, Any] = {
        "model": model,
        "training": {"epochs": 2, "batch_size": 64, "optimizer": {"kind": "adam", "lr": 0.05}, "seed": seed},
        "evaluation": {"k": [3]},
    }
    items = {"table": ITEMS, "title": "name"}
    entities = {"item": items, "user": USERS}
    data = tk.read(TIMED, query="user", candidate="item", time="time", entities=entities)
    return tk.fit(spec if update is None else spec | {"update": update}, data, run=folder)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Run]:
    """``shop`` learns by averages, ``pool`` reads histories, ``past`` does both, ``still`` neither; ``stars`` predicts."""
    root = tmp_path_factory.mktemp("runs")
    found = {
        "shop": trained(root / "shop", MODEL, {"kind": "one_backprop", "beta": 0.8}),
        "past": trained(root / "past", PLAIN, {"kind": "one_backprop", "beta": 0.8}),
        "still": trained(root / "still", MODEL),
        "pool": trained(root / "pool", POOL),
    }
    rows = {"text": ["good lamp", "bad lamp", "good toy", "bad toy"] * 20, "stars": ["5", "1", "4", "2"] * 20}
    spec = {
        "model": {
            "kind": "tower_model",
            "towers": {"words": {"kind": "text", "columns": ["text"], "dim": 4}},
            "heads": {"stars": {"kind": "ordinal", "column": "stars"}},
        },
        "training": {"epochs": 1},
    }
    found["stars"] = tk.fit(spec, tk.read(rows), run=root / "stars")
    return MappingProxyType(found)  # of the whole session: no test puts another one in


class Asked:
    """A running service, and how to ask it."""

    def __init__(self, server: Any, thread: threading.Thread, address: list[str], service: Any) -> None:
        self.server, self.thread, self.service = server, thread, service
        self.host, _, port = address[0].removeprefix("http://").rpartition(":")
        self.port = int(port)

    def send(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, body and headers; bytes are sent as they are."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=120)
        try:
            data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            own = {} if data is None else {"Content-Type": "application/json"}
            connection.request(method, path, data, own | (headers or {}))
            answer = connection.getresponse()
            text = answer.read()
            told = {name.lower(): value for name, value in answer.getheaders()}
            is_json = told.get("content-type", "").startswith("application/json")
            return answer.status, json.loads(text) if is_json else text.decode(), told
        finally:
            connection.close()

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        """The answer of a call that must succeed."""
        status, content, _ = self.send("POST", path, body)
        assert status == 200, content
        found: dict[str, Any] = content
        return found

    def refused(self, path: str, **body: Any) -> tuple[int, dict[str, str]]:
        """Status and error of a call that must not."""
        status, content, _ = self.send("POST", path, body)
        assert status >= 400, content
        return status, content["error"]

    def stop(self) -> None:
        """End as on SIGTERM."""
        self.server.should_exit = True
        self.thread.join(60)
        assert not self.thread.is_alive()


def started(paths: dict[str, Path], settings: Any, pipelines: Any = None, indexes: Any = None) -> Asked:
    """Serve Runs in a thread, ready to be asked; it waits long, for the machine of a test may be busy."""
    from towerkit.serving.fleet import Fleet
    from towerkit.serving.journal import Journal
    from towerkit.serving.server import server_of
    from towerkit.serving.sources import Source

    settings = replace(settings, limits=replace(settings.limits, deadline_s=100.0, body_s=100.0))
    journal = None if settings.events is None else Journal(settings.events)
    fleet = Fleet([Source(name, path) for name, path in paths.items()], journal, pipelines, indexes)
    address: list[str] = []
    server = server_of(fleet, settings, address.append)
    service = server.config.app.state  # type: ignore[union-attr]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 120
    while not (address and service.ready) and thread.is_alive() and time.monotonic() < until:
        time.sleep(0.01)
    assert service.ready, service.failed
    return Asked(server, thread, address, service)


@contextmanager
def held(service: Asked) -> Generator[None]:
    """The thread that computes has something else to do while the block lasts."""
    go, begun = threading.Event(), threading.Event()

    def compute(asked: Sequence[Any]) -> list[None]:
        begun.set()
        go.wait(120)
        return [None] * len(asked)

    thread = threading.Thread(target=lambda: asyncio.run(service.service.worker.ask("", compute, None, must=True)))
    thread.start()
    begun.wait(120)
    try:
        yield
    finally:
        go.set()
        thread.join(120)


class Process:
    """``towerkit serve`` with a line of JSON on its standard output."""

    def __init__(self, *words: str, admin_token: str = "") -> None:
        command = [sys.executable, "-m", "towerkit", "serve", *words, "--port", "0", "--json"]
        environment = os.environ | {"TOWERKIT_TOKEN": "", "TOWERKIT_ADMIN_TOKEN": admin_token}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        self.told = json.loads(line)
        self.url: str = self.told["listening"]

    @property
    def resident_mb(self) -> float:
        """What it holds of the machine's memory."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.split("VmRSS:")[1].split()[0]) / 1024

    def end(self, number: int) -> tuple[int, str]:
        """Send a signal: the status, and what stood on standard error."""
        self.process.send_signal(number)
        _, text = self.process.communicate(timeout=120)
        return self.process.returncode, text


def wait_until_ready(url: str) -> Any:
    """A client of a service that is ready."""
    from towerkit.serving.client import Client

    client, until = Client(url), time.monotonic() + 120
    while not client.ready():
        assert time.monotonic() < until
        time.sleep(0.02)
    return client


@pytest.fixture
def serve(runs: Mapping[str, Run]) -> Generator[Callable[..., Asked]]:
    """Start services that end with the test: names of Runs, Runs of the test's own, and settings."""
    from towerkit.serving.settings import Settings

    running: list[Asked] = []

    def start(
        *names: str, pipelines: Any = None, own: Mapping[str, Run] = MappingProxyType({}), **settings: Any
    ) -> Asked:
        every = {**runs, **own}
        paths = {name: every[name].path for name in names}
        running.append(started(paths, Settings(port=0, **settings), pipelines))
        return running[-1]

    yield start
    for each in running:
        each.stop()


@pytest.fixture(scope="module")
def service(runs: Mapping[str, Run], tmp_path_factory: pytest.TempPathFactory) -> Generator[Asked]:
    """One service of all Runs, with a log, for the tests of a module."""
    from towerkit.serving.settings import Settings

    log = tmp_path_factory.mktemp("log") / "events.db"
    asked = started({name: run.path for name, run in runs.items()}, Settings(port=0, events=str(log)))
    yield asked
    asked.stop()

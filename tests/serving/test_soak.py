"""The service under faults and load for minutes, as a process of its own; `make soak` runs it, and each test prints its figures.

Invariants:
- a hundred swaps under fifty requests a second, one a second: every answer is a success whose items are those of its version, and
  memory does not grow;
- four times as much as it can do, for a minute: every answer is a success or a refusal that says when to come back, half of these
  within 50 ms; what is let in is answered within twice the deadline; two seconds later it answers again, and memory does not grow;
- SIGTERM with 64 requests under way: each is answered or refused with 503, and the status is 0; a kill (the control) answers none;
- killed a thousand times while events and items are written, it comes back with all that it acknowledged and nothing else, and
  answers from its index as without one;
- ten minutes of everything: no failure, no growth.

``TOWERKIT_SOAK=0.1`` makes all of them ten times shorter.
"""

from __future__ import annotations

import http.client
import importlib.util
import itertools
import json
import os
import random
import shutil
import signal
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.serving.conftest import MODEL, Process, trained, wait_until_ready

from towerkit.run import Run

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("fastapi") is None, reason="needs towerkit[serve]"),
    pytest.mark.soak,
]
SCALE = float(os.environ.get("TOWERKIT_SOAK", "1"))
ADMIN = "an-admin-token-of-this-soak"
Answer = tuple[int, float, dict[str, Any]]


def ask(connection: http.client.HTTPConnection, body: dict[str, Any], path: str = "/v1/recommend") -> Answer:
    """Status, seconds and content."""
    began = time.monotonic()
    connection.request("POST", path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = json.loads(answer.read())
    return answer.status, time.monotonic() - began, content


class Load:
    """Threads that ask at a rate, until told to end."""

    def __init__(self, url: str, threads: int, per_second: float, body: Callable[[int], dict[str, Any]]) -> None:
        self._host, _, port = url.removeprefix("http://").rpartition(":")
        self._port, self._body = int(port), body
        self._pause = threads / per_second
        self._numbers, self._ending = itertools.count(), threading.Event()
        self.answers: list[Answer] = []
        self.broken: list[Exception] = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(threads)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(120)

    def _ask(self) -> None:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=60)
        due = time.monotonic()
        while not self._ending.is_set():
            try:
                self.answers.append(ask(connection, self._body(next(self._numbers))))
            except (OSError, http.client.HTTPException) as error:
                self.broken.append(error)
                connection.close()
                if self._ending.wait(0.05):
                    break
            due = max(due + self._pause, time.monotonic() - 1.0)
            self._ending.wait(max(0.0, due - time.monotonic()))
        connection.close()

    def statuses(self) -> set[int]:
        """Those that were seen."""
        return {status for status, _, _ in self.answers}


def quantile(values: list[float], share: float) -> float:
    """A quantile of seconds."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


@pytest.fixture(scope="module")
def candidates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a Run that may take the place of ``shop``."""
    root = tmp_path_factory.mktemp("candidates")
    trained(root / "good", MODEL, {"kind": "one_backprop", "beta": 0.8}, seed=3)
    return root


def test_a_hundred_swaps_under_load(runs: Mapping[str, Run], candidates: Path, tmp_path: Path) -> None:
    from towerkit.serving.client import Client

    folders = ["--candidates", str(candidates), "--events", str(tmp_path / "e.db")]
    process = Process(f"shop={runs['shop'].path}", *folders, admin_token=ADMIN)
    wait_until_ready(process.url).close()
    right: dict[str, Any] = {}
    swaps = max(4, int(100 * SCALE))
    with (
        Client(process.url, token=ADMIN, timeout_s=120) as admin,
        Load(process.url, 4, 50.0, lambda _: {"query": "u5"}) as load,
    ):
        for number in range(swaps):
            until = time.monotonic() + 1.0
            told = admin.recommend(query="u5")
            right[told["model_version"]] = told["items"]
            admin.swap("shop", "good") if number % 2 == 0 else admin.rollback("shop")
            if number == swaps // 5:
                before = process.resident_mb
            time.sleep(max(0.0, until - time.monotonic()))
        told = admin.recommend(query="u5")
        right[told["model_version"]] = told["items"]
        after = process.resident_mb
    assert process.end(signal.SIGTERM)[0] == 0
    print(f"{swaps} swaps, {len(load.answers):,} answers; memory {before:.0f} -> {after:.0f} MB")
    assert (load.statuses(), load.broken, len(right)) == ({200}, [], 2)
    assert len(load.answers) > 10 * swaps
    assert all(content["items"] == right[content["model_version"]] for _, _, content in load.answers)
    assert after < 1.05 * before


def test_overload(runs: Mapping[str, Run]) -> None:
    process = Process(f"shop={runs['shop'].path}", "--waiting", "32")
    wait_until_ready(process.url).close()
    hard = {"query": "u5", "k": 40, "why": True, "rules": {"diversity": 0.5}}
    with Load(process.url, 4, 1e9, lambda _: hard) as load:
        time.sleep(max(2.0, 5.0 * SCALE))
        most = len(load.answers) / max(2.0, 5.0 * SCALE)
    before = process.resident_mb
    began = time.monotonic()
    with Load(process.url, 96, 4 * most, lambda _: hard) as load:
        time.sleep(max(3.0, 60.0 * SCALE))
        lasted = time.monotonic() - began
    began = time.monotonic()
    with wait_until_ready(process.url) as client:
        assert client.recommend(query="u5", k=3)["items"]
    recovery = time.monotonic() - began
    after = process.resident_mb
    assert process.end(signal.SIGTERM)[0] == 0
    taken = [seconds for status, seconds, _ in load.answers if status == 200]
    refused = [seconds for status, seconds, _ in load.answers if status != 200]
    print(
        f"{most:.0f}/s alone; asked {len(load.answers) / lasted:.0f}/s: {len(taken):,} taken, {len(refused):,} refused"
    )
    print(
        f"taken: p99 {quantile(taken, 0.99):.2f} s; refused: median {1e3 * quantile(refused, 0.5):.0f} ms, "
        f"p99 {1e3 * quantile(refused, 0.99):.0f} ms; recovery {recovery:.2f} s; memory {before:.0f} -> {after:.0f} MB"
    )
    assert load.statuses() == {200, 429} or load.statuses() == {200, 429, 503}
    assert load.broken == []
    assert quantile(taken, 0.99) <= 4.0  # twice the deadline of two seconds
    assert quantile(refused, 0.5) < 0.05
    assert recovery < 2.0
    assert after < 1.05 * before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_end_with_64_under_way(runs: Mapping[str, Run], number: signal.Signals) -> None:
    process = Process(f"shop={runs['shop'].path}")
    wait_until_ready(process.url).close()
    hard = {"query": "u5", "k": 40, "why": True, "rules": {"diversity": 0.5}}
    host, _, port = process.url.removeprefix("http://").rpartition(":")
    connections = [http.client.HTTPConnection(host, int(port), timeout=60) for _ in range(64)]
    for connection in connections:
        connection.connect()
    for connection in connections:
        connection.request("POST", "/v1/recommend", json.dumps(hard).encode(), {"Content-Type": "application/json"})
    process.process.send_signal(number)
    told = []
    for connection in connections:
        try:
            told.append(connection.getresponse().status)
        except (OSError, http.client.HTTPException):
            told.append(0)
    status = process.process.wait(60)
    process.process.communicate()
    print(
        f"{number.name}: {told.count(200)} answered, {told.count(503)} refused, {told.count(0)} neither; status {status}"
    )
    if number == signal.SIGTERM:
        assert (status, set(told) <= {200, 503}) == (0, True)
    else:
        assert 0 in told


def test_kills_of_the_service(runs: Mapping[str, Run], tmp_path: Path) -> None:
    from towerkit.serving.client import Client
    from towerkit.serving.journal import Journal

    path = tmp_path / "shop"
    shutil.copytree(runs["shop"].path, path)
    Run.load(path).index(out=tmp_path / "shop.index")
    words = [f"shop={path}", "--events", str(tmp_path / "e.db")]
    draw, number, rounds = random.Random(5), itertools.count(), max(5, int(1_000 * SCALE))
    events, items, sent = list[str](), list[str](), set[str]()

    def write(url: str) -> None:
        with Client(url) as client:
            while True:
                n = next(number)
                try:
                    sent.add(f"e{n}")
                    client.events([{"id": f"e{n}", "query": "newcomer", "item": f"i{n % 40}", "time": n}])
                    events.append(f"e{n}")
                    row = {"item": f"new-{n % 50}", "name": f"New {n}", "price": float(n), "kind": "book"}
                    client.items([row])
                    items.append(row["item"])
                except (OSError, http.client.HTTPException):  # it was killed
                    return

    for _ in range(rounds):
        process = Process(*words, "--index", f"shop={tmp_path / 'shop.index'}")
        wait_until_ready(process.url).close()
        writer = threading.Thread(target=write, args=(process.url,))
        wanted = len(items) + draw.randint(1, 20)
        writer.start()
        while len(items) < wanted and writer.is_alive():
            time.sleep(0.001)
        time.sleep(draw.uniform(0.0, 0.02))
        assert process.end(signal.SIGKILL)[0] == -signal.SIGKILL
        writer.join(60)
    assert len(items) >= rounds
    found = []
    for index in (["--index", f"shop={tmp_path / 'shop.index'}"], []):
        process = Process(*words, *index)
        with wait_until_ready(process.url) as client:
            again = [{"id": each, "query": "newcomer", "item": f"i{int(each[1:]) % 40}"} for each in events]
            for start in range(0, len(again), 500):
                told = client.events(again[start : start + 500])["events"]
                assert {each["status"] for each in told} == {"repeated"}
            found.append(client.recommend(query="newcomer", k=200, exclude_seen=False)["items"])
        assert process.end(signal.SIGTERM)[0] == 0
    journal = Journal(str(tmp_path / "e.db"))
    assert {event.id for event in journal.read("shop")} <= sent
    journal.close()
    names = [[item["item"] for item in each] for each in found]
    print(f"{rounds} kills, {len(events):,} events and {len(items):,} items acknowledged")
    assert set(items) <= set(names[0])
    assert names[0] == names[1]


def test_ten_minutes_of_everything(runs: Mapping[str, Run], tmp_path: Path) -> None:
    from towerkit.serving.client import Client

    process = Process(f"shop={runs['shop'].path}", "--events", str(tmp_path / "e.db"))
    wait_until_ready(process.url).close()
    bodies: list[dict[str, Any]] = [
        {"query": "u5"},
        {"features": {"age": 33.0}},
        {"history": ["i1", "i5"], "why": True},
        {"query": "u7", "where": "price < 20", "rules": {"diversity": 0.3}},
        {"query": "nobody"},
    ]
    seconds, sizes = max(10.0, 600.0 * SCALE), list[float]()
    with (
        Client(process.url, timeout_s=60) as client,
        Load(process.url, 4, 100.0, lambda n: bodies[n % len(bodies)]) as load,
    ):
        until, began = time.monotonic() + seconds, time.monotonic()
        for number in itertools.count():
            if time.monotonic() > until:
                break
            client.events([{"id": f"e{number}", "query": f"n{number % 500}", "item": f"i{number % 40}"}])
            if number % 20 == 0:
                client.items([{"item": f"new-{number % 100}", "name": "New", "price": 1.0, "kind": "toy"}])
                client.remove(f"new-{number % 100}")
                client.forget(f"n{number % 500}")
            if time.monotonic() - began > 0.2 * seconds:  # what is cached is there by then
                sizes.append(process.resident_mb)
            time.sleep(0.02)
    assert process.end(signal.SIGTERM)[0] == 0
    quarter = max(1, len(sizes) // 4)
    early, late = statistics.median(sizes[:quarter]), statistics.median(sizes[-quarter:])
    times = [each for _, each, _ in load.answers]
    print(
        f"{seconds:.0f} s, {len(load.answers):,} answers and {number:,} events; p50 {1e3 * quantile(times, 0.5):.1f} ms, "
        f"p99 {1e3 * quantile(times, 0.99):.1f} ms; memory {early:.0f} -> {late:.0f} MB"
    )
    assert (load.statuses(), load.broken) == ({200}, [])
    assert late < 1.05 * early

"""The service over real connections: recommendations by id beside an empty route, events beside bare commits, and its cold start.

Server and load generator are processes of their own and share the machine. Sides take turns; a round's ratio is of two measurements
that follow each other. Without the extra ``serve`` the benchmark is left out, and a line says so.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

from harness import ratio, report
from serving_world import DIM, HERE, K, Server, trained

TINY = "--tiny" in sys.argv
CANDIDATES, QUERIES = (2_000, 300) if TINY else (100_000, 20_000)
ROUNDS, SECONDS = (2, 0.3) if TINY else (9, 3.0)
CALLERS = 64
"""Connections that ask at once."""
BATCH = 100
"""Events of a call, and of a commit."""


def service(run: Path, index: Path, *words: str) -> Server:
    """``towerkit serve`` with the index."""
    return Server("-m", "towerkit", "serve", f"b={run}", "--index", f"b={index}", "--port", "0", "--json", *words)


def questions() -> list[str]:
    """By id, each query in its turn."""
    return [f'POST /v1/recommend {{"query": "u{number}", "k": {K}}}' for number in range(QUERIES)]


def by_id(run: Path, index: Path) -> None:
    """Throughput beside an empty route of the same server, then the slowest hundredth at half of it."""
    asked: dict[str, list[dict[str, float]]] = {"empty route": [], "recommend": [], "at half the throughput": []}
    with Server(str(HERE / "serving_empty.py")) as empty, service(run, index) as served:
        served.first_answer("/v1/recommend", {"query": "u0"})
        for server, requests in ((empty, ["GET /empty"]), (served, questions())):
            server.asked(requests, SECONDS / 3, connections=CALLERS)  # nothing is measured of what is new to both
        for place in range(ROUNDS):
            turns = [("empty route", empty, ["GET /empty"]), ("recommend", served, questions())]
            for name, server, requests in turns if place % 2 else reversed(turns):
                asked[name].append(server.asked(requests, SECONDS, connections=CALLERS))
        rate = statistics.median(each["answers"] / each["seconds"] for each in asked["recommend"]) / 2
        for place in range(ROUNDS):
            asked["at half the throughput"].append(
                served.asked(questions(), SECONDS, connections=256, rate=rate, seed=place)
            )
        torch = served.has_loaded("libtorch")
    took = {name: [each["seconds"] / each["answers"] for each in asked[name]] for name in ("empty route", "recommend")}
    waited = {
        f"p{share} at half": [each[f"p{share}_s"] for each in asked["at half the throughput"]] for share in (50, 99)
    }
    worked = {name: statistics.median(each["server_cpu_s"] for each in found) for name, found in asked.items()}
    about = {"n": CANDIDATES, "dim": DIM, "k": K, "connections": CALLERS, "rate": round(rate, 1), "torch": torch}
    ratios = {"empty route / recommend": ratio(took["empty route"], took["recommend"])}
    report("service", took | waited, ratios=ratios, server_cpu_s=worked, **about)


def cold(run: Path, index: Path) -> None:
    """From the start of the process to the first answer."""
    seconds, torch = [], False
    for _ in range(ROUNDS):
        with service(run, index) as served:
            seconds.append(served.first_answer("/v1/recommend", {"query": "u1", "k": K}))
            torch = torch or served.has_loaded("libtorch")
            worked = served.cpu_s()
    report("service, cold start", {"first answer": seconds}, n=CANDIDATES, dim=DIM, torch=torch, cpu_s=worked)


def tables(path: Path) -> sqlite3.Connection:
    """A new log with the tables and settings of the service's own, without anything around it."""
    import sqlalchemy as sa

    from towerkit.serving.journal import EVENTS

    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)))
    EVENTS.metadata.create_all(engine)
    engine.dispose()
    return connection


def events(run: Path, index: Path, folder: Path) -> None:
    """Durable events of 64 callers, one and a hundred to a call, beside as many to a bare commit by one writer."""
    number = itertools.count()
    connection = tables(folder / "bare.db")
    took: dict[str, list[float]] = {}

    def rows(count: int) -> list[tuple[str, str, str, str, float]]:
        drawn = itertools.islice(number, count)
        return [("b", f"e-{n:09}", f"u{n * 7 % QUERIES}", f"i{n * 11 % CANDIDATES}", float(n)) for n in drawn]

    def bare(size: int) -> float:
        count, started = 0, time.perf_counter()
        while time.perf_counter() < started + SECONDS:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO towerkit_events (model, id, query, item, time) VALUES (?, ?, ?, ?, ?)", rows(size)
            )
            connection.execute("COMMIT")
            count += size
        return (time.perf_counter() - started) / count

    def through(served: Server, size: int) -> float:
        calls = 400 if TINY else 20_000 if size == 1 else 3_000
        told = [[{"id": i, "query": q, "item": c, "time": t} for _, i, q, c, t in rows(size)] for _ in range(calls)]
        requests = [f"POST /v1/events {json.dumps({'events': each})}" for each in told]
        found = served.asked(requests, SECONDS, connections=CALLERS, once=True)
        return found["seconds"] / found["answers"] / size

    with service(run, index, "--events", str(folder / "events.db")) as served:
        served.first_answer("/v1/events", {"events": [{"id": "first", "query": "u1", "item": "i1"}]})
        for place, size in itertools.product(range(ROUNDS), (1, BATCH)):
            sides = {
                f"bare, {size} a commit": lambda n=size: bare(n),
                f"service, {size} a call": lambda n=size: through(served, n),
            }
            for name in sides if place % 2 else reversed(sides):
                took.setdefault(name, []).append(sides[name]())  # type: ignore[misc]
    ratios = {
        f"bare, {size} a commit / service, {size} a call": ratio(
            took[f"bare, {size} a commit"], took[f"service, {size} a call"]
        )
        for size in (1, BATCH)
    }
    report("service, events", took, n=CANDIDATES, dim=DIM, connections=CALLERS, ratios=ratios)


def main() -> None:
    """All of it, tiny or whole."""
    lacking = [
        name for name in ("fastapi", "uvicorn", "orjson", "sqlalchemy") if importlib.util.find_spec(name) is None
    ]
    if lacking:
        report("service", {}, left_out=f"{lacking[0]} is not installed: pip install 'towerkit[serve]'", ratios={})
        return
    folder = Path(tempfile.mkdtemp())
    try:
        run, index = trained(folder, CANDIDATES, QUERIES)
        by_id(run, index)
        cold(run, index)
        events(run, index, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()

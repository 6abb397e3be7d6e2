"""What the benchmark of the service asks: a Run with its index, and servers as processes that tell what they worked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

import towerkit as tk

HERE = Path(__file__).parent
DIM, K = 64, 20
_PATIENCE_S = 120.0


def trained(folder: Path, num_candidates: int, num_queries: int) -> tuple[Path, Path]:
    """A two-tower of ids that learns while it is served, trained for one epoch on random pairs, and an exact index of it.

    Its vectors lie in all directions alike, which is as hard as it gets for a search that wants to leave candidates out.
    """
    draw = np.random.default_rng(0)
    users = np.repeat(np.arange(num_queries), 4)
    pairs = {
        "user": [f"u{number}" for number in users],
        "item": [f"i{number}" for number in draw.integers(0, num_candidates, len(users))],
    }
    items = {
        "item": [f"i{number}" for number in range(num_candidates)],
        "title": [f"Thing number {number}" for number in range(num_candidates)],
    }
    entities = {"item": {"table": items, "title": "title"}}
    split = {"kind": "random", "validation": 0.0, "test": 0.05}
    data = tk.read(pairs, query="user", candidate="item", entities=entities, split=split)
    side = {"kind": "id", "dim": DIM}
    model = {"kind": "two_tower", "query": side, "candidate": side}
    spec = {"model": model, "update": {"kind": "one_backprop"}, "training": {"epochs": 1}, "evaluation": {"k": [20]}}
    run = tk.fit(spec, data, run=folder / "run")
    run.index(out=folder / "index")
    return folder / "run", folder / "index"


class Server(AbstractContextManager["Server"]):
    """A process that listens; it says where on its first line."""

    def __init__(self, *words: str) -> None:
        self.started = time.perf_counter()
        environment = os.environ | {"TOWERKIT_TOKEN": "", "TOWERKIT_ADMIN_TOKEN": ""}
        self.process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(words)} did not start")
        self.url: str = json.loads(line)["listening"]
        self.port = int(self.url.rpartition(":")[2])

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(60)

    def first_answer(self, path: str, body: Mapping[str, Any]) -> float:
        """Seconds from the start of the process to its first answer."""
        request = urllib.request.Request(  # noqa: S310 - our own address
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        while True:
            try:
                with urllib.request.urlopen(request) as answer:  # noqa: S310
                    answer.read()
                return time.perf_counter() - self.started
            except urllib.error.HTTPError as error:
                if error.code != 503 or time.perf_counter() > self.started + _PATIENCE_S:
                    raise
                time.sleep(0.005)

    def cpu_s(self) -> float:
        """What it has worked so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def has_loaded(self, library: str) -> bool:
        """Whether a shared library is in its memory."""
        return library in Path(f"/proc/{self.process.pid}/maps").read_text()

    def asked(self, requests: list[str], seconds: float, **how: Any) -> dict[str, float]:
        """One measurement by a process of its own, with what the server worked for each answer."""
        before = self.cpu_s()
        about = {"port": self.port, "requests": requests, "seconds": seconds, **how}
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(about, file)
            file.flush()
            command = [sys.executable, str(HERE / "serving_load.py"), file.name]
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found: dict[str, float] = json.loads(told)
        if found["refused"]:
            raise SystemExit(f"{found['refused']:.0f} of {found['answers']:.0f} answers were refusals")
        return found | {"server_cpu_s": (self.cpu_s() - before) / max(found["answers"], 1)}

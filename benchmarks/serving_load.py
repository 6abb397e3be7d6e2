"""Ask a service over kept connections from a process of its own, and tell how many answers came and how long each took.

    python benchmarks/serving_load.py ASKED.json

where the file says ``{"port": 8000, "requests": ["POST /v1/recommend {…}"], "seconds": 3}``.

Without a ``rate`` each connection asks again as soon as it is answered: that gives the throughput. With one, requests are due at
random moments (a Poisson process) whatever the service does, and an answer's time counts from the moment its request was *due*: one
that had to wait because the service was slow before it is not left out. It needs the standard library alone.
"""

from __future__ import annotations

import json
import random
import select
import socket
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any


@dataclass
class Connection:
    """One kept connection."""

    socket: socket.socket
    due: float = 0.0
    received: bytes = b""
    wanted: int = 0
    """Bytes of the answer; 0 until its headers are there."""


@dataclass
class Load:
    """What is asked and what came back."""

    port: int
    requests: list[bytes]
    connections: int
    once: bool = False
    """Stop after the last request, in place of beginning again."""
    poll: select.epoll = field(default_factory=select.epoll)
    of: dict[int, Connection] = field(default_factory=dict)
    took: list[float] = field(default_factory=list)
    refused: int = 0

    def __post_init__(self) -> None:
        self._next = iter(self.requests) if self.once else cycle(self.requests)
        for _ in range(self.connections):
            own = socket.create_connection(("127.0.0.1", self.port))
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            own.setblocking(False)
            self.of[own.fileno()] = Connection(own)
            self.poll.register(own.fileno(), select.EPOLLIN)

    def send(self, connection: Connection, due: float) -> bool:
        """Ask for the next thing; whether there is one."""
        request = next(self._next, None)
        if request is None:
            return False
        connection.due, connection.received, connection.wanted = due, b"", 0
        sent = connection.socket.send(request)
        if sent < len(request):  # a long one, and a full buffer
            connection.socket.setblocking(True)
            connection.socket.sendall(request[sent:])
            connection.socket.setblocking(False)
        return True

    def answered(self, number: int) -> Connection | None:
        """Read what came; the connection, if the answer is whole."""
        connection = self.of[number]
        part = connection.socket.recv(65_536)
        if not part:
            raise SystemExit("the service closed a connection")
        connection.received = received = connection.received + part if connection.received else part
        if not connection.wanted:
            end = received.find(b"\r\n\r\n")
            if end < 0:
                return None
            place = received.lower().find(b"content-length:", 0, end)
            stop = received.find(b"\r\n", place)
            connection.wanted = end + 4 + int(received[place + 15 : stop])
        if len(received) < connection.wanted:
            return None
        self.refused += not received.startswith(b"HTTP/1.1 200")
        return connection

    def closed(self, seconds: float) -> float:
        """Each connection asks again at once; the seconds that it took."""
        started = now = time.perf_counter()
        under_way = sum([self.send(connection, now) for connection in self.of.values()])
        while under_way and (now < started + seconds or self.once):
            for number, _ in self.poll.poll(1.0):
                connection = self.answered(number)
                if connection is not None:
                    now = time.perf_counter()
                    self.took.append(now - connection.due)
                    under_way -= not (now < started + seconds and self.send(connection, now))
            now = time.perf_counter()
        return now - started

    def open(self, seconds: float, rate: float, draw: random.Random) -> float:
        """Requests are due at random moments; the seconds until the last of them was answered."""
        free, due = deque(self.of.values()), deque[float]()
        started = now = time.perf_counter()
        coming, under_way = started + draw.expovariate(rate), 0
        while coming < started + seconds or due or under_way:
            while coming <= now and coming < started + seconds:
                due.append(coming)
                coming += draw.expovariate(rate)
            while due and free:
                self.send(free.popleft(), due.popleft())
                under_way += 1
            wait = coming - time.perf_counter() if coming < started + seconds and not due else 1.0
            if wait > 0:
                select.select(
                    [self.poll.fileno()], [], [], wait
                )  # to the microsecond; epoll's own is to the millisecond
            for number, _ in self.poll.poll(0):
                connection = self.answered(number)
                if connection is not None:
                    self.took.append(time.perf_counter() - connection.due)
                    free.append(connection)
                    under_way -= 1
            now = time.perf_counter()
        return now - started


def request_bytes(line: str) -> bytes:
    """``METHOD PATH BODY`` as it goes over a connection."""
    method, path, body = [*line.split(" ", 2), ""][:3]
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body.encode())}\r\n"
    return f"{head}\r\n{body}".encode()


def quantile(ordered: list[float], share: float) -> float:
    """Of times in order."""
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


def main() -> None:
    """One measurement, told as a line of JSON."""
    asked: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    requests = [request_bytes(line) for line in asked["requests"]]
    load = Load(asked["port"], requests, asked.get("connections", 64), asked.get("once", False))
    worked, rate = time.process_time(), asked.get("rate")
    if rate is None:
        seconds = load.closed(asked["seconds"])
    else:
        seconds = load.open(asked["seconds"], rate, random.Random(asked.get("seed", 0)))  # noqa: S311 - no secret
    ordered = sorted(load.took)
    found = {
        "answers": len(ordered),
        "refused": load.refused,
        "seconds": seconds,
        "cpu_s": time.process_time() - worked,
    }
    print(json.dumps(found | {f"p{share}_s": quantile(ordered, share / 100) for share in (50, 90, 99)}))


if __name__ == "__main__":
    main()

"""What the service counts of itself, as Prometheus reads it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from towerkit.serving.worker import Worker

_CALLS = (
    "/v1/recommend",
    "/v1/similar",
    "/v1/score",
    "/v1/predict",
    "/v1/embed",
    "/v1/events",
    "/v1/items",
    "/v1/models",
)
_BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0)


class Meters:
    """Counters of one service; two in one process do not mix.

    Args:
        worker: The inference thread, whose queue is told.
    """

    def __init__(self, worker: Worker) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("towerkit_requests", "Answers.", ["call", "status"], registry=self.registry)
        self.seconds = Histogram(
            "towerkit_request_seconds", "Time to an answer.", ["call"], buckets=_BOUNDS_S, registry=self.registry
        )
        self.events = Counter("towerkit_events", "Events that were acknowledged.", registry=self.registry)
        waiting = Gauge("towerkit_waiting", "Requests that wait for the inference thread.", registry=self.registry)
        waiting.set_function(lambda: worker.depth)
        batches = Gauge("towerkit_batches", "Batches that were computed.", registry=self.registry)
        batches.set_function(lambda: worker.batches)
        self._answered: dict[tuple[str, int], Counter] = {}
        self._took = {call: self.seconds.labels(call) for call in (*_CALLS, "other")}

    def page(self) -> bytes:
        """All of it."""
        return generate_latest(self.registry)

    def refused(self, path: str, status: int) -> None:
        """A request that never reached a call.

        Args:
            path: Whatever was asked for.
            status: Of the answer.
        """
        self._count(_call_of(path), status, 0.0)

    def _count(self, call: str, status: int, seconds: float) -> None:
        counter = self._answered.get((call, status))
        if counter is None:  # looking one up by its labels takes longer than to count
            counter = self._answered[call, status] = self.requests.labels(call, str(status))
        counter.inc()
        self._took[call].observe(seconds)

    def around(self, app: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        """The application with its calls counted; a path that is no call counts as ``other``."""

        async def counted(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            call, began = _call_of(scope["path"]), time.perf_counter()

            async def told(message: MutableMapping[str, Any]) -> None:
                if message["type"] == "http.response.start":
                    self._count(call, message["status"], time.perf_counter() - began)
                await send(message)

            await app(scope, receive, told)

        return counted


def _call_of(path: str) -> str:
    return path if path in _CALLS else "other"

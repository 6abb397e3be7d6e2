"""A running service as the studio sees it: what it serves, what it counted, and changes that need its admin token."""

from __future__ import annotations

import http.client
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field

from towerkit.core.errors import RunError, SpecError
from towerkit.serving.client import Client, ServiceError
from towerkit.serving.problems import Problem
from towerkit.serving.requests import ModelName
from towerkit.studio.asking import Strict

_TIMEOUT_S = 5.0
_MOST_BYTES = 4_000_000
_LINE = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>[^}]*)\})? (?P<value>[-+\d.eEInfNa]+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Change(Strict):
    """Put another Run in the place of a served one, or back."""

    model: ModelName
    candidate: ModelName | None = None
    """None takes back what was served before."""
    token: Annotated[str, Field(max_length=256)] = Field(repr=False)


@dataclass(frozen=True)
class Latency:
    """The times of one call since the service began."""

    call: str
    answers: int
    refused: int
    mean_ms: float
    bounds: tuple[tuple[float, float], ...]
    """Milliseconds -> the share of answers that came within them."""

    def within(self, share: float) -> float:
        """The first bound, in milliseconds, that so large a share came within; infinity above the last."""
        return next((bound for bound, found in self.bounds if found >= share), float("inf"))


@dataclass(frozen=True)
class State:
    """What a service says of itself."""

    models: Sequence[Mapping[str, Any]]
    calls: Sequence[Latency]
    waiting: float
    batches: float
    events: float


@dataclass(frozen=True)
class ServiceLink:
    """The way to a service.

    Args:
        address: Such as ``http://127.0.0.1:8000``.
        token: What its callers show, if it wants one.

    Raises:
        SpecError: If the address is none.
    """

    address: str
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        try:
            Client(self.address)
        except ValueError as error:
            raise SpecError(f"--service: {error}") from None

    def state(self) -> State:
        """Ask it.

        Raises:
            RunError: If it does not answer.
        """
        try:
            with Client(self.address, token=self.token, timeout_s=_TIMEOUT_S) as client:
                models = client.models()["models"]
            return _state(models, self._metrics())
        except ServiceError as error:
            raise RunError(f"The service at {self.address} refuses: {error}") from None
        except (OSError, http.client.HTTPException, KeyError) as error:
            raise RunError(
                f"The service at {self.address} does not answer ({error}). Start it: towerkit serve RUN."
            ) from None

    def change(self, asked: Change) -> Mapping[str, Any]:
        """Swap or roll back.

        Raises:
            Problem: As the service told it.
            RunError: If it does not answer.
        """
        try:
            with Client(self.address, token=asked.token, timeout_s=300.0) as client:
                if asked.candidate is None:
                    return client.rollback(asked.model)
                return client.swap(asked.model, asked.candidate)
        except ServiceError as error:
            raise Problem(error.status, error.rule, error.received, error.next) from None
        except ValueError:
            raise Problem(422, "A token is printable ASCII.", "another text", "Type it again.") from None
        except (OSError, http.client.HTTPException) as error:
            raise RunError(f"The service at {self.address} does not answer ({error}).") from None

    def _metrics(self) -> str:
        parts = urlsplit(self.address)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=_TIMEOUT_S)
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        try:
            connection.request("GET", "/metrics", headers=headers)
            answer = connection.getresponse()
            return answer.read(_MOST_BYTES).decode("utf-8", "replace") if answer.status == 200 else ""
        finally:
            connection.close()


def _state(models: Sequence[Mapping[str, Any]], text: str) -> State:
    samples = parsed(text)
    calls = [
        _latency(call, samples) for call in sorted({labels["call"] for _, labels, _ in samples if "call" in labels})
    ]

    def single(name: str) -> float:
        return next((value for found, _, value in samples if found == name), 0.0)

    counts = (single("towerkit_waiting"), single("towerkit_batches"), single("towerkit_events_total"))
    return State(models, [each for each in calls if each.answers], *counts)


def parsed(text: str) -> list[tuple[str, dict[str, str], float]]:
    """The samples of a page in the text format of Prometheus: name, labels, value.

    Example:
        >>> parsed('# HELP x y\\nhits_total{call="a",status="200"} 3.0\\n')
        [('hits_total', {'call': 'a', 'status': '200'}, 3.0)]
    """
    found = []
    for line in text.splitlines():
        match = None if line.startswith("#") else _LINE.fullmatch(line)
        if match is not None:
            labels = dict(_LABEL.findall(match["labels"] or ""))
            found.append((match["name"], labels, float(match["value"])))
    return found


def _latency(call: str, samples: Sequence[tuple[str, dict[str, str], float]]) -> Latency:
    own = [(name, labels, value) for name, labels, value in samples if labels.get("call") == call]
    answers = sum(value for name, _, value in own if name == "towerkit_requests_total")
    refused = sum(
        value for name, labels, value in own if name == "towerkit_requests_total" and labels["status"] >= "400"
    )
    total = next((value for name, _, value in own if name == "towerkit_request_seconds_sum"), 0.0)
    count = next((value for name, _, value in own if name == "towerkit_request_seconds_count"), 0.0)
    buckets = sorted(
        (float(labels["le"]) * 1e3, value / count if count else 0.0)
        for name, labels, value in own
        if name == "towerkit_request_seconds_bucket" and labels["le"] != "+Inf"
    )
    return Latency(call, int(answers), int(refused), total / count * 1e3 if count else 0.0, tuple(buckets))

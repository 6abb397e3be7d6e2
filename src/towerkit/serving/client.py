"""A client of the service, for threads and for event loops; it needs nothing but the standard library."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Generic, Self, TypeVar
from urllib.parse import quote, urlsplit

Answer = dict[str, Any]
A = TypeVar("A")
Row = Mapping[str, Any]


class ServiceError(Exception):
    """The service refused.

    Args:
        status: Of HTTP.
        error: The rule, what was received, the next step.
    """

    def __init__(self, status: int, error: Mapping[str, str]) -> None:
        self.status = status
        self.rule, self.received, self.next = (error.get(name, "") for name in ("rule", "received", "next"))
        received = f"; received {self.received}" if self.received else ""
        super().__init__(f"{status}: {self.rule}{received}. {self.next}")


class _Call:
    """What is sent, and what came back."""

    def __init__(self, url: str, token: str | None) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"A service has an address such as http://127.0.0.1:8000; received {url!r}.")
        self.host, self.port = parts.hostname, parts.port or 80
        self.headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})

    @staticmethod
    def read(status: int, body: bytes) -> Answer:
        """The answer, or the refusal as an error."""
        try:
            content: Answer = json.loads(body)
        except ValueError:
            raise ServiceError(status, {"rule": "A service answers JSON", "received": repr(body[:80])}) from None
        if status >= 400:
            raise ServiceError(status, content.get("error", {}))
        return content


class _Questions(Generic[A]):
    """The calls by name; what a call gives is an answer, or what is to be awaited for one."""

    def call(self, method: str, path: str, body: Any = None) -> A:
        """Any call.

        Args:
            method: Of HTTP.
            path: Such as ``/v1/models``.
            body: What to send as JSON.
        """
        raise NotImplementedError

    def recommend(self, **asked: Any) -> A:
        """The best candidates; see ``POST /v1/recommend``."""
        return self.call("POST", "/v1/recommend", asked)

    def similar(self, **asked: Any) -> A:
        """Candidates like one, or queries like one."""
        return self.call("POST", "/v1/similar", asked)

    def score(self, pairs: Sequence[Row], **asked: Any) -> A:
        """The scores of pairs."""
        return self.call("POST", "/v1/score", {"pairs": list(pairs), **asked})

    def predict(self, rows: Sequence[Row], **asked: Any) -> A:
        """The tasks of raw rows."""
        return self.call("POST", "/v1/predict", {"rows": list(rows), **asked})

    def embed(self, rows: Sequence[Row], **asked: Any) -> A:
        """The vectors of raw rows."""
        return self.call("POST", "/v1/embed", {"rows": list(rows), **asked})

    def events(self, events: Sequence[Row], **asked: Any) -> A:
        """Tell what happened; it is on disk when this returns."""
        return self.call("POST", "/v1/events", {"events": list(events), **asked})

    def items(self, items: Sequence[Row], **asked: Any) -> A:
        """Tell of new candidates, or of new values of known ones."""
        return self.call("POST", "/v1/items", {"items": list(items), **asked})

    def remove(self, item: str, model: str | None = None) -> A:
        """Take a candidate out of all answers."""
        within = "/v1" if model is None else f"/v1/models/{model}"
        return self.call("DELETE", f"{within}/items/{quote(str(item), safe='')}")

    def forget(self, query: str) -> A:
        """Remove what was told of a user."""
        return self.call("DELETE", f"/v1/users/{quote(str(query), safe='')}")

    def swap(self, model: str, candidate: str) -> A:
        """Put another Run in the place of a served one; needs the admin token."""
        return self.call("POST", f"/v1/models/{model}:swap", {"candidate": candidate})

    def rollback(self, model: str) -> A:
        """Serve again what was served before; needs the admin token."""
        return self.call("POST", f"/v1/models/{model}:rollback")

    def models(self) -> A:
        """What is served."""
        return self.call("GET", "/v1/models")


class Client(_Questions[Answer]):
    """Asks a service, one request at a time over one connection.

    Args:
        url: Such as ``http://127.0.0.1:8000``.
        token: If it wants one.
        timeout_s: How long to wait for an answer.

    Example:
        >>> Client("ftp://nowhere")
        Traceback (most recent call last):
        ValueError: A service has an address such as http://127.0.0.1:8000; received 'ftp://nowhere'.
    """

    def __init__(self, url: str, *, token: str | None = None, timeout_s: float = 10.0) -> None:
        self._call = _Call(url, token)
        self._connection = http.client.HTTPConnection(self._call.host, self._call.port, timeout=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def call(self, method: str, path: str, body: Any = None) -> Answer:
        """Any call.

        Args:
            method: Of HTTP.
            path: Such as ``/v1/models``.
            body: What to send as JSON.

        Raises:
            ServiceError: If the service refuses.
        """
        data = None if body is None else json.dumps(body).encode()
        try:
            answer = self._sent(method, path, data)
        except (http.client.CannotSendRequest, ConnectionError):
            self._connection.close()
            if path.endswith((":swap", ":rollback")):  # all others may come twice
                raise
            answer = self._sent(method, path, data)  # the service has closed a connection that was idle
        return self._call.read(answer.status, answer.read())

    def _sent(self, method: str, path: str, data: bytes | None) -> http.client.HTTPResponse:
        self._connection.request(method, path, data, self._call.headers)
        return self._connection.getresponse()

    def ready(self) -> bool:
        """Whether the service is there and ready."""
        try:
            return self.call("GET", "/health/ready").get("status") == "ready"
        except (ServiceError, OSError, http.client.HTTPException):
            self._connection.close()
            return False


class AsyncClient(_Questions[Awaitable[Answer]]):
    """The methods of :class:`Client`, to be awaited; each call has a connection of its own.

    Args:
        url: Such as ``http://127.0.0.1:8000``.
        token: If it wants one.
        timeout_s: How long to wait for an answer.
    """

    def __init__(self, url: str, *, token: str | None = None, timeout_s: float = 10.0) -> None:
        self._call, self._timeout_s = _Call(url, token), timeout_s

    def call(self, method: str, path: str, body: Any = None) -> Awaitable[Answer]:
        """Any call; see :meth:`Client.call`.

        Args:
            method: Of HTTP.
            path: Such as ``/v1/models``.
            body: What to send as JSON.
        """
        return self._answer(method, path, body)

    async def _answer(self, method: str, path: str, body: Any) -> Answer:
        data = b"" if body is None else json.dumps(body).encode()
        headers = self._call.headers | {
            "Host": self._call.host,
            "Content-Length": str(len(data)),
            "Connection": "close",
        }
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        async with asyncio.timeout(self._timeout_s):
            reader, writer = await asyncio.open_connection(self._call.host, self._call.port)
            try:
                writer.write("\r\n".join(lines).encode("latin-1") + data)
                await writer.drain()
                head, _, answer = (await reader.read(-1)).partition(b"\r\n\r\n")
            finally:
                writer.close()
                await writer.wait_closed()
        words = head.split(None, 2)
        if len(words) < 2:
            raise ConnectionError("the service closed the connection without an answer")
        return self._call.read(int(words[1]), answer)

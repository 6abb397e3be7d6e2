"""Connections that cannot hold the service up: headers that never end, callers that never read, more of them than there is room.

uvicorn waits for all of these as long as they like. A body that comes slowly is the business of :mod:`towerkit.serving.guard`.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from towerkit.serving.guard import MOST_HEADER_BYTES, SECURITY_HEADERS
from towerkit.serving.problems import Problem
from towerkit.serving.settings import Limits

_SPARE = 64
"""Connections beyond the limit, for those who ask whether the service lives."""


class Connection(HttpToolsProtocol):  # type: ignore[misc,unused-ignore]
    """One connection of a caller."""

    limits = Limits()
    _in_headers = True
    _header_bytes = 0
    _too_slow: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _running: Any = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override,unused-ignore]
        """Let it in, in the place of one that has been idle for long if need be."""
        super().connection_made(transport)
        self._idle_since = time.monotonic()
        excess = len(self.connections) - self.limits.connections
        if excess > 0:
            idle = [each for each in self.connections if isinstance(each, Connection) and each.is_idle]
            oldest = min(idle, key=lambda each: each._idle_since, default=None)
            if oldest is not None and oldest is not self:
                oldest.transport.close()
            elif excess > _SPARE:
                transport.abort()
                return
        self._wait_for_headers()

    @property
    def is_idle(self) -> bool:
        """Whether no request of it is under way."""
        return (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        for timer in (self._too_slow, self._unread):
            if timer is not None:
                timer.cancel()
        if self._running is not None:  # uvicorn tells the last request of those that came one behind the other
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """Answer a request."""
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def data_received(self, data: bytes) -> None:
        """Some of a request, or of several."""
        super().data_received(data)
        if not self._in_headers:
            if self._too_slow is not None:
                self._too_slow.cancel()
                self._too_slow = None
            return
        self._header_bytes += (
            len(data) if self._header_bytes >= 0 else 1
        )  # before it may stand the end of another request
        if self._header_bytes > 2 * MOST_HEADER_BYTES and not self.transport.is_closing():
            self._refuse(Problem(431, f"Headers have {MOST_HEADER_BYTES:,} bytes at most.", "more", "Send fewer."))
        else:
            self._wait_for_headers()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._in_headers, self._header_bytes = True, -1
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its body may follow."""
        self._in_headers = False
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """The answer is on its way."""
        self._idle_since = time.monotonic()
        super().on_response_complete()

    def _wait_for_headers(self) -> None:
        if self._too_slow is None:
            self._too_slow = self.loop.call_later(self.limits.headers_s, self.transport.abort)

    def pause_writing(self) -> None:
        """The caller does not read."""
        super().pause_writing()
        self._unread = self.loop.call_later(self.limits.unread_s, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads again."""
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP.

        Args:
            msg: In the words of the server.
        """
        self._refuse(Problem(400, "A request is HTTP/1.1.", msg, "Send what an HTTP library writes."))

    def _refuse(self, problem: Problem) -> None:
        """Answer before there is a request, and close."""
        body = problem.body()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        lines = [b"HTTP/1.1 %d Refused" % problem.status, b"connection: close"]
        lines += [name + b": " + value for name, value in (*headers, *SECURITY_HEADERS)]
        self.transport.write(b"\r\n".join([*lines, b"", body]))
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Whoever asks for a web socket is answered as if it had not."""


def connections_of(limits: Limits) -> type[Connection]:
    """The connections of a service.

    Args:
        limits: How long they may take, and how many there may be.
    """
    own = limits

    class Limited(Connection):
        limits = own

    return Limited

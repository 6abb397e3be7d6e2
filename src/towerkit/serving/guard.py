"""What stands before every call: who is asking, from where, and how much is being sent. Plain ASGI, so that it sees all bytes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from towerkit.serving.problems import Problem
from towerkit.serving.settings import LOOPBACK, Settings, same_token
from towerkit.serving.strict_json import parse_strictly

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_LOG = logging.getLogger("towerkit.serving")
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
PARSED = "towerkit.json"
"""Where a scope keeps the checked value of its body."""
_OPEN = ("/health/live", "/health/ready")
MOST_HEADER_BYTES = 16_384
_LONGEST_PATH = 4_096
"""Room for a key of 256 characters, each of four bytes of which each takes three signs."""
_DRAINED_BYTES, _DRAINED_S = 32_000_000, 2.0
"""How much of a body that is too long is still read, and thrown away: whoever sends first and reads then gets the answer."""


class Guard:
    """Refuse what must not reach the service.

    Args:
        app: The service.
        settings: Whom it trusts.
        state: What a test wants to look at.
        refused: Called with the path and status of what it refuses.
    """

    def __init__(
        self, app: App, settings: Settings, state: Any = None, refused: Callable[[str, int], None] = lambda *_: None
    ) -> None:
        self.state = state
        self.app, self.settings, self._refused = app, settings, refused
        self._under_way = 0
        self._hosts = {*LOOPBACK, *(name.lower() for name in settings.hosts), settings.host.lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # a web socket is closed
        began = False

        async def guarded(message: MutableMapping[str, Any]) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                message = {**message, "headers": [*message.get("headers", ()), *SECURITY_HEADERS]}
            await send(message)

        self._under_way += 1
        try:
            headers = self._headers(scope)
            self._check_where_from(headers)
            self._check_room(scope["path"])
            self._check_token(scope["path"], headers)
            body = await self._body(scope, headers, receive)
            if body:
                scope[PARSED] = parse_strictly(body)
            await self.app(scope, _replayed(body, receive), guarded)
        except Problem as problem:
            self._refused(scope["path"], problem.status)
            await _answer(guarded, problem, receive if problem.status == 413 else None)
        except Exception:
            _LOG.exception("%s %r failed", scope["method"], scope["path"][:100])
            if not began:
                await _answer(guarded, Problem(500, "The service failed to answer.", "", "Its log says where."))
        finally:
            self._under_way -= 1

    def _check_room(self, path: str) -> None:
        """Whoever asks whether the service lives is answered however many others there are."""
        most = self.settings.limits.connections
        if self._under_way > most and path not in _OPEN:
            known = f"At most {most:,} requests are under way."
            raise Problem(503, known, "one more", "Ask again later.", {"Retry-After": "1"})

    def _headers(self, scope: Scope) -> dict[bytes, bytes]:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        size = 0
        for name, value in headers:
            size += len(name) + len(value)
        if size > MOST_HEADER_BYTES:
            raise Problem(431, f"Headers have {MOST_HEADER_BYTES:,} bytes at most.", "more", "Send fewer.")
        if len(scope.get("raw_path") or scope["path"].encode()) > _LONGEST_PATH or len(scope["query_string"]) > 0:
            raise Problem(
                404, "Calls have short paths and no query string.", "another one", "Put what is asked into the body."
            )
        found = dict(headers)
        if len(found) < len(headers):
            names = [name for name, _ in headers]
            for name in (b"host", b"authorization", b"content-length", b"origin", b"content-type"):
                if names.count(name) > 1:
                    raise Problem(400, "A header stands there once.", name.decode(), "Leave one of them.")
        return found

    def _check_where_from(self, headers: dict[bytes, bytes]) -> None:
        """A page of another site that a browser shows must not reach the service, whatever name it found for it."""
        host = _name_of("//" + headers.get(b"host", b"").decode("latin-1"))
        if host not in self._hosts:
            raise Problem(
                421, "The header Host names this service.", host or "none", "Start it with --allow-host NAME."
            )
        origin = headers.get(b"origin")
        if origin is not None and _name_of(origin.decode("latin-1")) not in self._hosts:
            raise Problem(403, "Pages of other origins may not call.", origin.decode("latin-1"), "Call from a server.")

    def _check_token(self, path: str, headers: dict[bytes, bytes]) -> None:
        expected = self.settings.token
        if expected is None or path in _OPEN:
            return
        given = bearer(headers)
        admin = self.settings.admin_token
        known = given is not None and (same_token(given, expected) or (admin is not None and same_token(given, admin)))
        if not known:
            raise Problem(
                401,
                "Calls show a token.",
                "none" if given is None else "another one",
                "Send Authorization: Bearer TOKEN.",
                {"WWW-Authenticate": "Bearer"},
            )

    async def _body(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """All of a small body, or the reason why it is not taken."""
        limit = self.settings.limits.body_bytes
        if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
            raise Problem(
                415, "Bodies are not compressed.", headers[b"content-encoding"].decode("latin-1"), "Send it as it is."
            )
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > limit:
            raise _too_long(limit)
        try:
            async with asyncio.timeout(self.settings.limits.body_s):
                body = await _received(receive, limit)
        except TimeoutError:
            raise Problem(
                408, "A body comes at once.", "a slow one", "Send it faster.", {"Connection": "close"}
            ) from None
        kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        if body and kind != b"application/json":
            raise Problem(415, "Bodies are application/json.", kind.decode("latin-1") or "no Content-Type", "Say so.")
        return body


def bearer(headers: dict[bytes, bytes]) -> str | None:
    """The token that a request shows.

    Args:
        headers: By lower-case name.
    """
    scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


async def _received(receive: Receive, limit: int) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem(400, "A body is whole.", "a part", "Send it again.")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise _too_long(limit)
        if not message.get("more_body", False):
            return b"".join(parts)


def _too_long(limit: int) -> Problem:
    return Problem(413, f"A body has {limit:,} bytes at most.", "more", "Send less at a time.", {"Connection": "close"})


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body once more for the service behind; then whatever the connection says."""
    given = False

    async def again() -> MutableMapping[str, Any]:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


@lru_cache(256)
def _name_of(address: str) -> str | None:
    """The host of an address; None where there is none."""
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


async def _answer(send: Send, problem: Problem, rest: Receive | None = None) -> None:
    """Answer at once; a connection that were closed on what is still being sent would take the answer with it."""
    body = problem.body()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": rest is not None})
    if rest is not None:
        await _drained(rest)
        await send({"type": "http.response.body", "body": b""})


async def _drained(receive: Receive) -> None:
    size = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAINED_S):
            while size <= _DRAINED_BYTES:
                message = await receive()
                size += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return

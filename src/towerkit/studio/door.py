"""What stands before every page: the service's guard, a strict policy for browsers, and a session in place of a token.

A browser cannot show a bearer token when a person follows a link. Who signs in once gets a cookie that no script can read and no
other site can send; for requests that bring it, the token is put in, and the guard of the service sees what it always sees.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Iterable, MutableMapping
from dataclasses import replace
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from towerkit.serving.guard import SECURITY_HEADERS, App, Guard, Receive, Scope, Send
from towerkit.serving.problems import Problem
from towerkit.serving.settings import Settings, same_token

COOKIE = "towerkit-studio"
SIGN_IN = "/sign-in"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_STATIC = "/static/"
_MOST_SESSIONS = 64
_REPLACED = {b"content-security-policy", b"cache-control"}
Headers = list[tuple[bytes, bytes]]


class Sessions:
    """Who has shown the token; forgotten when the process ends."""

    def __init__(self, token: str | None) -> None:
        self._token = token
        self._known: OrderedDict[str, None] = OrderedDict()

    @property
    def is_needed(self) -> bool:
        """Whether pages are for those alone who know a token."""
        return self._token is not None

    def begin(self, given: str) -> str | None:
        """A new session for who shows the token; None for another one."""
        if self._token is None or not same_token(given, self._token):
            return None
        session = secrets.token_urlsafe(32)
        self._known[session] = None
        while len(self._known) > _MOST_SESSIONS:
            self._known.popitem(last=False)
        return session

    def end(self, session: str) -> None:
        """Forget a session."""
        self._known.pop(session, None)

    def token_of(self, session: str) -> str | None:
        """The token, where the session is known."""
        return self._token if session in self._known else None


class Door:
    """The pages behind the guard of the service.

    Args:
        app: The pages.
        settings: Whom the process trusts.
        sessions: Who has signed in.
    """

    def __init__(self, app: App, settings: Settings, sessions: Sessions) -> None:
        self.sessions = sessions
        self._inside = Guard(app, settings)
        hosts = (*settings.hosts, settings.host)
        self._outside = Guard(app, replace(settings, host="127.0.0.1", hosts=hosts, token=None, admin_token=None))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] != "http":
            await self._inside(scope, receive, send)
            return
        headers: Headers = list(scope["headers"])

        async def told(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": _with_policy(message.get("headers", ()), scope["path"])}
            await send(message)

        problem = foreign_problem(headers)
        if problem is not None:
            await answer(told, problem)
            return
        if not self.sessions.is_needed or scope["path"].startswith((_STATIC, SIGN_IN)):
            await self._outside(scope, receive, told)
            return
        token = self.sessions.token_of(session_of(headers))
        if token is not None:
            kept = [pair for pair in headers if pair[0] != b"authorization"]
            scope = {**scope, "headers": [*kept, (b"authorization", f"Bearer {token}".encode())]}
        elif scope["method"] == "GET" and not any(name == b"authorization" for name, _ in headers):
            await _led(told, SIGN_IN)
            return
        await self._inside(scope, receive, told)


def foreign_problem(headers: Headers) -> Problem | None:
    """Why a request that another page made is not answered; None for one of ours.

    Args:
        headers: Of the request.
    """
    found = dict(headers)
    origin, host = (found.get(b"origin"), found.get(b"host", b"").decode("latin-1").lower())
    try:
        is_ours = origin is None or urlsplit(origin.decode("latin-1").lower()).netloc == host
    except ValueError:
        is_ours = False
    site = found.get(b"sec-fetch-site", b"none")
    is_followed = found.get(b"sec-fetch-mode", b"navigate") == b"navigate"  # a link from elsewhere may lead here
    if is_ours and (site in (b"none", b"same-origin") or is_followed):
        return None
    told = (origin or site).decode("latin-1")
    return Problem(403, "The studio answers its own pages.", told, "Open it in a window of its own.")


def session_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The session that a request names; empty where it names none."""
    try:
        found = SimpleCookie(dict(headers).get(b"cookie", b"").decode("latin-1"))
    except CookieError:
        return ""
    return found[COOKIE].value if COOKIE in found else ""


def cookie(session: str) -> str:
    """What tells a browser to keep a session until it closes, or to forget one that is empty."""
    return f"{COOKIE}={session}; Path=/; HttpOnly; SameSite=Strict{'' if session else '; Max-Age=0'}"


def _with_policy(headers: Iterable[tuple[bytes, bytes]], path: str) -> Headers:
    """The headers of an answer: those of the service, with a policy under which our own files work."""
    own = [(name, value) for name, value in headers if name not in _REPLACED]
    names = {name for name, _ in own}
    own += [(name, value) for name, value in SECURITY_HEADERS if name not in names and name not in _REPLACED]
    keep = b"public, max-age=31536000, immutable" if path.startswith(_STATIC) else b"no-store"
    policy = [(b"content-security-policy", POLICY.encode()), (b"cross-origin-opener-policy", b"same-origin")]
    return [*own, *policy, (b"cross-origin-resource-policy", b"same-origin"), (b"cache-control", keep)]


async def answer(send: Send, problem: Problem) -> None:
    """Tell of a problem as JSON."""
    body = problem.body()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _led(send: Send, path: str) -> None:
    headers = [(b"location", path.encode()), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})

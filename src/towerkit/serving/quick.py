"""A shorter way for the calls that come most: a body that fits goes straight to the service, past the web framework.

Everything else, bodies that do not fit among it, goes on to the application behind: so there is one place where errors are worded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Response
from pydantic import TypeAdapter, ValidationError

from towerkit.serving.guard import PARSED, App, Receive, Scope, Send
from towerkit.serving.problems import Problem


@dataclass(frozen=True)
class Call:
    """A call with a body."""

    body: TypeAdapter[Any]
    answer: Callable[[Any], Awaitable[Response]]


class Quick:
    """Answer some calls at once.

    Args:
        app: The application behind.
        calls: Path of a POST -> what it takes and who answers it.
    """

    def __init__(self, app: App, calls: Mapping[str, Call]) -> None:
        self._app, self._calls = app, calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, whose body was parsed before."""
        call = self._calls.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if call is None or PARSED not in scope:
            await self._app(scope, receive, send)
            return
        try:
            body = call.body.validate_python(scope[PARSED], from_attributes=True)
        except ValidationError:
            await self._app(scope, receive, send)
            return
        try:
            response = await call.answer(body)
        except Problem as problem:
            response = Response(problem.body(), problem.status, problem.headers, "application/json")
        await response(scope, receive, send)

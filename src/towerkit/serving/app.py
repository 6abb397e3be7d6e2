"""The service as an application: its calls, its life from loading to the last answer, and how refusals are told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.exceptions import HTTPException

from towerkit._version import __version__
from towerkit.core.errors import TowerkitError
from towerkit.serving import answers, requests
from towerkit.serving.fleet import Fleet
from towerkit.serving.guard import PARSED, Guard
from towerkit.serving.problems import Problem, problem_of_validation
from towerkit.serving.quick import Call, Quick
from towerkit.serving.routes import add_changes, add_looks, add_questions
from towerkit.serving.service import Service
from towerkit.serving.settings import Settings
from towerkit.serving.sources import Source

_LOG = logging.getLogger("towerkit.serving")
_WATCHED_EVERY_S = 2.0
_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": answers.Refusal, "description": text}
    for status, text in {
        400: "The body is not JSON.",
        401: "No token, or another one.",
        403: "Not from here.",
        404: "There is no such thing.",
        408: "The body came too slowly.",
        409: "It cannot be done now.",
        413: "The body is too long.",
        415: "The body is of another kind.",
        421: "Another host was meant.",
        422: "The request does not fit.",
        429: "Too many wait.",
        503: "Not now.",
    }.items()
}


def make_app(fleet: Fleet, settings: Settings) -> Guard:
    """The service as an ASGI application; its ``state`` is the :class:`towerkit.serving.service.Service`.

    Args:
        fleet: The models; loaded when it starts.
        settings: Of the process.
    """
    service = Service(fleet, settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(_started(service))
        watching = asyncio.create_task(_watch(service)) if settings.watch else None
        try:
            yield
        finally:
            loading.cancel()
            if watching is not None:
                watching.cancel()
            await service.stop()

    app = FastAPI(
        title="towerkit",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=_REFUSALS,
    )
    app.router.route_class = _Route
    app.state.service = service
    app.add_exception_handler(Problem, _told)
    app.add_exception_handler(RequestValidationError, _told_of_validation)
    app.add_exception_handler(HTTPException, _told_of_path)
    add_questions(app, service)
    add_changes(app, service)
    add_looks(app, service)
    calls = {
        "/v1/recommend": Call(TypeAdapter(requests.Recommend), service.recommend),
        "/v1/events": Call(TypeAdapter(requests.Events), service.events),
    }
    return Guard(service.meters.around(Quick(app, calls)), settings, service, service.meters.refused)


async def _started(service: Service) -> None:
    try:
        await service.start()
    except TowerkitError as error:
        service.failed = error
    except Exception as error:
        _LOG.exception("the service cannot start")
        service.failed = error


class _Parsed(Request):
    """A request whose body was read and checked before it came here."""

    async def json(self) -> Any:
        return self.scope.get(PARSED)


class _Route(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Any]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(_Parsed(request.scope, request.receive))

        return handle


async def _watch(service: Service) -> None:
    """Take in a Run when the link that stands for it points elsewhere."""
    tried: dict[str, Path] = dict(service.fleet.paths)
    told: dict[str, str] = {}
    while True:
        await asyncio.sleep(_WATCHED_EVERY_S)
        for source in service.fleet.sources:
            try:
                await _look_at_link(service, source, tried)
                told.pop(source.name, None)
            except Exception as error:  # whatever is wrong with a link or a folder, the next one is looked at
                if told.get(source.name) != str(error):
                    _LOG.error("the link of '%s' cannot be followed: %s", source.name, error)
                told[source.name] = str(error)


async def _look_at_link(service: Service, source: Source, tried: dict[str, Path]) -> None:
    path = source.folder() if service.ready else None
    if path is None or path == tried.setdefault(source.name, service.fleet.paths[source.name]):
        return
    try:
        told = await service.swap(source.name, path)
        service.audit("swap", candidate=path.name, client="watch", **told)
    except Problem as problem:
        if problem.status == 503:  # nothing is wrong with the candidate
            return
        why = {"why": problem.rule, "received": problem.received}
        service.audit("swap refused", model=source.name, candidate=path.name, client="watch", **why)
    tried[source.name] = path  # once, whether it can be taken or not


async def _told(_: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return Response(error.body(), error.status, error.headers, "application/json")


async def _told_of_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return await _told(request, problem_of_validation(error.errors()))


async def _told_of_path(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    rule = {404: "There is no such call.", 405: "A call has one method."}.get(error.status_code, str(error.detail))
    problem = Problem(error.status_code, rule, f"{request.method} {request.url.path}", "See /openapi.json.")
    return Response(problem.body(), error.status_code, dict(error.headers or {}), "application/json")

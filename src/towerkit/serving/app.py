"""The calls of the service. Nothing is computed here: each call asks a thread and waits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from towerkit._version import __version__
from towerkit.serving import answers, requests
from towerkit.serving.engine import Engine
from towerkit.serving.fleet import Fleet, check_answers, folder_of
from towerkit.serving.guard import PARSED, Guard, bearer
from towerkit.serving.journal import Journal
from towerkit.serving.keeper import Keeper
from towerkit.serving.live import Live
from towerkit.serving.meters import Meters
from towerkit.serving.problems import Problem, problem_of_validation
from towerkit.serving.settings import Settings, same_token
from towerkit.serving.worker import Worker

_AUDIT = logging.getLogger("towerkit.audit")
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


class Service:
    """The state behind the calls.

    Args:
        fleet: The models.
        settings: Of the process.
    """

    def __init__(self, fleet: Fleet, settings: Settings) -> None:
        self.fleet, self.settings = fleet, settings
        limits = settings.limits
        self.worker = Worker(waiting=limits.waiting, batch=limits.batch, deadline_s=limits.deadline_s)
        self.log = Worker(waiting=limits.waiting, batch=limits.batch, deadline_s=max(limits.deadline_s, 5.0))
        journal: Journal | None = fleet.journal
        self.keeper = None if journal is None else Keeper(journal, lambda name: fleet.engine(name), self.log)
        self.meters = Meters(self.worker)
        self.ready = False
        self.changing = asyncio.Lock()
        """Held by whoever changes which models are served, or their candidates."""

    async def start(self) -> None:
        """Load everything, answer once, be ready."""
        self.worker.start()
        self.log.start()
        if not self.fleet.engines:
            await asyncio.to_thread(self.fleet.load)
        for engine in list(self.fleet.engines.values()):
            check = _looked_at if engine.index is not None else _warmed
            await self.worker.ask(object(), check, engine, must=True)
        self.ready = True

    async def stop(self) -> None:
        """Answer what waits, then end."""
        self.ready = False
        await asyncio.to_thread(self.worker.stop)
        await asyncio.to_thread(self.log.stop)
        if self.fleet.journal is not None:
            self.fleet.journal.close()

    def check_ready(self) -> None:
        """Refuse calls before everything is loaded.

        Raises:
            Problem: If it is not.
        """
        if not self.ready:
            raise Problem(503, "The service answers when it is ready.", "not yet", "Ask again.", {"Retry-After": "1"})

    async def ask(self, body: Any, method: str) -> Response:
        """Ask the model that a request names, among others that wait."""
        self.check_ready()
        pipeline = self.fleet.pipeline(body.model)
        if pipeline is not None and method == "recommend":
            return _json(await self.worker.ask(object(), pipeline.recommend, body))
        engine = self.fleet.engine(body.model)
        if method == "recommend":
            answer = await self.worker.ask((id(engine), method), engine.recommend, body)
        else:
            answer = await self.worker.ask(object(), lambda asked: [getattr(engine, method)(asked[0])], body)
        return _json(answer)

    async def events(self, body: requests.Events) -> Response:
        """Keep events."""
        self.check_ready()
        engine = self.fleet.engine(body.model)
        if self.keeper is None:
            raise Problem(409, "A service keeps events in a log.", "this one has none", "Start it with --events FILE.")
        if engine.users is None:
            raise Problem(
                422,
                f"The model '{engine.name}' does not learn from events: its queries learn by gradient, or it has none.",
                "events",
                "Train a two_tower with update: {kind: one_backprop} or a query tower {kind: history}.",
            )
        told = await self.keeper.tell(engine.name, body)
        self.meters.events.inc(len(told))
        return _json({"model": engine.name, "events": told})

    async def forget(self, query: str) -> Response:
        """Remove a query from the log and from memory, for all models."""
        self.check_ready()
        engines = [engine for engine in self.fleet.engines.values() if engine.users is not None]

        def remove(journal: Journal | None) -> int:
            gone = sum(journal.forget(engine.name, query) for engine in engines) if journal is not None else 0
            for engine in engines:
                if engine.users is not None:
                    engine.users.forget(query)
            return gone

        gone = remove(None) if self.keeper is None else await self.keeper.run(remove)
        self.audit("forget", events=gone)
        return _json({"events": gone})

    async def items(self, body: requests.Items) -> Response:
        """Take in new candidates."""
        self.check_ready()
        async with self.changing:
            engine = self.fleet.engine(body.model)
            fresh = await self.worker.ask(
                object(), lambda asked: [engine.guarded(lambda: engine.with_items(asked[0]))], body.items, must=True
            )
            if self.keeper is not None:
                key = fresh.model.candidate.key
                rows = [(str(row.get(key, row.get(fresh.model.candidate_entity))), dict(row)) for row in body.items]
                await self.keeper.run(lambda journal: journal.put_items(engine.name, rows))
            await self.worker.ask(object(), _installed, (engine, fresh), must=True)
        self.audit("items", model=engine.name, count=len(body.items))
        return _json({"model": engine.name, "candidates": len(fresh.keys), "durable": self.keeper is not None})

    async def swap(self, name: str, path: Path) -> dict[str, str]:
        """Load a candidate, look at it, and put it in the place of what is served."""
        self.check_ready()
        async with self.changing:
            fresh = await asyncio.to_thread(self.fleet.candidate, name, path)
            if self.keeper is not None:
                placed = await self.keeper.run(lambda journal: self.fleet.caught_up(fresh, journal))
            else:
                placed = [(engine, -1) for engine in fresh]
            for engine in fresh:
                await self.worker.ask(object(), _looked_at, engine, must=True)
            return await self._switch(name, placed)

    async def back(self, name: str) -> dict[str, str]:
        """Serve again what was served before the last swap."""
        self.check_ready()
        async with self.changing:
            old = self.fleet.previous(name)
            fresh = [Engine.load(engine.name, engine.run) for engine in old]  # what was told since then counts too
            if self.keeper is None:
                return await self._switch(name, [(engine, -1) for engine in fresh])
            return await self._switch(name, await self.keeper.run(lambda j: self.fleet.caught_up(fresh, j)))

    async def _switch(self, name: str, placed: list[tuple[Engine, int]]) -> dict[str, str]:
        if self.keeper is None:
            old = self.fleet.switch(name, placed)
        else:
            old = await self.keeper.run(lambda _: self.fleet.switch(name, placed))
        return {"model": name, "model_version": placed[0][0].version, "previous_version": old[0].version}

    def check_admin(self, request: Request) -> None:
        """Let administrators pass.

        Raises:
            Problem: If whoever asks is none.
        """
        expected = self.settings.admin_token
        if expected is None:
            raise Problem(403, "Administration needs an admin token.", "a service without", "Set TOWERKIT_ADMIN_TOKEN.")
        given = bearer(dict(request.scope["headers"]))
        if given is None or not same_token(given, expected):
            self.audit("refused", client=_client(request), path=request.url.path)
            raise Problem(403, "Administration needs the admin token.", "none, or another one", "Send it as Bearer.")

    @staticmethod
    def audit(action: str, **details: Any) -> None:
        """Write down what was changed, and by whom."""
        _AUDIT.info("%s", json.dumps({"action": action, **details}))


def make_app(fleet: Fleet, settings: Settings) -> Callable[..., Awaitable[None]]:
    """The service as an ASGI application.

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
    _add_questions(app, service)
    _add_changes(app, service)
    _add_looks(app, service)
    return Guard(service.meters.around(app), settings, service)


def _installed(asked: Sequence[tuple[Engine, Live]]) -> list[None]:
    for engine, live in asked:
        engine.install(live)
    return [None] * len(asked)


def _warmed(asked: Sequence[Engine]) -> list[None]:
    for engine in asked:
        engine.warm()
    return [None] * len(asked)


def _looked_at(asked: Sequence[Engine]) -> list[None]:
    for engine in asked:
        check_answers(engine)
    return [None] * len(asked)


async def _started(service: Service) -> None:
    try:
        await service.start()
    except Exception as error:
        _LOG.exception("the service cannot start")
        service.meters.failed = error


def _add_questions(app: FastAPI, service: Service) -> None:
    @app.post("/v1/recommend", response_model=answers.Recommended)
    async def recommend(body: requests.Recommend) -> Response:
        return await service.ask(body, "recommend")

    @app.post("/v1/similar", response_model=answers.Likened)
    async def similar(body: requests.Similar) -> Response:
        return await service.ask(body, "similar")

    @app.post("/v1/score", response_model=answers.Scored)
    async def score(body: requests.Score) -> Response:
        return await service.ask(body, "score")

    @app.post("/v1/predict", response_model=answers.Predicted)
    async def predict(body: requests.Predict) -> Response:
        return await service.ask(body, "predict")

    @app.post("/v1/embed", response_model=answers.Embedded)
    async def embed(body: requests.Embed) -> Response:
        return await service.ask(body, "embed")


def _add_changes(app: FastAPI, service: Service) -> None:
    @app.post("/v1/events", response_model=answers.Kept)
    async def events(body: requests.Events) -> Response:
        return await service.events(body)

    @app.post("/v1/items", response_model=answers.Taken)
    async def items(body: requests.Items) -> Response:
        return await service.items(body)

    @app.delete("/v1/users/{query:path}", response_model=answers.Forgotten)
    async def forget(query: requests.Text) -> Response:
        return await service.forget(query)

    @app.post("/v1/models/{name}:swap", response_model=answers.Swapped)
    async def swap(name: requests.ModelName, body: requests.Swap, request: Request) -> Response:
        service.check_admin(request)
        client = _client(request)
        try:
            told = await service.swap(name, folder_of(service.settings.candidates, body.candidate))
        except Problem as problem:
            service.audit("swap refused", model=name, candidate=body.candidate, client=client, why=problem.rule)
            raise
        service.audit("swap", candidate=body.candidate, client=client, **told)
        return _json(told)

    @app.post("/v1/models/{name}:rollback", response_model=answers.Swapped)
    async def rollback(name: requests.ModelName, request: Request) -> Response:
        service.check_admin(request)
        told = await service.back(name)
        service.audit("rollback", client=_client(request), **told)
        return _json(told)


def _add_looks(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models", response_model=answers.Models)
    async def models() -> Response:
        service.check_ready()
        return _json({"models": service.fleet.describe()})

    @app.get("/health/live", response_model=answers.Health)
    async def live() -> Response:
        return _json({"status": "alive"})

    @app.get("/health/ready", response_model=answers.Health)
    async def ready() -> Response:
        service.check_ready()
        return _json({"status": "ready"})

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        return Response(service.meters.page(), media_type="text/plain; version=0.0.4; charset=utf-8")


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
    seen = {source.name: source.path.resolve() for source in service.fleet.sources}
    while True:
        await asyncio.sleep(_WATCHED_EVERY_S)
        for source in service.fleet.sources:
            path = source.path.resolve()
            if not service.ready or path == seen[source.name]:
                continue
            seen[source.name] = path  # tried once, whether it can be taken or not
            try:
                told = await service.swap(source.name, path)
                service.audit("swap", candidate=path.name, client="watch", **told)
            except Problem as problem:
                service.audit("swap refused", model=source.name, candidate=path.name, client="watch", why=problem.rule)


def _json(content: Any) -> Response:
    return Response(json.dumps(content, allow_nan=False, default=str).encode(), media_type="application/json")


def _client(request: Request) -> str:
    return request.client.host if request.client else "unknown"


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

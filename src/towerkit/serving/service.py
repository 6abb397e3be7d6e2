"""The state behind the calls: which thread does what of each, and in which order things change."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import orjson
from fastapi import Request, Response

from towerkit.core.errors import RunError, TowerkitError
from towerkit.serving import requests
from towerkit.serving.fleet import Fleet
from towerkit.serving.guard import bearer
from towerkit.serving.meters import Meters
from towerkit.serving.problems import Problem
from towerkit.serving.settings import Settings, same_token
from towerkit.serving.stored import StoredModel
from towerkit.serving.swaps import Swaps
from towerkit.serving.worker import Worker

if TYPE_CHECKING:  # a service that answers from stored vectors loads no model, and one without a log no database
    from towerkit.serving.engine import Engine
    from towerkit.serving.journal import Journal
    from towerkit.serving.keeper import Keeper

_AUDIT = logging.getLogger("towerkit.audit")
_LOG = logging.getLogger("towerkit.serving")
T = TypeVar("T")
Asked = Literal["similar", "score", "predict", "embed"]
_TRIED_AGAIN_AFTER_S = 10.0
_LATER = {"Retry-After": "10"}
_PLAIN = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_PASSTHROUGH_DATETIME


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
        self.keeper: Keeper | None = None
        if fleet.journal is not None:
            from towerkit.serving.keeper import Keeper

            self.keeper = Keeper(fleet.journal, lambda name: fleet.engine(name), self.log)
        self.meters = Meters(self.worker)
        self.ready = False
        self.failed: Exception | None = None
        """Why it could not start."""
        self.settled: Callable[[bool], None] = lambda _: None
        """Called when all is loaded: with False at the start, with True when something else was."""
        self.changing = asyncio.Lock()
        """Held by whoever changes which models are served, or their candidates; never for long."""
        self._waking = asyncio.Lock()
        self._not_before: dict[str, float] = {}
        """Name of a model that could not be loaded -> when it is tried again, by the clock that only goes forward."""
        self.swaps = Swaps(fleet, self.worker, self.changing, self._in_log)

    async def start(self) -> None:
        """Load everything, answer once, be ready."""
        self.worker.start()
        self.log.start()
        if not (self.fleet.engines or self.fleet.stored):
            await asyncio.to_thread(self.fleet.load)
        for stored in self.fleet.stored.values():
            await self.worker.ask(object(), partial(_each, StoredModel.warm), stored, must=True)
        for engine in list(self.fleet.engines.values()):
            await self._look_at(engine)
        self.settled(False)
        self.ready = True

    async def _look_at(self, engine: Engine) -> None:
        """Warm a model up; one with an index is asked the same as its Run.

        Raises:
            RunError: If the index finds too little.
        """
        if engine.index is None:
            from towerkit.serving.recommending import warm

            await self.worker.ask(object(), partial(_each, warm), engine, must=True)
            return
        try:
            await self.swaps.through_the_gate(engine)
        except Problem as problem:
            told = f"{problem.rule} Received {problem.received}"
            raise RunError(
                f"The index of '{engine.name}' must answer as its Run does. {told}. Build it with more effort (--ef-search, "
                "--nprobe, --recall), or serve without."
            ) from None

    async def awake(self, name: str | None) -> None:
        """Load the model behind stored vectors, if these are all there is so far: something is asked that needs it.

        Args:
            name: Of the model; None for the first one.

        Raises:
            Problem: If it cannot be loaded; known keys go on being answered.
        """
        if self.fleet.stored_model(name) is None:
            return
        async with self._waking:
            stored = self.fleet.stored_model(name)
            if stored is None:  # while we waited, somebody else did it
                return
            known = f"The model of '{stored.name}' must be loaded for this."
            cannot = Problem(503, known, "one that cannot be", "Its log says why; ask with a known key.", _LATER)
            if time.monotonic() < self._not_before.get(stored.name, 0.0):
                raise cannot
            try:
                engines = await asyncio.to_thread(self.fleet.wake, stored)
                for engine in engines:
                    await self._look_at(engine)
            except TowerkitError as error:
                _LOG.error("the model behind the vectors of '%s' cannot be loaded: %s", stored.name, error)
                self._not_before[stored.name] = time.monotonic() + _TRIED_AGAIN_AFTER_S
                raise cannot from None
            self.fleet.woken(engines)
        self.settled(True)

    def end(self) -> None:
        """Take note that the process was told to end: what is under way is answered, and no candidate is looked at any longer."""
        self.swaps.end()

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

    def check_alive(self) -> None:
        """Say so if the thread that computes is gone: then only another process helps.

        Raises:
            Problem: If it is.
        """
        if self.ready and not self.worker.is_alive:
            raise Problem(503, "A service that lives computes.", "one whose thread has ended", "Start it again.")

    async def recommend(self, body: requests.Recommend) -> Response:
        """Ask the model or pipeline that a request names, together with others that wait."""
        self.check_ready()
        stored = self.fleet.stored_model(body.model)
        if stored is not None and stored.answers(body):
            return json_answer(await self.worker.ask(id(stored), stored.recommend, body))
        pipeline = self.fleet.pipeline(body.model)
        if pipeline is not None:
            return json_answer(await self.worker.ask(object(), pipeline.recommend, body))
        await self.awake(body.model)
        from towerkit.serving.recommending import recommend

        engine = self.fleet.engine(body.model)
        answer = await self.worker.ask(id(engine), partial(recommend, engine), body)
        self.swaps.offer(engine.name, body)
        return json_answer(answer)

    async def ask(self, body: requests.Body, question: Asked) -> Response:
        """Ask the model that a request names something else.

        Args:
            body: The request.
            question: What is asked; see :mod:`towerkit.serving.questions`, whose functions answer in the inference thread.
        """
        self.check_ready()
        await self.awake(body.model)
        from towerkit.serving import questions

        engine, answer = self.fleet.engine(body.model), getattr(questions, question)
        compute = partial(_each, lambda asked: engine.guarded(answer, engine, asked))
        return json_answer(await self.worker.ask(object(), compute, body))

    async def events(self, body: requests.Events) -> Response:
        """Keep events."""
        self.check_ready()
        await self.awake(body.model)
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
        return json_answer({"model": engine.name, "events": told})

    async def forget(self, query: str) -> Response:
        """Remove a query from the log and from memory, for all models."""
        self.check_ready()
        for name in list(self.fleet.stored):
            await self.awake(name)

        def remove(journal: Journal | None) -> int:
            engines = [engine for engine in self.fleet.engines.values() if engine.users is not None]
            gone = sum(journal.forget(engine.name, query) for engine in engines) if journal is not None else 0
            for engine in (*engines, *(each.engine for each in self.fleet.following)):
                if engine.users is not None:
                    engine.users.forget(query)
            return gone

        gone = remove(None) if self.keeper is None else await self.keeper.run(remove)
        self.audit("forget", events=gone)
        return json_answer({"events": gone})

    async def items(self, body: requests.Items) -> Response:
        """Take in new candidates."""
        self.check_ready()
        await self.awake(body.model)
        async with self.changing:
            from towerkit.serving.growth import keyed

            engine = self.fleet.engine(body.model)
            grown = partial(_each, lambda rows: engine.guarded(engine.with_items, rows))
            fresh = await self.worker.ask(object(), grown, body.items, must=True)
            if self.keeper is not None:
                key, kept = fresh.model.candidate.key, [keyed(fresh.model, row) for row in body.items]
                rows = [(str(row[key]), row) for row in kept]
                await self.keeper.run(lambda journal: journal.put_items(engine.name, rows))
            await self.worker.ask(object(), partial(_each, engine.install), fresh, must=True)
        self.audit("items", model=engine.name, count=len(body.items))
        return self._taken(engine)

    async def remove(self, name: str | None, key: str) -> Response:
        """Take a candidate out of all answers."""
        self.check_ready()
        await self.awake(name)
        async with self.changing:
            engine = self.fleet.engine(name)
            live = engine.ranking("have candidates")
            if key not in live.candidate_rows:
                known = f"A candidate that is taken out is one of the {len(live.candidate_rows):,} known ones."
                raise Problem(404, known, key, "Nothing changed.")
            if self.keeper is not None:
                await self.keeper.run(lambda journal: journal.remove_item(engine.name, key))
            await self.worker.ask(object(), partial(_each, engine.install), live.without([key]), must=True)
        self.audit("item removed", model=engine.name, item=key)
        return self._taken(engine)

    def _taken(self, engine: Engine) -> Response:
        told = {"model": engine.name, "model_version": engine.model_version}
        live = engine.ranking("have candidates")
        return json_answer(told | {"candidates": live.num_offered, "durable": self.keeper is not None})

    async def swap(self, name: str, path: Path, shadow: requests.Shadow | None = None) -> dict[str, Any]:
        """Put a candidate in the place of what is served; see :meth:`towerkit.serving.swaps.Swaps.swap`."""
        self.check_ready()
        await self.awake(name)
        told = await self.swaps.swap(name, path, self.settings.shadow if shadow is None else shadow)
        self.settled(True)
        return told

    async def back(self, name: str) -> dict[str, Any]:
        """Serve again what was served before the last swap."""
        self.check_ready()
        await self.awake(name)
        told = await self.swaps.back(name)
        self.settled(True)
        return told

    async def _in_log(self, job: Callable[[], T]) -> T:
        """Have something done in the thread that writes the log, if there is one."""
        if self.keeper is None:
            return job()
        found: T = await self.keeper.run(lambda _: job())
        return found

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
            self.audit("refused", client=client_of(request), path=request.url.path)
            raise Problem(403, "Administration needs the admin token.", "none, or another one", "Send it as Bearer.")

    @staticmethod
    def audit(action: str, **details: Any) -> None:
        """Write down what was changed, and by whom."""
        _AUDIT.info("%s", json.dumps({"action": action, **details}))


def _each(one: Callable[[Any], Any], asked: Sequence[Any]) -> list[Any]:
    """What the inference thread does with requests that it answers one by one."""
    return [one(each) for each in asked]


def json_answer(content: Any) -> Response:
    """An answer as it is sent.

    Args:
        content: Plain data without NaN.
    """
    try:
        body = orjson.dumps(content, default=str, option=_PLAIN)
    except TypeError:  # a key that is no text, such as a number that stands for a class: rare, and slower
        body = orjson.dumps(content, default=str, option=_PLAIN | orjson.OPT_NON_STR_KEYS)
    return Response(body, media_type="application/json")


def client_of(request: Request) -> str:
    """The address that a request came from."""
    return request.client.host if request.client else "unknown"

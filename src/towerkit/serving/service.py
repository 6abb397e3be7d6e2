"""The state behind the calls: which thread does what of each, and in which order things change."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson
from fastapi import Request, Response

from towerkit.core.errors import TowerkitError
from towerkit.serving import requests
from towerkit.serving.fleet import Fleet, check_answers
from towerkit.serving.guard import bearer
from towerkit.serving.meters import Meters
from towerkit.serving.problems import Problem
from towerkit.serving.settings import Settings, same_token
from towerkit.serving.stored import StoredModel
from towerkit.serving.worker import Worker

if TYPE_CHECKING:  # a service that answers from stored vectors loads no model, and one without a log no database
    from towerkit.serving.engine import Engine
    from towerkit.serving.journal import Journal
    from towerkit.serving.keeper import Keeper

_AUDIT = logging.getLogger("towerkit.audit")
_LOG = logging.getLogger("towerkit.serving")
Asked = Literal["similar", "score", "predict", "embed"]
_AS_BEFORE = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_PASSTHROUGH_DATETIME


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
        self.changing = asyncio.Lock()
        """Held by whoever changes which models are served, or their candidates."""
        self._waking = asyncio.Lock()

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
        self.ready = True

    async def _look_at(self, engine: Engine) -> None:
        """Warm a model up; one with an index is asked the same as its Run."""
        from towerkit.serving.recommending import warm

        check = check_answers if engine.index is not None else warm
        await self.worker.ask(object(), partial(_each, check), engine, must=True)

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
            try:
                engines = await asyncio.to_thread(self.fleet.wake, stored)
            except TowerkitError:
                _LOG.exception("the model behind the vectors of '%s' cannot be loaded", stored.name)
                known = f"The model of '{stored.name}' must be loaded for this."
                raise Problem(503, known, "one that cannot be", "Its log says why; ask with a known key.") from None
            for engine in engines:
                await self._look_at(engine)
            self.fleet.woken(engines)

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
        return json_answer(await self.worker.ask(id(engine), partial(recommend, engine), body))

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
        engines = [engine for engine in self.fleet.engines.values() if engine.users is not None]

        def remove(journal: Journal | None) -> int:
            gone = sum(journal.forget(engine.name, query) for engine in engines) if journal is not None else 0
            for engine in engines:
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
            engine = self.fleet.engine(body.model)
            grown = partial(_each, lambda rows: engine.guarded(engine.with_items, rows))
            fresh = await self.worker.ask(object(), grown, body.items, must=True)
            if self.keeper is not None:
                key, kept = fresh.model.candidate.key, [fresh.keyed(row) for row in body.items]
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

    async def swap(self, name: str, path: Path) -> dict[str, str]:
        """Load a candidate, look at it, and put it in the place of what is served."""
        self.check_ready()
        await self.awake(name)
        async with self.changing:
            fresh = await asyncio.to_thread(self.fleet.candidate, name, path)
            if self.keeper is not None:
                placed = await self.keeper.run(lambda journal: self.fleet.caught_up(fresh, journal))
            else:
                placed = [(engine, -1) for engine in fresh]
            for engine in fresh:
                await self.worker.ask(object(), partial(_each, check_answers), engine, must=True)
            return await self._switch(name, placed)

    async def back(self, name: str) -> dict[str, str]:
        """Serve again what was served before the last swap."""
        self.check_ready()
        await self.awake(name)
        from towerkit.serving.engine import Engine

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
        return {"model": name, "model_version": placed[0][0].model_version, "previous_version": old[0].model_version}

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
    return Response(orjson.dumps(content, default=str, option=_AS_BEFORE), media_type="application/json")


def client_of(request: Request) -> str:
    """The address that a request came from."""
    return request.client.host if request.client else "unknown"

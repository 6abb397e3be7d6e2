"""One Run in the place of another while requests go on: look at it, let it answer copies of requests, switch, and the way back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from towerkit.serving.fleet import Fleet
from towerkit.serving.problems import Problem
from towerkit.serving.requests import Recommend, Shadow
from towerkit.serving.worker import Worker

if TYPE_CHECKING:  # a service that answers from stored vectors loads none of these
    from towerkit.serving.engine import Engine
    from towerkit.serving.fleet import Behind
    from towerkit.serving.shadow import Shadowing

InLog = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Has something done by the thread that writes the log."""


class Swaps:
    """Changes which Runs are served, one at a time.

    Args:
        fleet: The models.
        worker: The inference thread.
        changing: Held by whoever changes models or their candidates; never for long.
        in_log: Has something done by the thread that writes the log.
    """

    def __init__(self, fleet: Fleet, worker: Worker, changing: asyncio.Lock, in_log: InLog) -> None:
        self.fleet, self.worker, self._changing, self._in_log = fleet, worker, changing, in_log
        self._under_way: str | None = None
        """The name of the Run whose place another one may take."""
        self._shadowing: Shadowing | None = None
        self._ending = False

    async def swap(self, name: str, path: Path, shadow: Shadow | None) -> dict[str, Any]:
        """Load a candidate, look at it, and put it in the place of what is served.

        Args:
            name: Of the Run.
            path: The candidate's folder.
            shadow: What it must show on copies of requests; None shows it none.

        Returns:
            What is served now, what was before, and what the copies have shown.

        Raises:
            Problem: With the reason why the served model stays.
        """
        async with self._one_at_a_time(name):
            fresh = await asyncio.to_thread(self.fleet.candidate, name, path)
            await self._in_log(lambda: self.fleet.follow(fresh))
            for each in fresh:
                await self.through_the_gate(each.engine)
            shown = await self._shadowed(name, fresh, shadow)
            return await self._switched(name, fresh) | shown

    async def back(self, name: str) -> dict[str, Any]:
        """Serve again what was served before the last swap, with its index.

        Args:
            name: Of the Run.

        Raises:
            Problem: If there was none.
        """
        from towerkit.serving.recommending import warm

        async with self._one_at_a_time(name):
            fresh = await asyncio.to_thread(self.fleet.previous, name)
            await self._in_log(lambda: self.fleet.follow(fresh))
            for each in fresh:
                await self._now(partial(warm, each.engine))
            return await self._switched(name, fresh)

    @contextlib.asynccontextmanager
    async def _one_at_a_time(self, name: str) -> AsyncIterator[None]:
        """Whoever wants a swap while there is one is told."""
        if self._under_way is not None:
            raise Problem(409, "One swap at a time.", f"one of '{self._under_way}' is under way", "Ask again after it.")
        self._under_way = name
        try:
            yield
        finally:
            self._under_way, self.fleet.following = None, ()

    async def _now(self, job: Callable[[], Any]) -> None:
        """Have something done by the inference thread, however many wait."""
        await self.worker.ask(object(), lambda _: [job()], None, must=True)

    async def through_the_gate(self, engine: Engine) -> None:
        """Compare a model's answers with those of its Run, in steps between which requests are answered.

        Args:
            engine: Not yet served.

        Raises:
            Problem: If they are too far from each other.
        """
        from towerkit.serving.candidates import Gate

        gate = Gate(engine)
        await self._now(gate.ask_served)
        for place in range(len(gate.keys)):
            await self._now(partial(gate.ask_run, place))
        gate.check()

    async def _shadowed(self, name: str, fresh: Sequence[Behind], bar: Shadow | None) -> dict[str, Any]:
        """Let models that rank answer copies of requests.

        Raises:
            Problem: If what they answer is not good enough.
        """
        served = {engine.name: engine for engine in self.fleet.current(name)}
        pairs = {each.engine.name: (served[each.engine.name], each.engine) for each in fresh if each.engine.live}
        if bar is None or not bar.share or not pairs:
            return {}
        from towerkit.serving.shadow import Shadowing

        def follow() -> None:
            for each in fresh:
                self.fleet.catch_up(each, items=False)

        self._shadowing = Shadowing(pairs, bar, self.worker, lambda: self._in_log(follow))
        try:
            return {"shadow": await self._shadowing.verdict()}
        except Problem:
            if self._ending:  # not the candidate's fault
                raise Problem(503, "The service is stopping.", "", "Ask again.", {"Retry-After": "1"}) from None
            raise
        finally:
            self._shadowing = None

    def offer(self, name: str, body: Recommend) -> None:
        """Show a request that was answered to a candidate, if there is one and its turn has come.

        Args:
            name: Of the model that answered.
            body: The request.
        """
        if self._shadowing is not None:
            self._shadowing.offer(name, body)

    def end(self) -> None:
        """The process was told to end: no candidate is looked at any longer."""
        self._ending = True
        if self._shadowing is not None:
            self._shadowing.end()

    async def _switched(self, name: str, fresh: Sequence[Behind]) -> dict[str, Any]:
        async with self._changing:
            old = await self._in_log(lambda: self.fleet.switch(name, fresh))
        new = fresh[0].engine
        return {"model": name, "model_version": new.model_version, "previous_version": old[0].model_version}

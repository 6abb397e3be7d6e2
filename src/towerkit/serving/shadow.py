"""A candidate answers copies of a share of the requests, beside the model that is served, before it may take its place.

Nobody waits for a copy: it is made after its request was answered, computed when the inference thread has nothing else to do, and
one at a time. Both models are asked the copy, one after the other, so that what is compared was computed from the same log and
took its time under the same conditions.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import mean, median
from typing import Any

from towerkit.serving.candidates import STAYS
from towerkit.serving.engine import Engine
from towerkit.serving.problems import Problem
from towerkit.serving.recommending import recommend
from towerkit.serving.requests import Recommend, Shadow
from towerkit.serving.worker import Worker

_LOG = logging.getLogger("towerkit.serving")


@dataclass
class Found:
    """What copies have shown so far."""

    overlaps: list[float] = field(default_factory=list)
    """Of each copy, the share of the served model's answers that the candidate gave too."""
    served_s: list[float] = field(default_factory=list)
    candidate_s: list[float] = field(default_factory=list)
    fault: str | None = None
    """Of the first copy that the candidate could not answer, and the served model could."""

    def told(self) -> dict[str, Any]:
        """The figures, for whoever asked for the swap."""
        slowdown = median(self.candidate_s) / max(median(self.served_s), 1e-9)
        return {
            "compared": len(self.overlaps),
            "overlap": round(mean(self.overlaps), 4),
            "slowdown": round(slowdown, 2),
        }

    def check(self, bar: Shadow) -> dict[str, Any]:
        """The figures, if they are good enough.

        Args:
            bar: What the candidate must reach.

        Raises:
            Problem: Saying where it does not.
        """
        if self.fault is not None:
            raise Problem(409, "A candidate answers what the served model answers.", self.fault, STAYS)
        if len(self.overlaps) < bar.requests:
            rule = f"A candidate is shown {bar.requests:,} copies of requests within {bar.seconds:g} s."
            more = f"{STAYS} Raise share or seconds, or lower requests; a share of 0 swaps without."
            raise Problem(409, rule, f"{len(self.overlaps):,}", more)
        told = self.told()
        if told["overlap"] < bar.overlap:
            rule = f"A candidate gives at least {bar.overlap:.0%} of the answers of the served model."
            raise Problem(409, rule, f"{told['overlap']:.1%} of them, over {bar.requests:,} requests", STAYS)
        if told["slowdown"] > bar.slowdown:
            rule = f"A candidate takes at most {bar.slowdown:g} times as long for an answer as the served model."
            raise Problem(409, rule, f"{told['slowdown']:g} times, over {bar.requests:,} requests", STAYS)
        return told


class Shadowing:
    """One candidate in the shadow of what is served.

    Args:
        pairs: Name of a model -> the one that is served, and the one that may take its place.
        bar: How many copies, and what must be reached.
        worker: The inference thread.
        follow: Lets the candidate take in what was told since.
    """

    def __init__(
        self,
        pairs: Mapping[str, tuple[Engine, Engine]],
        bar: Shadow,
        worker: Worker,
        follow: Callable[[], Awaitable[Any]],
    ) -> None:
        self.bar, self.found = bar, Found()
        self._pairs, self._worker, self._follow = pairs, worker, follow
        self._due, self._over = 0.0, asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def offer(self, name: str, body: Recommend) -> None:
        """A request that was answered; it returns at once.

        Args:
            name: Of the model that answered.
            body: The request.
        """
        if name not in self._pairs or self._over.is_set():
            return
        self._due = min(self._due + self.bar.share, 1.0 + self.bar.share)
        if self._due < 1.0 or (self._task is not None and not self._task.done()):
            return
        self._due -= 1.0
        self._task = asyncio.create_task(self._compare(name, body))

    async def verdict(self) -> dict[str, Any]:
        """Wait for the copies, and judge.

        Returns:
            What was found.

        Raises:
            Problem: If the candidate does not reach what it must.
        """
        try:
            async with asyncio.timeout(self.bar.seconds):
                await self._over.wait()
        except TimeoutError:
            pass
        finally:
            self.end()
        return self.found.check(self.bar)

    def end(self) -> None:
        """Take no more copies."""
        self._over.set()

    async def _compare(self, name: str, body: Recommend) -> None:
        served, candidate = self._pairs[name]
        try:
            await self._follow()
            compute = partial(_compared, served, candidate, self.found)
            await self._worker.ask(object(), compute, body, spare=True)
        except Problem:  # there was too much else to do
            return
        if self.found.fault is not None or len(self.found.overlaps) >= self.bar.requests:
            self.end()


def _compared(served: Engine, candidate: Engine, found: Found, asked: Sequence[Recommend]) -> list[None]:
    """Ask both; in the inference thread."""
    (body,) = asked
    began = time.perf_counter()
    (right,) = recommend(served, [body])
    between = time.perf_counter()
    if isinstance(right, Problem):
        return [None]
    try:
        (answer,) = recommend(candidate, [body])
    except Exception as error:  # as a request it would have been answered with 500
        _LOG.exception("a candidate failed to answer")
        found.fault = f"a failure, {type(error).__name__}, whose place is in the log"
        return [None]
    ended = time.perf_counter()
    if isinstance(answer, Problem):
        found.fault = f"{answer.rule} Received {answer.received}"
        return [None]
    wanted, given = ({item["item"] for item in each["items"]} for each in (right, answer))
    found.overlaps.append(len(wanted & given) / len(wanted) if wanted else 1.0)
    found.served_s.append(between - began)
    found.candidate_s.append(ended - between)
    return [None]

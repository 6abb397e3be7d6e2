"""The thread that computes.

Invariants:
- requests of one group that wait are answered together, those of others in their turn; each gets its own answer;
- when the queue is full the next request is refused at once with 429 and a time to come back; the queue never grows beyond it, and
  when it is empty again requests are let in;
- what has waited too long is not computed, and is answered with 503;
- a request that cannot be computed spoils no other: its own answer is the failure, the others get theirs;
- what nobody waits for is computed when nothing else is there, takes no room in the queue and is not refused by it;
- on a stop what waits is answered, and what comes later is refused.
"""

from __future__ import annotations

import asyncio
import importlib.util
import threading
from collections.abc import Sequence
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("fastapi") is None, reason="needs towerkit[serve]")


class Held:
    """Computes when it is let, and remembers what it was asked together."""

    def __init__(self) -> None:
        self.go, self.begun = threading.Event(), threading.Event()
        self.batches: list[list[Any]] = []

    def __call__(self, asked: Sequence[Any]) -> list[Any]:
        self.begun.set()
        assert self.go.wait(10)
        self.batches.append(list(asked))
        if "bad" in asked:
            raise ZeroDivisionError("a defect")
        return [f"answer {each}" for each in asked]


def worker(**settings: Any) -> Any:
    """A running one."""
    from towerkit.serving.worker import Worker

    found = Worker(**{"waiting": 4, "batch": 3, "deadline_s": 30.0} | settings)
    found.start()
    return found


async def asked(one: Any, compute: Any, group: str, each: Any) -> Any:
    """The answer or the problem."""
    from towerkit.serving.problems import Problem

    try:
        return await one.ask(group, compute, each)
    except Problem as problem:
        return problem.status


def test_what_waits_together_is_answered_together() -> None:
    async def main() -> list[Any]:
        one, compute = worker(waiting=10), Held()
        first = asyncio.create_task(asked(one, compute, "a", 0))
        await asyncio.to_thread(compute.begun.wait, 10)
        others = [asyncio.create_task(asked(one, compute, "ab"[n % 2], n)) for n in range(1, 8)]
        await asyncio.sleep(0.05)
        compute.go.set()
        found = await asyncio.gather(first, *others)
        await asyncio.to_thread(one.stop)
        assert compute.batches == [[0], [1, 3, 5], [2, 4, 6], [7]]
        return found

    assert asyncio.run(main()) == [f"answer {n}" for n in range(8)]


def test_a_full_queue_refuses_at_once_and_opens_again() -> None:
    async def main() -> None:
        one, compute = worker(), Held()
        first = asyncio.create_task(asked(one, compute, "a", 0))
        await asyncio.to_thread(compute.begun.wait, 10)
        others = [asyncio.create_task(asked(one, compute, "a", n)) for n in range(1, 10)]
        await asyncio.sleep(0.05)
        refused = [task.result() for task in others if task.done()]
        assert (refused, one.depth) == ([429] * 5, 4)
        compute.go.set()
        assert sorted(map(str, await asyncio.gather(first, *others))) == ["429"] * 5 + [f"answer {n}" for n in range(5)]
        assert await asked(one, compute, "a", 99) == "answer 99"
        await asyncio.to_thread(one.stop)

    asyncio.run(main())


def test_what_waited_too_long_is_not_computed() -> None:
    async def main() -> None:
        now = [0.0]
        one, compute = worker(deadline_s=2.0, clock=lambda: now[0]), Held()
        first = asyncio.create_task(asked(one, compute, "a", 0))
        await asyncio.to_thread(compute.begun.wait, 10)
        late = asyncio.create_task(asked(one, compute, "a", 1))
        await asyncio.sleep(0.02)
        now[0] = 1.5
        early = asyncio.create_task(asked(one, compute, "a", 2))
        await asyncio.sleep(0.02)
        now[0] = 2.5
        compute.go.set()
        assert await asyncio.gather(first, late, early) == ["answer 0", 503, "answer 2"]
        assert compute.batches == [[0], [2]]
        await asyncio.to_thread(one.stop)

    asyncio.run(main())


def test_a_failure_is_its_own() -> None:
    async def main() -> None:
        one, compute = worker(), Held()
        first = asyncio.create_task(asked(one, compute, "a", 0))
        await asyncio.to_thread(compute.begun.wait, 10)
        others = [asyncio.create_task(asked(one, compute, "a", each)) for each in (1, "bad", 2)]
        await asyncio.sleep(0.05)
        compute.go.set()
        assert await asyncio.gather(first, *others) == ["answer 0", "answer 1", 500, "answer 2"]
        await asyncio.to_thread(one.stop)

    asyncio.run(main())


def test_a_stop_answers_what_waits() -> None:
    async def main() -> None:
        one, compute = worker(), Held()
        tasks = [asyncio.create_task(asked(one, compute, "a", n)) for n in range(4)]
        await asyncio.to_thread(compute.begun.wait, 10)
        stopping = asyncio.create_task(asyncio.to_thread(one.stop))
        await asyncio.sleep(0.05)
        assert await asked(one, compute, "a", "later") == 503
        compute.go.set()
        assert await asyncio.gather(*tasks) == [f"answer {n}" for n in range(4)]
        await stopping

    asyncio.run(main())


def test_what_nobody_waits_for_comes_last() -> None:
    async def main() -> None:
        held, one = Held(), worker()
        first = asyncio.ensure_future(asked(one, held, "a", 0))
        while not held.begun.is_set():
            await asyncio.sleep(0.001)
        spare = asyncio.ensure_future(one.ask("s", held, "spare", spare=True))
        await asyncio.sleep(0)
        others = [asyncio.ensure_future(asked(one, held, "a", number)) for number in range(1, 5)]
        await asyncio.sleep(0)
        assert one.depth == 4  # a full queue, which the spare one is no part of
        more = asyncio.ensure_future(one.ask("s", held, "more", spare=True))
        await asyncio.sleep(0)
        held.go.set()
        assert await asyncio.gather(first, *others) == [f"answer {number}" for number in range(5)]
        assert await asyncio.gather(spare, more) == ["answer spare", "answer more"]
        assert held.batches == [[0], [1, 2, 3], [4], ["spare"], ["more"]]
        one.stop()

    asyncio.run(main())

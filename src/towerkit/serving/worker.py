"""The one thread that computes: a bounded queue in front of it, and requests that wait together answered together.

Compiled kernels must not be entered by two threads at once, and a computation in the event loop would hold up every
connection. So whoever wants a computation puts it into the queue and waits without blocking; when the queue is full it is told
at once to come back later, and what has waited too long is not computed any more.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from towerkit.serving.problems import Problem

_LOG = logging.getLogger("towerkit.serving")
Compute = Callable[[Sequence[Any]], Sequence[Any]]
"""The answers to several requests; each is an answer or a :class:`Problem`."""


@dataclass(slots=True, eq=False)
class _Job:
    group: Hashable
    compute: Compute
    asked: Any
    deadline: float
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class Worker:
    """The inference thread.

    Args:
        waiting: Requests that may wait; the next one is refused.
        batch: How many are answered together.
        deadline_s: How long one may wait.
        clock: Tells the time, for tests.
    """

    def __init__(
        self, *, waiting: int, batch: int, deadline_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.waiting, self.batch, self.deadline_s, self._clock = waiting, batch, deadline_s, clock
        self._jobs: deque[_Job] = deque()
        self._spare: deque[_Job] = deque()
        self._wake = threading.Condition()
        self._stopped = False
        self._thread: threading.Thread | None = None
        self.batches = self.answered = 0

    def start(self) -> None:
        """Begin to compute."""
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Answer what waits, and end."""
        with self._wake:
            self._stopped = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(timeout_s)

    @property
    def depth(self) -> int:
        """How many requests wait."""
        return len(self._jobs)

    @property
    def is_alive(self) -> bool:
        """Whether somebody computes."""
        return self._thread is not None and self._thread.is_alive()

    async def ask(
        self, group: Hashable, compute: Compute, asked: Any, *, must: bool = False, spare: bool = False
    ) -> Any:
        """Have something computed.

        Args:
            group: Requests of one group may be answered together.
            compute: Answers requests of that group.
            asked: This request.
            must: It is no request of a stranger: let it in however many wait, and let it wait.
            spare: Nobody waits for it: compute it when there is nothing else to do.

        Returns:
            The answer.

        Raises:
            Problem: If too many wait, it waited too long, or the answer is one.
        """
        loop = asyncio.get_running_loop()
        deadline = float("inf") if must else self._clock() + self.deadline_s
        job = _Job(group, compute, asked, deadline, loop.create_future(), loop)
        with self._wake:
            if self._stopped:
                raise Problem(503, "The service is stopping.", "", "Ask again in a moment.", {"Retry-After": "1"})
            if len(self._jobs) >= self.waiting and not (must or spare):
                raise Problem(
                    429, f"At most {self.waiting} requests wait.", "one more", "Ask again later.", {"Retry-After": "1"}
                )
            (self._spare if spare else self._jobs).append(job)
            self._wake.notify()
        answer = await job.future
        if isinstance(answer, Problem):
            raise answer
        return answer

    def _run(self) -> None:
        while True:
            with self._wake:
                while not (self._jobs or self._spare or self._stopped):
                    self._wake.wait()
                if not (self._jobs or self._spare):
                    return
                jobs = self._together() if self._jobs else [self._spare.popleft()]
            self._deliver(jobs, self._answers(jobs))

    def _together(self) -> list[_Job]:
        """The job that waits longest, and others of its group."""
        first = self._jobs.popleft()
        taken, left = [first], deque[_Job]()
        while self._jobs and len(taken) < self.batch:
            job = self._jobs.popleft()
            (taken if job.group == first.group else left).append(job)
        if left:
            left.extend(self._jobs)
            self._jobs = left
        return taken

    def _answers(self, jobs: list[_Job]) -> list[Any]:
        now = self._clock()
        in_time = [job.deadline >= now and not job.future.cancelled() for job in jobs]
        if all(in_time):
            return list(self._computed(jobs))
        late = Problem(
            503,
            f"A request waits {self.deadline_s:g} s at most.",
            "one that waited longer",
            "Ask again later.",
            {"Retry-After": "1"},
        )
        found = iter(self._computed([job for job, is_in_time in zip(jobs, in_time, strict=True) if is_in_time]))
        return [next(found) if is_in_time else late for is_in_time in in_time]

    def _computed(self, jobs: list[_Job]) -> Sequence[Any]:
        if not jobs:
            return []
        self.batches += 1
        self.answered += len(jobs)
        try:
            return jobs[0].compute([job.asked for job in jobs])
        except Problem as problem:
            return [problem] * len(jobs)
        except Exception:
            if len(jobs) > 1:  # one that cannot be answered must not spoil the others
                return [answer for job in jobs for answer in self._computed([job])]
            _LOG.exception("a request could not be answered")
            return [Problem(500, "The service failed to answer.", "", "This is a defect; its log says where.")]

    @staticmethod
    def _deliver(jobs: list[_Job], answers: Sequence[Any]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
        for job, answer in zip(jobs, answers, strict=True):
            by_loop.setdefault(job.loop, []).append((job.future, answer))
        for loop, pairs in by_loop.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(_resolve, pairs)


def _resolve(pairs: Sequence[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, answer in pairs:
        if not future.done():
            future.set_result(answer)

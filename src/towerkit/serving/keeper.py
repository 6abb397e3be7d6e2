"""Between the service and the log: events that come together are committed together, then counted, then acknowledged."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from towerkit.serving.journal import Happened, Journal
from towerkit.serving.problems import Problem
from towerkit.serving.requests import Events
from towerkit.serving.worker import Worker

if TYPE_CHECKING:
    from towerkit.serving.engine import Engine

_LOG = logging.getLogger("towerkit.serving")
_APPEND = "append"


class Keeper:
    """Owns the log and the thread that writes it.

    Args:
        journal: The log.
        engine_of: Gives the model that is served under a name at this moment.
        worker: The thread; started and stopped by whoever made it.
    """

    def __init__(self, journal: Journal, engine_of: Callable[[str], Engine], worker: Worker) -> None:
        self.journal, self._engine_of, self.worker = journal, engine_of, worker

    async def tell(self, name: str, told: Events) -> list[dict[str, str]]:
        """Keep events; when this returns they are on disk and counted.

        Args:
            name: The model.
            told: The events.

        Returns:
            For each its id and ``status``: ``counted``; ``repeated``, if it was told before; ``kept``, if the model does not
            know its candidate, so that it changes nothing now; ``refused``, if its id was told before with another content,
            or it happened before its query was forgotten.

        Raises:
            Problem: If they cannot be kept; then none of them is.
        """
        events = [Happened(name, event.id, str(event.query), str(event.item), event.time) for event in told.events]
        found: list[dict[str, str]] = await self.worker.ask(_APPEND, self._append, events)
        return found

    async def run(self, job: Callable[[Journal], Any]) -> Any:
        """Do something else with the log, while no event is written.

        Args:
            job: Called with the log by the thread that writes it.

        Raises:
            Problem: If the log cannot be used.
        """

        def compute(asked: Sequence[Any]) -> list[Any]:
            with _unusable():
                return [job(self.journal)]
            raise AssertionError

        return await self.worker.ask(object(), compute, None, must=True)

    def _append(self, asked: Sequence[list[Happened]]) -> list[Any]:
        with _unusable():
            results = iter(self.journal.append([event for events in asked for event in events]))
        for event in self.journal.missed():
            self._count(event)
        return [[self._counted(event, next(results)) for event in events] for events in asked]

    def _counted(self, event: Happened, result: Happened | str | None) -> dict[str, str]:
        if isinstance(result, str):
            return {"id": event.id, "status": "refused", "reason": result}
        if result is None:
            return {"id": event.id, "status": "repeated"}
        return {"id": event.id, "status": "counted" if self._count(result) else "kept"}

    def _count(self, event: Happened) -> bool:
        engine = self._engine_of(event.model)
        if engine.users is None or engine.live is None:
            return False
        return engine.users.take(engine.live, event)


class _unusable:
    """A log that cannot be written is told as such; what is in memory goes on being served."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, sa.exc.SQLAlchemyError | OSError):
            _LOG.error("the log of events cannot be written: %s", str(error).splitlines()[0])
            raise Problem(
                503,
                "The log of events must be writable.",
                "it is not now",
                "Tell it again later.",
                {"Retry-After": "5"},
            ) from None

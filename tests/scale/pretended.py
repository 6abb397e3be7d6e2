"""What towerkit uses of Ray's core, played by this process: tasks run when they are asked for, and may die."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any


class RayError(Exception):
    """What Ray says of its own."""


class WorkerCrashedError(RayError):
    """A worker died."""


class RayTaskError(RayError):
    """A task raised an error."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"a page of traceback\n{cause}")
        self.cause = cause


class Reference:
    """The result of a task, or what it ended with."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.value, self.error = None, None
        try:
            self.value = call()
        except RayError as error:
            self.error = error
        except Exception as error:
            self.error = RayTaskError(error)


class PretendedRay(ModuleType):
    """Ray, with tasks that run one after the other.

    Args:
        before: Called with the number of each task before it runs, from 1; what it raises is the end of the task.
    """

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError, WorkerCrashedError=WorkerCrashedError)

    def __init__(self, before: Callable[[int], None] = lambda number: None) -> None:
        super().__init__("ray")
        self.before, self.tasks, self.waiting, self.most_waiting = before, 0, 0, 0

    def init(self, **given: Any) -> None:
        """Nothing."""

    def shutdown(self) -> None:
        """Nothing."""

    def cluster_resources(self) -> dict[str, float]:
        """Many CPUs."""
        return {"CPU": 8.0}

    def put(self, value: Any) -> Any:
        """The value itself."""
        return value

    def remote(self, **_: Any) -> Callable[[Callable[..., Any]], Any]:
        """A decorator, as Ray's."""

        def decorate(function: Callable[..., Any]) -> Any:
            def run(*given: Any) -> Reference:
                self.tasks += 1
                self.waiting += 1
                self.most_waiting = max(self.waiting, self.most_waiting)
                number = self.tasks

                def call() -> Any:
                    self.before(number)
                    return function(*given)

                return Reference(call)

            return SimpleNamespace(remote=run)

        return decorate

    def wait(self, references: Sequence[Reference], timeout: float) -> tuple[list[Reference], list[Reference]]:
        """All are done."""
        return list(references), []

    def get(self, reference: Reference) -> Any:
        """The result, or the error."""
        self.waiting -= 1
        if reference.error is not None:
            raise reference.error
        return reference.value

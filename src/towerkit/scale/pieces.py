"""Work in pieces on Ray: a function is called once for each, and the results come in their order."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from towerkit.core.errors import TowerkitError, TrainingError
from towerkit.core.optional import python_random_kept
from towerkit.data.roles import Roles
from towerkit.data.spec import DataSpec
from towerkit.data.stream.encoding import Encode, encode_alone
from towerkit.data.stream.files import LogFiles
from towerkit.data.stream.keys import Keys
from towerkit.data.stream.pieces import ForEach, encode_by_pieces, pieces_of
from towerkit.scale.session import LOCAL, first_line, ray_session

P = TypeVar("P")
R = TypeVar("R")
_RETRIES = 3


def on_workers(ray: Any, workers: int) -> ForEach:
    """Work by Ray's workers; a piece whose worker died is begun again by another.

    So a function may be called more than once for a piece: it writes whole files, or the same bytes to the same place.

    Args:
        ray: The package, connected.
        workers: How many; so many pieces more wait in Ray's queue.
    """
    task = ray.remote(num_cpus=1, max_retries=_RETRIES)(_call)

    def each(function: Callable[[P], R], pieces: Sequence[P]) -> Iterator[R]:
        shared, waiting = ray.put(function), deque[Any]()
        for piece in pieces:
            if len(waiting) == 2 * workers:
                yield _result(ray, waiting.popleft())
            waiting.append(task.remote(shared, piece))
        while waiting:
            yield _result(ray, waiting.popleft())

    return each


@contextlib.contextmanager
def workers_of(address: str | None, workers: int) -> Iterator[ForEach]:
    """Who does work in pieces: this process, or the workers of a Ray cluster.

    Args:
        address: Where; see :func:`towerkit.scale.session.ray_session`. This process when not given.
        workers: How many.
    """
    if address is None:
        yield map
        return
    with python_random_kept(), ray_session(address, workers) as ray:
        yield on_workers(ray, workers)


def encoder_on(address: str, workers: int, spec: DataSpec) -> Encode | None:
    """How a log is encoded that several workers train from: by them, where they reach what is written; else by each machine.

    Args:
        address: See :func:`workers_of`.
        workers: How many.
        spec: Of the data.
    """
    stream = spec.examples.stream
    if stream is None or workers == 1 or (address != LOCAL and stream.cache is None):
        return None

    def encode(files: LogFiles, roles: Roles, folder: Path) -> list[Keys]:
        if len(pieces_of(files)) == 1:
            return encode_alone(files, roles, folder)
        with workers_of(address, workers) as each:
            return encode_by_pieces(files, roles, folder, each)

    return encode


def _call(function: Callable[[P], R], piece: P) -> R:
    return function(piece)


def _result(ray: Any, reference: Any) -> Any:
    """What a worker found; its errors on purpose are those of this process.

    Raises:
        TowerkitError: As the function did.
        TrainingError: If its workers died.
    """
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, TowerkitError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise TrainingError(
            f"The workers of a piece of work died {_RETRIES + 1} times ({first_line(error)}). Is there too little memory? "
            "Ray's logs are below its temporary folder, in session_latest/logs."
        ) from None

"""Which of the processes that share a study live: each holds a lock file of its own, by its name.

A process that another one started is called after it (``a1b2.3`` is the third that ``a1b2`` started) and ends with it. On another
machine nobody but its starter can tell that it died; the starter then buries it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from towerkit.core.errors import RunError
from towerkit.storage.lock import folder_lock, holder_of, lock_path, take_from

JOURNAL = "journal.jsonl"
_FOLDER = "workers"
_WRITTEN = ("study", "study.json", JOURNAL)
"""What processes at trials hold the lock of, each for moments."""


@contextmanager
def living(folder: Path, name: str) -> Iterator[None]:
    """Let the other processes of a study see that this one lives.

    Args:
        folder: Of the study.
        name: Of this process.
    """
    (folder / _FOLDER).mkdir(parents=True, exist_ok=True)
    with folder_lock(folder / _FOLDER / name):
        yield


def lives(folder: Path, name: str) -> bool:
    """Whether a process of a study lives.

    Args:
        folder: Of the study.
        name: Of the process.
    """
    starter, _, number = name.partition(".")
    if number and not lives(folder, starter):
        return False
    if not lock_path(folder / _FOLDER / name).exists():
        return False
    try:
        with folder_lock(folder / _FOLDER / name):
            return False
    except RunError:
        return True


def bury(folder: Path, name: str) -> None:
    """Take the locks of a process away that is gone, as its starter knows.

    Args:
        folder: Of the study.
        name: Of the process.
    """
    gone = holder_of(folder / _FOLDER / name)
    if gone is not None:
        for target in (*(folder / each for each in _WRITTEN), folder / _FOLDER / name):
            take_from(target, gone)


def bury_orphans(folder: Path) -> None:
    """Bury the processes whose starter died on this machine: they ended with it.

    Args:
        folder: Of the study.
    """
    for path in (folder / _FOLDER).glob(".*.lock"):
        name = path.name.removeprefix(".").removesuffix(".lock")
        starter, _, number = name.partition(".")
        if number and not lives(folder, starter):
            bury(folder, name)

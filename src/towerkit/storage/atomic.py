"""Files and folders that are whole or absent, whatever happens while they are written.

A folder is written beside its target under a temporary name, flushed to the disk and then renamed into place. When it
replaces an old Run there are two renames: the old one aside (``.<name>.old-<pid>-<random>``), the new one in. A
process killed between the two leaves no ``<name>``, but both complete versions beside it. Readers say so
(:func:`why_missing`), and the next writer, or :func:`recover`, puts the new version in place: it was
complete on the disk before the old one moved.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from towerkit.core.errors import RunError
from towerkit.storage.lock import folder_lock, process_is_alive

MANIFEST_NAME = "manifest.json"
_MANIFEST_PEEK_BYTES = 4 << 20


@dataclass(frozen=True)
class _Leftover:
    """What a writer left beside its target: a temporary folder (``tmp``) or the old version put aside (``old``)."""

    path: Path
    role: str
    pid: int
    token: str

    @property
    def abandoned(self) -> bool:
        """Whether its writer has ended. One with our own number is abandoned too: the lock says we are alone."""
        return self.pid == os.getpid() or not process_is_alive(self.pid)


def atomic_write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file so that a reader sees the old content or all of the new one.

    Raises:
        RunError: If the file cannot be written.
    """
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; when the block ends well, the file written there replaces ``path``.

    Raises:
        RunError: If the operating system refuses a step; the temporary file is gone then.
    """
    path = Path(os.path.abspath(path))
    temporary = _beside(path, "tmp", _new_token())
    try:
        with as_run_error(f"write {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_of_dead_writers(path)
            yield temporary
            _sync_file(temporary)
            os.replace(temporary, path)
            _sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(target: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside ``target``; when the block ends well, it becomes ``target``.

    If the block raises, or the process dies, ``target`` is as it was. The lock of the target is held all along.

    Args:
        target: The folder to make. Missing parents are created.
        overwrite: Whether ``target`` may replace an existing Run.

    Yields:
        The folder to fill, named ``.<name>.tmp-<pid>-<random>``.

    Raises:
        RunError: Before any work, as :func:`check_target` and :func:`~towerkit.storage.lock.folder_lock`; later, if the
            operating system refuses a step, also one inside the block.
    """
    check_target(target, overwrite)
    target = Path(os.path.abspath(target))
    with as_run_error(f"create the folder {target.parent}"):
        target.parent.mkdir(parents=True, exist_ok=True)
    with folder_lock(target):
        _recover(target)
        check_target(target, overwrite)  # again: now nobody else writes there
        token = _new_token()
        temporary = _beside(target, "tmp", token)
        try:
            with as_run_error(f"create the folder {temporary}"):
                temporary.mkdir()
            with as_run_error(f"write {target}"):
                yield temporary
            with as_run_error(f"put {target} in place"):
                _sync_tree(temporary)
                _swap(temporary, target, token)
        finally:
            with contextlib.suppress(OSError):  # who cannot look keeps what is there
                if not _interrupted(target):  # it is, if the old version could not be put back: keep both
                    shutil.rmtree(temporary, ignore_errors=True)  # after a success this is the old version


def check_target(target: str | Path, overwrite: bool = False) -> None:
    """Refuse a target that may not be written, before an hour of training goes into it.

    Raises:
        RunError: If the target exists and ``overwrite`` is false, or it exists and is not a Run.
    """
    target = Path(os.path.abspath(target))
    if "\0" in target.name:
        raise RunError(f"{str(target)!r} holds a null character; give a path without it.")
    if not target.name:
        raise RunError(f"{target} is the root of a disk; give the path of a new folder.")
    if not os.path.lexists(target):
        _check_parent(target)
        with as_run_error(f"list the folder {target.parent}"):
            stopped = _interrupted(target)
        if stopped and not overwrite:
            raise RunError(f"{target} already exists: {_how_it_stopped(stopped)}")
        return
    if not overwrite:
        raise RunError(
            f"{target} already exists; choose another folder or pass --overwrite (overwrite=True in Python)."
        )
    if target.is_symlink() or not target.is_dir():
        kind = "a symbolic link" if target.is_symlink() else "a file"
        raise RunError(f"{target} is {kind}, not a Run, and is never overwritten; choose another folder.")
    if not is_run(target):
        raise RunError(
            f"{target} exists and is not a Run (it has no {MANIFEST_NAME} written by towerkit), so it is never "
            "overwritten; choose another folder, or delete this one yourself."
        )


def _check_parent(target: Path) -> None:
    parent = next(folder for folder in target.parents if os.path.lexists(folder))
    if not parent.is_dir():
        name = target.relative_to(parent).parts[0]
        raise RunError(f"{parent} is a file, so no folder '{name}' can be made in it; give another path.")


def is_run(folder: Path) -> bool:
    """Whether a folder claims to be a Run: its manifest may be of any version, and other files may be damaged."""
    path = folder / MANIFEST_NAME
    if not path.is_file():  # a pipe of that name would make us wait
        return False
    try:
        with open(path, "rb") as file:
            content = json.loads(file.read(_MANIFEST_PEEK_BYTES))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and {"format", "towerkit", "files"} <= content.keys()


def _interrupted(target: Path) -> list[_Leftover]:
    """The complete versions beside a missing target, new before old, if a writer stopped between its two renames."""
    if os.path.lexists(target):
        return []
    found = _leftovers(target)
    for old in (one for one in found if one.role == "old"):
        new = [one for one in found if one.role == "tmp" and one.token == old.token and one.pid == old.pid]
        return [*new, old]
    return []


def why_missing(target: str | Path) -> str | None:
    """Why a Run is not there although versions of it are, for the errors of readers; None when there are none."""
    try:
        stopped = _interrupted(Path(os.path.abspath(target)))
    except OSError:  # the reader's own error says more
        return None
    return _how_it_stopped(stopped) if stopped else None


def recover(target: str | Path) -> bool:
    """Finish what a killed writer began, and remove what it left.

    Returns:
        Whether ``target`` was put back in place.

    Raises:
        RunError: If another process is writing there.
    """
    target = Path(os.path.abspath(target))
    with folder_lock(target):
        return _recover(target)


def _recover(target: Path) -> bool:
    """Recover while the lock is held."""
    with as_run_error(f"clean up what an interrupted writer left beside {target}"):
        stopped = [one for one in _interrupted(target) if one.abandoned]
        if stopped:
            os.rename(stopped[0].path, target)
            _sync_folder(target.parent)
        for leftover in _leftovers(target):
            if leftover.abandoned and (leftover.role == "tmp" or os.path.lexists(target)):
                shutil.rmtree(leftover.path, ignore_errors=True)
    return bool(stopped)


def _swap(temporary: Path, target: Path, token: str) -> None:
    """Rename the new folder in; the old one ends under the temporary name, to be deleted."""
    if not os.path.lexists(target):
        os.rename(temporary, target)
        _sync_folder(target.parent)
        return
    aside = _beside(target, "old", token)
    try:
        os.rename(target, aside)
        _sync_folder(target.parent)
        os.rename(temporary, target)
    except BaseException:
        if os.path.lexists(aside) and not os.path.lexists(target):
            os.rename(aside, target)
        raise
    _sync_folder(target.parent)
    with contextlib.suppress(OSError):  # the next writer tries again
        os.rename(aside, temporary)  # from here on it is rubbish, and no reader may take it for the old version


def _how_it_stopped(stopped: list[_Leftover]) -> str:
    if not stopped[0].abandoned:
        return f"process {stopped[0].pid} is replacing it at this moment; try again."
    names = " and ".join(f"'{one.path.name}' ({'new' if one.role == 'tmp' else 'old'})" for one in stopped)
    return (
        f"process {stopped[0].pid} was stopped while it replaced this Run, between two renames; the complete versions "
        f"beside it are {names}. Rename the one you want, or write again with --overwrite."
    )


def _leftovers(target: Path) -> list[_Leftover]:
    pattern = re.compile(rf"\.{re.escape(target.name)}\.(tmp|old)-(\d{{1,10}})-([0-9a-f]{{16}})")
    try:
        names = sorted(os.listdir(target.parent))
    except (FileNotFoundError, NotADirectoryError):
        return []
    matches = [match for match in map(pattern.fullmatch, names) if match]
    return [_Leftover(target.parent / match[0], match[1], int(match[2]), match[3]) for match in matches]


def _beside(target: Path, role: str, token: str) -> Path:
    return target.with_name(f".{target.name}.{role}-{os.getpid()}-{token}")


def _new_token() -> str:
    return _machine() + secrets.token_hex(4)


def _machine() -> str:
    """Stands for this machine in a token: on a shared disk, only here can be asked whether a process of it lives."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _remove_of_dead_writers(path: Path) -> None:
    """Remove what killed processes of this machine left beside a file; no lock says that we are alone."""
    with contextlib.suppress(OSError):  # it is no reason not to write
        for leftover in _leftovers(path):
            if leftover.token.startswith(_machine()) and not process_is_alive(leftover.pid):
                leftover.path.unlink()


def _sync_tree(folder: Path) -> None:
    """Flush every file, then every folder from the leaves up, so that a power cut after the rename loses nothing."""
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = Path(place, name)
            if not path.is_symlink():
                _sync_file(path)
        _sync_folder(Path(place))


def _sync_file(path: Path) -> None:
    flags = os.O_RDWR if os.name == "nt" else os.O_RDONLY  # Windows flushes only what is open for writing
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    if os.name == "nt":  # a folder cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network disks cannot flush a folder
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def as_run_error(step: str) -> Iterator[None]:
    """Inside the block, what the operating system refuses becomes a :class:`RunError`.

    Args:
        step: What is done, after "Cannot".
    """
    try:
        yield
    except OSError as error:
        raise RunError(
            f"Cannot {step}: {error.strerror or error}; check the free space and that you may write there."
        ) from error

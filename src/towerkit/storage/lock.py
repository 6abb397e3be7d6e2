"""One writer per Run: a lock file beside the folder, with the holder's process number inside.

The file is created with ``O_CREAT | O_EXCL``, which every common file system decides for exactly one process. A
holder that died leaves its file behind; the next writer takes it over. To take over, a writer first creates a
*claim* named after the dead holder's token: only the owner of that claim may remove that lock, so two writers that
both find it stale cannot remove each other's new lock. A claim whose owner died is taken over in the same way; what
claims are left when a writer holds the lock belong to locks that are gone, and it removes them.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from towerkit.core.errors import RunError

_ATTEMPTS = 40
_PAUSE_S = 0.05
_LOOK_S = 0.01
_CLAIM = ".claim-"
# A holder writes its number microseconds after it creates the file; a file that stays empty before our eyes for this
# long was left by a process that died in between. Shorter than all attempts together, so that the next writer outlasts
# it; not told from the file's time, since the clock may have gone back.
_UNWRITTEN_IS_STALE_AFTER_S = 1.0
_HELD: set[str] = set()  # tokens of the locks that this process holds


class Holder(NamedTuple):
    """A process that holds a lock."""

    host: str
    pid: int


@dataclass(frozen=True)
class _Holder:
    pid: int
    host: str
    token: str


@contextlib.contextmanager
def folder_lock(target: str | Path) -> Iterator[Path]:
    """Hold the only right to write ``target`` until the block ends.

    Args:
        target: The folder to be written; it need not exist, its parent must.

    Yields:
        The lock file, ``.<name>.lock`` beside the target.

    Raises:
        RunError: If another process (or another thread of this one) holds the lock; it names the process.
    """
    path = lock_path(target)
    me = _Holder(os.getpid(), platform.node(), secrets.token_hex(8))
    _HELD.add(me.token)
    try:
        _acquire(path, me)
        try:
            yield path
        finally:
            _release(path, me)
    finally:
        _HELD.discard(me.token)


@contextlib.contextmanager
def patiently(target: Path, seconds: float = 600.0) -> Iterator[None]:
    """Hold the right to write a target, as soon as nobody else does.

    Args:
        target: A file or folder.
        seconds: How long to wait.

    Raises:
        RunError: If another process holds it all the time.
    """
    deadline = time.monotonic() + seconds
    while True:
        lock = folder_lock(target)
        try:
            lock.__enter__()
            break
        except RunError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_LOOK_S)
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def lock_path(target: str | Path) -> Path:
    """The lock file of a folder.

    Example:
        >>> lock_path("runs/shop").name
        '.shop.lock'
    """
    target = Path(os.path.abspath(target))
    return target.with_name(f".{target.name}.lock")


def writer_of(target: str | Path) -> int | None:
    """The number of the process of this machine that holds the lock of a folder; None where none does, or one elsewhere.

    Args:
        target: The folder that it writes.
    """
    holder = _read(lock_path(target))
    if holder is None or not holder.pid or holder.host != platform.node() or _is_stale(holder, {}):
        return None
    return holder.pid


def holder_of(target: str | Path) -> Holder | None:
    """Who holds the lock of a folder, dead or alive, on any machine; None where nobody does.

    Args:
        target: The folder that it writes.
    """
    holder = _read(lock_path(target))
    return None if holder is None or not holder.pid else Holder(holder.host, holder.pid)


def take_from(target: str | Path, gone: Holder) -> None:
    """Remove the lock of a folder if a process has it that is gone, as the caller knows: who started it on another machine, say.

    Args:
        target: The folder that it wrote.
        gone: The process.
    """
    path = lock_path(target)
    holder = _read(path)
    if holder is not None and (holder.host, holder.pid) == gone:
        _remove_stale(path, holder, _Holder(os.getpid(), platform.node(), secrets.token_hex(8)), {})


def process_is_alive(pid: int) -> bool:
    """Whether a process with this number runs on this machine; a number that cannot be asked about counts as alive."""
    if pid <= 0:
        return False
    if sys.platform == "win32":  # os.kill(pid, 0) would send Ctrl-C there
        return _windows_process_is_alive(pid)
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it exists and belongs to someone else
        return True
    return True


def _windows_process_is_alive(pid: int) -> bool:  # pragma: no cover - only Windows has these calls
    import ctypes

    query_limited_information, still_active = 0x1000, 259
    kernel: object = ctypes.windll.kernel32  # type: ignore[attr-defined,unused-ignore]
    handle = kernel.OpenProcess(query_limited_information, False, pid)  # type: ignore[attr-defined]
    if not handle:
        return bool(kernel.GetLastError() == 5)  # type: ignore[attr-defined]  # 5: access denied, so it exists
    code = ctypes.c_ulong()
    kernel.GetExitCodeProcess(handle, ctypes.byref(code))  # type: ignore[attr-defined]
    kernel.CloseHandle(handle)  # type: ignore[attr-defined]
    return code.value == still_active


def _acquire(path: Path, me: _Holder) -> None:
    met: dict[str, float] = {}  # token -> when we first saw it
    for _ in range(_ATTEMPTS):
        if _create(path, me):
            _remove_old_claims(path)
            return
        holder = _read(path)
        if holder is None:  # released since we tried to create it
            continue
        if _is_stale(holder, met):
            _remove_stale(path, holder, me, met)
        elif holder.pid:
            raise RunError(_refusal(path, holder))
        else:  # just created, its number not yet written
            time.sleep(_PAUSE_S)
    raise RunError(
        f"The lock {path} did not become free in {_ATTEMPTS} attempts; if no towerkit process is writing there, "
        "delete that file and run again."
    )


def _create(path: Path, me: _Holder) -> bool:
    """Create the file for us, or say that somebody else has it."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return False
    except OSError as error:
        raise RunError(
            f"Cannot create the lock {path} ({error.strerror}); choose a folder whose parent you may write to."
        ) from error
    try:
        os.write(descriptor, json.dumps(asdict(me)).encode())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise RunError(f"Cannot write the lock {path} ({error.strerror}); free some space on that disk.") from error
    finally:
        os.close(descriptor)
    return _read(path) == me  # not so if we slept for seconds before we wrote, and were taken for dead


def _read(path: Path) -> _Holder | None:
    """Who holds the lock; None when it is gone, process 0 when the file does not say."""
    try:
        with open(path, "rb") as file:
            text, modified = file.read(4096), os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(f"Cannot read the lock {path} ({error.strerror}); delete it if nobody writes there.") from error
    try:
        content = json.loads(text)
        return _Holder(int(content["pid"]), str(content["host"]), str(content["token"]))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return _Holder(0, "", f"unwritten-{modified}")


def _is_stale(holder: _Holder, met: dict[str, float]) -> bool:
    if not holder.pid:
        return time.monotonic() - met.setdefault(holder.token, time.monotonic()) > _UNWRITTEN_IS_STALE_AFTER_S
    if holder.host != platform.node():  # a shared disk: nobody here can ask about that process
        return False
    if holder.pid == os.getpid():  # ours, or of an earlier process that had our number (usual in containers)
        return holder.token not in _HELD
    return not process_is_alive(holder.pid)


def _remove_stale(path: Path, holder: _Holder, me: _Holder, met: dict[str, float]) -> None:
    """Remove the lock or claim of ``holder``, and only that one, under a claim that one process at a time can own."""
    digest = "".join(letter for letter in holder.token if letter.isalnum() or letter == "-")[:48]
    claim = path.with_name(f"{path.name.partition(_CLAIM)[0]}{_CLAIM}{digest}")
    if not _create(claim, me):
        owner = _read(claim)
        if owner is not None and owner.token != holder.token and _is_stale(owner, met):
            _remove_stale(claim, owner, me, met)
        else:
            time.sleep(_PAUSE_S)
        return
    try:
        if _read(path) == holder:  # still the stale one: without our claim nobody else may remove it
            _remove(path)
    finally:
        _remove(claim)


def _remove_old_claims(path: Path) -> None:
    """Remove the claims on earlier locks; we hold the lock, so whoever still has one finds nothing to remove."""
    with contextlib.suppress(OSError):
        for name in os.listdir(path.parent):
            if name.startswith(path.name + _CLAIM):
                _remove(path.with_name(name))


def _release(path: Path, me: _Holder) -> None:
    # A forked child must not release its parent's lock. What cannot be read or removed now is stale from here on.
    with contextlib.suppress(RunError):
        if os.getpid() == me.pid and _read(path) == me:
            _remove(path)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # Windows refuses while another process reads the file
        path.unlink()


def _refusal(path: Path, holder: _Holder) -> str:
    elsewhere = "" if holder.host == platform.node() else f" on the machine '{holder.host}'"
    folder = path.name.removeprefix(".").removesuffix(".lock")
    return (
        f"The folder '{folder}' is being written by process {holder.pid}{elsewhere} (lock: {path}); wait until it has "
        "finished or choose another folder. If no such towerkit process is running, delete that lock file."
    )

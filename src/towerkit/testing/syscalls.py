"""System calls that fail, or kill their process, on demand: what a bad disk does, at every single call.

A child process installs a seccomp filter that hands the calls which open, write, flush, rename or remove files to its
parent, and waits for the answer. The parent lets a call through, fails it with an error number, or kills the child
before it is done. The kernel does the stopping, so the calls of libraries written in Rust or C++ (safetensors, Arrow)
are met like those of Python. Linux only; no rights are needed.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import platform
import select
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Kind -> {machine: numbers}. A number stands for one call on one machine, from the kernel's tables.
_NUMBERS: dict[str, dict[str, dict[int, int]]] = {
    # number -> which argument is the path or descriptor; negative: the descriptor of a folder comes before the path
    "open": {"x86_64": {2: 0, 85: 0, 257: -1}, "aarch64": {56: -1}},
    "write": {
        "x86_64": {1: 0, 18: 0, 20: 0, 77: 0, 285: 0, 296: 0},
        "aarch64": {46: 0, 47: 0, 64: 0, 66: 0, 68: 0, 70: 0},
    },
    "sync": {"x86_64": {74: 0, 75: 0}, "aarch64": {82: 0, 83: 0}},
    "rename": {"x86_64": {82: 0, 264: -1, 316: -1}, "aarch64": {38: -1, 276: -1}},
    "mkdir": {"x86_64": {83: 0, 258: -1}, "aarch64": {34: -1}},
    "remove": {"x86_64": {84: 0, 87: 0, 263: -1}, "aarch64": {35: -1}},
    "list": {"x86_64": {217: 0}, "aarch64": {61: 0}},
}
KINDS = tuple(_NUMBERS)
"""What a call does: open, write (also truncate and reserve), sync, rename, mkdir, remove or list."""

_ARCHITECTURES = {"x86_64": (0xC000003E, 317), "aarch64": (0xC00000B7, 277)}  # AUDIT_ARCH_*, number of seccomp(2)
_BY_DESCRIPTOR = {"write", "sync", "list"}
_AT_FDCWD = -100
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_RECEIVE, _SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV and _SEND
_CONTINUE = 1


class Stopped(Exception):
    """This system has no such filters, or forbids them."""


@dataclass(frozen=True)
class Call:
    """One call that waits for an answer.

    Args:
        number: Counts the calls under the watched folder, from 1.
        kind: One of :data:`KINDS`.
        path: The file or folder.
    """

    number: int
    kind: str
    path: str


KILL = -1
"""An answer: the child is killed before the call is done."""

Answer = Callable[[Call], int]
"""Given a call: 0 lets it through, an error number fails it, :data:`KILL` kills the process."""


@dataclass
class Ending:
    """How a child ended.

    Args:
        calls: Every call under the watched folder, in order.
        result: What its work gave, through JSON; None if it raised or was killed.
        error: Name of the exception's class and its message; None if it raised none.
        trace: The traceback of that exception.
        was_killed: Whether it was.
    """

    calls: list[Call] = field(default_factory=list)
    result: Any = None
    error: tuple[str, str] | None = None
    trace: str = ""
    was_killed: bool = False


def watched(work: Callable[[], Any], folder: Path, answer: Answer, *, kill_after_s: float | None = None) -> Ending:
    """Run ``work`` in a forked child and answer each of its calls on files under ``folder``.

    Nothing of torch may have run in this process: a forked child has none of its threads.

    Args:
        work: What it gives must fit JSON.
        folder: Calls on other files pass.
        answer: Asked for each call.
        kill_after_s: Also kill it at this moment, counted from its start, whatever it does.

    Raises:
        Stopped: If this system has no such filters.
    """
    number_of = _numbers()
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        ours.close()
        _child(work, theirs, number_of)
    theirs.close()
    ends_at = None if kill_after_s is None else time.monotonic() + kill_after_s
    with ours:
        _, descriptors, *_ = socket.recv_fds(ours, 1, 1)
        ending = Ending()
        if descriptors:
            try:
                _attend(descriptors[0], child, number_of, os.path.realpath(folder), answer, ending, ends_at)
            finally:
                os.close(descriptors[0])
        told = b"".join(iter(lambda: ours.recv(1 << 16), b""))
    status = os.waitpid(child, 0)[1]
    ending.was_killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    found = json.loads(told) if told else {}
    if "filter" in found:
        raise Stopped(found["filter"])
    ending.result, ending.trace = found.get("result"), found.get("trace", "")
    ending.error = (found["error"][0], found["error"][1]) if "error" in found else None
    return ending


def fail_at(number: int, error: int, *, stays: bool = False) -> Answer:
    """The call of that number fails; with ``stays`` also every later one that needs the disk: a disk that is full.

    Args:
        number: From 1.
        error: For example ``errno.ENOSPC``.
        stays: Whether later calls other than listing and removing fail too.
    """

    def answer(call: Call) -> int:
        if call.number == number or (stays and call.number > number and call.kind not in ("list", "remove")):
            return error
        return 0

    return answer


def kill_at(number: int) -> Answer:
    """The process is killed before the call of that number is done."""
    return lambda call: KILL if call.number == number else 0


def _numbers() -> dict[int, tuple[str, int]]:
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _ARCHITECTURES:
        raise Stopped(f"needs Linux on x86_64 or aarch64, received {sys.platform} on {machine}")
    return {number: (kind, where) for kind, by in _NUMBERS.items() for number, where in by[machine].items()}


def _child(work: Callable[[], Any], parent: socket.socket, number_of: dict[int, tuple[str, int]]) -> None:
    told: dict[str, Any] = {}
    try:
        listener = _install(number_of)
        socket.send_fds(parent, [b"x"], [listener])
        os.close(listener)
        told["result"] = work()
    except Stopped as error:
        parent.send(b"x")
        told["filter"] = str(error)
    except BaseException as error:
        told["error"] = [type(error).__name__, str(error)]
        told["trace"] = traceback.format_exc()
    finally:
        try:
            parent.sendall(json.dumps(told).encode())
        finally:
            os._exit(0)


def _install(number_of: dict[int, tuple[str, int]]) -> int:
    """Install the filter in this process; the descriptor on which its calls are told."""
    architecture, seccomp = _ARCHITECTURES[platform.machine()]
    steps = [(_LOAD, 0, 0, 4), (_JUMP_IF_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _ALLOW), (_LOAD, 0, 0, 0)]
    for place, number in enumerate(number_of):
        steps.append((_JUMP_IF_EQUAL, len(number_of) - place, 0, number))
    steps += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _NOTIFY)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(program)))
    system = ctypes.CDLL(None, use_errno=True)
    if system.prctl(38, 1, 0, 0, 0):  # PR_SET_NO_NEW_PRIVS: what lets anyone install a filter
        raise Stopped(f"no filter may be installed: {os.strerror(ctypes.get_errno())}")
    listener: int = system.syscall(seccomp, 1, 8, header)  # SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER
    if listener < 0:
        raise Stopped(f"no filter may be installed: {os.strerror(ctypes.get_errno())}")
    return listener


def _attend(
    listener: int,
    child: int,
    number_of: dict[int, tuple[str, int]],
    folder: str,
    answer: Answer,
    ending: Ending,
    ends_at: float | None,
) -> None:
    """Answer calls until the child has ended."""
    ended = os.pidfd_open(child)
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(ended, select.POLLIN)
    try:
        while True:
            left = None if ends_at is None else max(0.0, ends_at - time.monotonic())
            ready = dict(poll.poll(None if left is None else left * 1000))
            if left == 0.0:
                os.kill(child, signal.SIGKILL)  # not yet waited for, so its number is its own
                ends_at = None
            if ready.get(listener, 0) & select.POLLIN:
                _answer_one(listener, child, number_of, folder, answer, ending)
            elif ended in ready or listener in ready:
                return
    finally:
        os.close(ended)


def _answer_one(
    listener: int, child: int, number_of: dict[int, tuple[str, int]], folder: str, answer: Answer, ending: Ending
) -> None:
    request = bytearray(80)
    try:
        fcntl.ioctl(listener, _RECEIVE, request)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR):  # its process ended meanwhile
            return
        raise
    notice, thread, _, number, _, _, *arguments = struct.unpack("QIIiIQ6Q", request)
    kind, where = number_of[number]
    verdict = 0
    path = _path_of(thread, kind, where, arguments)
    if path is not None and (path == folder or path.startswith(folder + os.sep)):
        call = Call(len(ending.calls) + 1, kind, path)
        ending.calls.append(call)
        verdict = answer(call)
    if verdict == KILL:
        os.kill(child, signal.SIGKILL)
        return
    try:
        fcntl.ioctl(listener, _SEND, struct.pack("Qqi I", notice, 0, -verdict, 0 if verdict else _CONTINUE))
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise


def _path_of(thread: int, kind: str, where: int, arguments: list[int]) -> str | None:
    """The file that a call is about; None where it has no name, as a pipe has none."""
    try:
        if kind in _BY_DESCRIPTOR:
            return str(Path(f"/proc/{thread}/fd/{arguments[where]}").readlink())
        text = _text_at(thread, arguments[where if where >= 0 else 1])
        base = ctypes.c_int32(arguments[0] & 0xFFFFFFFF).value if where < 0 else _AT_FDCWD
        start = Path(f"/proc/{thread}/cwd" if base == _AT_FDCWD else f"/proc/{thread}/fd/{base}").readlink()
        return os.path.normpath(start / text)
    except OSError:
        return None


def _text_at(thread: int, address: int) -> str:
    """A zero-ended text in another process, read up to the end of its page at a time."""
    found = b""
    with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
        while b"\0" not in found and len(found) < 4096:
            memory.seek(address + len(found))
            found += memory.read(4096 - (address + len(found)) % 4096)
    return os.fsdecode(found.partition(b"\0")[0])

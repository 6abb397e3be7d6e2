"""How a command ends: with its answer, or with a message and a status, never with a traceback."""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import io
import os
import sys
from typing import Any

import typer

from towerkit.cli.app import app, print_json
from towerkit.core.errors import TowerkitError
from towerkit.guide import page_path

_TURNS = "1000"
"""Of waiting threads, some microseconds. GNU's OpenMP takes 300,000 and more, unless there are more threads than cores."""


def _wait_shortly() -> None:
    """Let threads that wait for work soon make room, unless the user has said how they should wait; before PyTorch is loaded.

    Beside another busy process they would wait through its share of the processor for each of the many short loops of a step.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _TURNS)


_CONTAINERS = 10_000
"""That are made before Python looks for cycles among them. By itself it does so after 700."""


def _collect_seldom() -> None:
    """Look less often for cycles that nothing refers to: importing makes a million containers and hardly any such cycle.

    And not at the very end, when the system takes everything anyway. Both together are a second of a command that loads PyTorch.
    """
    gc.set_threshold(_CONTAINERS, *gc.get_threshold()[1:])
    atexit.register(_leave_to_the_system)


def _leave_to_the_system() -> None:
    if "onnx" not in sys.modules:  # its bindings write to standard error what they still find at the end
        gc.freeze()


def main() -> None:
    """Run the command line; a problem that towerkit knows ends with its message and status 1, never a traceback."""
    wants_json = "--json" in sys.argv
    _mend_standard_streams()
    _wait_shortly()
    _collect_seldom()
    status = 0
    try:
        status = app(prog_name="towerkit", standalone_mode=False) or 0
        sys.stdout.flush()
    except TowerkitError as error:
        _fail(type(error).__name__, str(error), wants_json, status=error.status, page=page_path(error.page))
    except BrokenPipeError:
        _drop_output()
        sys.exit(1)
    except Exception as error:
        _fail_by(error, wants_json)
    if status == _INTERRUPTED:
        _fail("Interrupted", "stopped by the user", wants_json, status=status)
    sys.exit(status)


_INTERRUPTED = 130


def _fail_by(error: Exception, wants_json: bool) -> None:
    """End with what is no problem of the data: wrong words on the command line, a full disk, a defect."""
    if hasattr(error, "format_message") and hasattr(error, "show"):  # the command line's library, about wrong words
        _add_received(error)
        if wants_json:
            _fail("UsageError", error.format_message(), wants_json, status=2)
        error.show()
        sys.exit(2)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        _drop_output()
        _fail("NoSpace", f"cannot write the answer: {error.strerror}. Free some space.", wants_json)
    if os.environ.get("TOWERKIT_TRACEBACK"):
        raise error
    where = f"{type(error).__name__}: {error}"
    _fail(
        "InternalError",
        f"{where}. This is a defect; TOWERKIT_TRACEBACK=1 shows where, please report it.",
        wants_json,
    )


def _add_received(error: Any) -> None:
    """Say the value of an option that breaks its rule, which the library leaves out."""
    rule = error.__cause__
    if hasattr(rule, "errors") and hasattr(error, "message"):
        error.message += f"; received {rule.errors()[0]['input']!r}."


def _mend_standard_streams() -> None:
    """A closed stream swallows what is written, and a terminal without a sign such as ``·`` gets its code instead."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            try:
                os.fstat(number)
            except OSError:  # else the next file that is opened would get the stream's number
                os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))
        elif name != "stdin" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Nobody takes the rest of the output; Python would complain about it once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(kind: str, message: str, wants_json: bool, status: int = 1, page: str | None = None) -> None:
    if wants_json:
        with contextlib.suppress(OSError):  # the disk is full, or nobody listens any more
            print_json({"error": {"type": kind, "message": message, **({"page": page} if page else {})}})
            sys.stdout.flush()
    typer.echo(f"error: {message}", err=True)
    if page:
        typer.echo(f"more:  {page}", err=True)
    sys.exit(status)

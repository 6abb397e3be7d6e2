"""Ctrl-C and a polite kill: the step under way is finished first; the second one ends the process at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from towerkit.core.errors import TrainingError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TrainingStopped(TrainingError):
    """A signal stopped the training after a whole step; its state is on the disk.

    Args:
        message: Where it stands and how to go on.
        number: The signal.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.status = 128 + number  # what a shell says of a process that the signal killed


class StopSignals:
    """Remembers the first signal while it listens."""

    def __init__(self) -> None:
        self.received: int | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals inside the block; outside the main thread Python gives them to no one, so nothing happens."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._receive) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = number
            return
        if sys.stderr is not None and sys.stderr.isatty():
            os.write(2, b"\x1b[?25h\n")  # a live line hides the cursor
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

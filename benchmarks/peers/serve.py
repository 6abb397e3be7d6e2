"""What the peers' scripts share. It runs in their environments: nothing but NumPy and the standard library here."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

Job = dict[str, Any]


def job() -> Job:
    """What this process is to do; the arguments are then hidden from the peer, which may read them too."""
    told: Job = json.loads(sys.argv[1])
    del sys.argv[1:]
    return told


def column(path: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """An array of codes that the benchmark wrote."""
    return np.fromfile(path, dtype=np.int64)


def serve(timed: Callable[[], float], about: dict[str, Any]) -> None:
    """Say that this side is ready; then take a turn for each line that comes in."""
    _say(about)
    for _ in sys.stdin:
        _say({"seconds": timed()})


def _say(answer: dict[str, Any]) -> None:
    print("peer:" + json.dumps(answer), flush=True)


def with_best_threads(timed: Callable[[], float], set_threads: Callable[[int], None]) -> int:
    """Leave the number of threads, one or all, at the one that is faster; every side of a benchmark may choose."""
    found = {}
    for count in (1, os.cpu_count() or 1):
        set_threads(count)
        found[count] = timed()
    best = min(found, key=lambda count: found[count])
    set_threads(best)
    return best

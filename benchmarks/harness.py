"""What every benchmark here shares: repeated timing with the sides alternating, and one JSON line per result."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import Any


def alternate(sides: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each side, taken in turns, so that a busy machine slows both alike."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, work in sides.items():
            started = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def report(benchmark: str, seconds: Mapping[str, list[float]], **about: Any) -> None:
    """Print one JSON line: the machine, and median, least and most of each side.

    Args:
        benchmark: Its name.
        seconds: Side -> times of its repeats.
        **about: What was measured: sizes, dtype, ratios.
    """
    sides = {
        name: {
            "median_s": round(statistics.median(times), 5),
            "min_s": round(min(times), 5),
            "max_s": round(max(times), 5),
        }
        for name, times in seconds.items()
    }
    repeats = len(next(iter(seconds.values())))
    print(json.dumps({"benchmark": benchmark, **_machine(), "repeats": repeats, "sides": sides, **about}), flush=True)


def _machine() -> dict[str, Any]:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "commit": commit.stdout.strip() or "unknown",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
    }

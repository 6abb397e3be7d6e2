"""What every benchmark here shares: sides that take turns, ratios with their spread, and one JSON line per result.

A figure that stands for itself is not worth much on a shared machine. So a benchmark has *sides*, which alternate within one
process, and reports ratios: the ratio of each round, then the median of those with their quartiles.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]


def alternate(sides: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each side, taken in turns, so that a busy machine slows both alike."""
    return alternate_timed({name: lambda work=work: stopwatch(work) for name, work in sides.items()}, repeats)


def alternate_timed(sides: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """The same for sides that take their own time: each call returns the seconds that count."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, timed in sides.items():
            seconds[name].append(timed())
    return seconds


def stopwatch(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def ratio(over: Sequence[float], under: Sequence[float]) -> dict[str, float]:
    """Median and quartiles of ``over / under`` round by round: what both sides share in a round cancels.

    Example:
        >>> ratio([4.0, 6.0, 9.0], [2.0, 2.0, 3.0])
        {'median': 3.0, 'q1': 2.5, 'q3': 3.0}
    """
    return _quartiles(np.asarray(over) / np.asarray(under))


def report(benchmark: str, seconds: Mapping[str, list[float]], /, **about: Any) -> None:
    """Print one JSON line: commit, machine, threads, and the median and spread of each side.

    Args:
        benchmark: Its name.
        seconds: Side -> times of its repeats; empty where no times were taken.
        **about: What was measured: ``n``, ``dtype``, sizes, and ``ratios``: name -> what :func:`ratio` gives.
    """
    repeats = max((len(times) for times in seconds.values()), default=1)
    own = {name: {} if len(times) == repeats else {"repeats": len(times)} for name, times in seconds.items()}
    sides = {name: _side(times) | own[name] for name, times in seconds.items()}
    print(json.dumps({"benchmark": benchmark, **_machine(), "repeats": repeats, "sides": sides, **about}), flush=True)


def data_folder(*names: str) -> Path | None:
    """A folder or file of the public data sets; None where it is not there.

    They are looked for in ``$TOWERKIT_DATA``, else in ``shared/data`` beside the checkout.
    """
    given = os.environ.get("TOWERKIT_DATA")
    path = (Path(given) if given else ROOT.parent / "shared" / "data").joinpath(*names)
    return path if path.exists() else None


def train_by_command(
    words: Sequence[str], settings: Mapping[str, Any]
) -> tuple[dict[str, Any], list[dict[str, Any]], float]:
    """Run ``towerkit train`` into a folder that is removed again.

    Args:
        words: Of the command: a spec or a preset, and options.
        settings: Key of the spec -> value.

    Returns:
        Its answer, the records of its epochs, and the seconds of the whole command.

    Raises:
        RuntimeError: If it failed; with its last words.
    """
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "towerkit", "train", *words, "--run", f"{place}/run", "--json"]
        for key, value in settings.items():
            command += ["--set", f"{key}={json.dumps(value)}"]
        environment = {**os.environ, "TOWERKIT_DATA": str(data_folder() or "")}
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        seconds = time.perf_counter() - started
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}")
        history = Path(place, "run", "history.jsonl").read_text(encoding="utf-8").splitlines()
    return json.loads(done.stdout), [json.loads(line) for line in history], seconds


def _side(times: Sequence[float]) -> dict[str, float]:
    spread = _quartiles(times)
    return {
        "median_s": spread["median"],
        "q1_s": spread["q1"],
        "q3_s": spread["q3"],
        "min_s": _short(min(times)),
        "max_s": _short(max(times)),
    }


def _quartiles(values: Any) -> dict[str, float]:
    low, middle, high = np.quantile(np.asarray(values, dtype=float), [0.25, 0.5, 0.75])
    return {"median": _short(middle), "q1": _short(low), "q3": _short(high)}


def _short(value: float) -> float:
    """Five significant digits."""
    return float(f"{value:.5g}")


def _machine() -> dict[str, Any]:
    torch = sys.modules.get("torch")  # a benchmark of start-up time does not load it
    about = {
        "commit": _git("rev-parse", "--short", "HEAD") or "unknown",
        "dirty": bool(_git("status", "--porcelain", "--", "src", "benchmarks/*.py")),
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "threads": torch.get_num_threads() if torch else os.environ.get("OMP_NUM_THREADS", "default"),
    }
    if torch:
        about["torch"] = torch.__version__
    return about


def _processor() -> str:
    """The processor's own name; the architecture where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], capture_output=True, text=True, check=False, cwd=ROOT).stdout.strip()

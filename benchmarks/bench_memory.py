"""Peak memory of a training of Gowalla's size (width 64), in a process of its own, beside one that only loads the library.

Counted is everything that was ever resident at once, libraries included, as the system tells it.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from harness import report

ENGINES = ("torch", "compiled")


def child(what: str, *, tiny: bool) -> None:
    """Do the work and print the peak in bytes."""
    from bench_training import bpr_spec
    from library import dataset_of, engines, train, with_engine
    from pairs import gowalla

    from towerkit.core.errors import TowerkitError

    refused = None
    if what not in ("loading", *engines()):
        refused = "this version has no such engine"
    elif what != "loading":
        spec = bpr_spec(8 if tiny else 64, {"kind": "adam", "rows": "touched"})
        try:
            train(dataset_of(gowalla(tiny=tiny).pairs), with_engine(spec, what), epochs=2)
        except TowerkitError as error:
            refused = str(error)
    print(json.dumps({"peak_bytes": peak_bytes(), "refused": refused}))


def peak_bytes() -> int:
    """``VmHWM`` of this process where there is a ``/proc``; elsewhere what ``getrusage`` tells, which a parent may raise."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def peak_of(what: str, flags: list[str]) -> dict[str, Any]:
    """The answer of a child."""
    command = [sys.executable, __file__, "--child", what, *flags]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def main() -> None:
    """Measure each engine."""
    if "--child" in sys.argv:
        child(sys.argv[sys.argv.index("--child") + 1], tiny="--tiny" in sys.argv)
        return
    tiny = "--tiny" in sys.argv
    flags = ["--tiny"] if tiny else []
    found = {what: peak_of(what, flags) for what in ("loading", *ENGINES)}
    refused = {what: answer["refused"] for what, answer in found.items() if answer["refused"]}
    peaks = {what: answer["peak_bytes"] for what, answer in found.items() if not answer["refused"]}
    about = {"n": 900 if tiny else 810_128, "dim": 8 if tiny else 64, "dtype": "float32", "epochs": 2}
    report("peak memory", {}, **about, peak_bytes=peaks, refused=refused)


if __name__ == "__main__":
    main()

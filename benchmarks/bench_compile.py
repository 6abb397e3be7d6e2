"""What compiling the kernels costs once: a small training with an empty cache of machine code, and again with the filled one.

Each is a process of its own that trains one-backprop with softmax, then BPR, and ranks; the difference is the compile time.
Beside it stands the time that the processor worked, which other work on the machine does not lengthen.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time

from harness import report


def child() -> None:
    """Train and rank a little with the fastest engine of this version; print its name and the seconds since the start."""
    from bench_training import bpr_spec, one_backprop_spec
    from library import dataset_of, engines, train, with_engine
    from pairs import ml100k
    from reference.one_backprop import Settings

    started, busy = time.perf_counter(), time.process_time()
    dataset, engine = dataset_of(ml100k(tiny=True).pairs), engines()[-1]
    settings = Settings(dim=8, batch_size=64)
    for spec in (
        one_backprop_spec(settings, as_reference=True),
        one_backprop_spec(settings, as_reference=False),
        bpr_spec(8, {"kind": "sgd", "rows": "touched"}),
        bpr_spec(8, {"kind": "adam", "rows": "touched"}),
    ):
        train(dataset, with_engine(spec, engine), epochs=1)
    taken = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - busy}
    print(json.dumps({"engine": engine, **taken}))


def timed(cache: str) -> dict[str, object]:
    """A child that keeps its machine code in this folder."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
    done = subprocess.run(
        [sys.executable, __file__, "--child"], check=True, capture_output=True, text=True, env=environment
    )
    answer: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return answer


def main() -> None:
    """A few fresh caches, each used twice."""
    if "--child" in sys.argv:
        child()
        return
    seconds: dict[str, list[float]] = {"empty cache": [], "filled cache": []}
    processor: dict[str, float] = {}
    for _ in range(1 if "--tiny" in sys.argv else 3):
        with tempfile.TemporaryDirectory() as cache:
            for name, times in seconds.items():
                answer = timed(cache)
                times.append(float(str(answer["seconds"])))
                processor[name] = round(float(str(answer["cpu_seconds"])), 2)
    report("first use", seconds, n=900, dtype="float32", engine=answer["engine"], cpu_seconds=processor)


if __name__ == "__main__":
    main()

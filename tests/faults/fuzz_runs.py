"""Damage Runs at random, open and ask each, and count what happens: a typed error, the same answers, or a failure.

    python tests/faults/fuzz_runs.py [--count 10000] [--seed 0] [--only 17 18] [--no-verification]

The Runs are the fixtures of every format. A child process makes the mutations of a batch one after the other and asks each
Run every question of its fixture; the parent ends a child that hangs, and goes on behind a mutation that kills it. Failures:

- an error that is not towerkit's own, or one that tells of memory that could not be had;
- more than 2 s of processor time, or 20 s by the clock (the machine may be busy); more than 512 MB above the imports;
- the death of the process;
- any answer at all, where the manifest was left as it was: damage without a new seal must always be found.

With a new seal there is no way to know that a stored figure, a title or a weight too small for the golden request is another:
"other answer" counts those. `--no-verification` is the negative control: with hashes unchecked, the command must fail.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).parents[1] / "fixtures" / "runs"
MEMORY = next((folder for folder in ["/dev/shm"] if os.access(folder, os.W_OK)), None)  # noqa: S108 - the disk can rest
SECONDS, WALL_SECONDS, MEGABYTES = 2.0, 20.0, 512
BEGIN_SECONDS = 900.0  # imports, on a machine with much else to do
BATCH = 400
GOOD = ("refused", "same answers", "other answer")


def asked(folder: Path, questions: list[dict[str, Any]]) -> dict[str, Any]:
    """Everything that a Run tells, as plain data."""
    from towerkit.evaluation.result import Evaluation
    from towerkit.run import load_run

    run = load_run(folder)
    found: dict[str, Any] = {"stored": [run.evaluation.as_dict(), sorted(run.baselines), run.space and len(run.space)]}
    run.spec, run.model
    for number, question in enumerate(questions):
        answer = getattr(run, question["call"])(**question["given"])
        found[str(number)] = answer.as_dict() if isinstance(answer, Evaluation) else answer.to_pydict()
    return found


def peak_bytes(reset: bool = False) -> int:
    """The most memory that this process held, since it was last set back where the system can do that."""
    if reset:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    try:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) << 10
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def judge(
    original: Path, seed: int, others: list[Path], expected: str, questions: list[dict[str, Any]]
) -> dict[str, Any]:
    """Make one mutation, ask the Run, and say how it went."""
    from towerkit.core.errors import TowerkitError
    from towerkit.testing.mutations import mutate

    with tempfile.TemporaryDirectory(dir=MEMORY) as place:
        copy = Path(shutil.copytree(original, Path(place) / "run"))
        mutation = mutate(copy, seed, others)
        before, started = peak_bytes(reset=True), time.process_time()
        said = ""
        try:
            found = json.dumps(asked(copy, questions), default=str)
            outcome = "same answers" if found == expected else "other answer"
            if not mutation.sealed:
                outcome = "damage not found"
        except TowerkitError as error:
            said, outcome = f"{type(error).__name__}: {error}", "refused"
            if any(word in said for word in ("MemoryError", "allocate")):
                outcome = "allocation"
        except Exception as error:
            said, outcome = f"{type(error).__name__}: {error}", "untyped error"
        seconds, grown = time.process_time() - started, peak_bytes() - before
    if seconds > SECONDS:
        outcome, said = "too slow", f"{seconds:.1f} s, {outcome} {said}"
    if grown > MEGABYTES << 20:
        outcome, said = "too much memory", f"{grown >> 20} MB, {outcome} {said}"
    told = {"kind": mutation.kind, "sealed": mutation.sealed, "what": mutation.what[:300], "outcome": outcome}
    return {"seed": seed, **told, "said": said[:400], "seconds": round(seconds, 3), "megabytes": grown >> 20}


def child(seeds: list[int], verification: bool) -> None:
    """Judge mutations and print a line of JSON before and after each."""
    from towerkit import run as run_module
    from towerkit.core.errors import TowerkitError
    from towerkit.storage.manifest import read_manifest

    warnings.simplefilter("ignore")
    originals = sorted(path.parent for path in FIXTURES.glob("*/*/answers.json"))
    questions = [json.loads((folder / "answers.json").read_text(encoding="utf-8"))["questions"] for folder in originals]
    folders = [folder / "run" for folder in originals]
    expected = [json.dumps(asked(folder, each), default=str) for folder, each in zip(folders, questions, strict=True)]
    if not verification:
        run_module.verify = read_manifest
    for seed in seeds:
        print(json.dumps({"begins": seed}), flush=True)
        number = seed % len(folders)
        try:
            print(json.dumps(judge(folders[number], seed, folders, expected[number], questions[number])), flush=True)
        except TowerkitError as error:  # the damaged folder could not even be sealed again
            print(json.dumps({"seed": seed, "kind": "cannot be sealed", "sealed": True, "outcome": "refused",
                              "said": str(error)[:200], "what": "", "seconds": 0, "megabytes": 0}), flush=True)  # fmt: skip


def judged(seeds: list[int], verification: bool) -> Iterator[dict[str, Any]]:
    """The verdicts of some mutations; a child that dies or hangs is one, and the rest goes on in another child."""
    while seeds:
        command = [sys.executable, __file__, "--child", *(["--no-verification"] if not verification else [])]
        process = subprocess.Popen(
            [*command, "--only", *map(str, seeds[:BATCH])], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        begun, died = None, "died"
        while True:
            assert process.stdout is not None
            ready, _, _ = select.select([process.stdout], [], [], BEGIN_SECONDS if begun is None else WALL_SECONDS)
            if not ready:
                died = "hangs"
                process.kill()
            line = process.stdout.readline()
            if not line:
                break
            found = json.loads(line)
            begun = found.get("begins", begun)
            if "outcome" in found:
                seeds = [seed for seed in seeds if seed != found["seed"]]
                begun = None
                yield found
        said = process.stderr.read().decode(errors="replace")[-300:] if process.stderr else ""
        if process.wait() != 0:
            if begun is None:
                raise SystemExit(f"a child could not begin before the mutation {seeds[0]}: {said}")
            seeds = [seed for seed in seeds if seed != begun]
            yield {"seed": begun, "kind": "?", "sealed": True, "what": "see --only", "outcome": died, "said": said,
                   "seconds": 0.0, "megabytes": 0}  # fmt: skip


def main() -> None:
    """Judge all and print a table; ends with status 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first mutation")
    parser.add_argument("--only", type=int, nargs="+", help="these mutations alone")
    parser.add_argument("--no-verification", action="store_true", help="the negative control: must fail")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    seeds = chosen.only or list(range(chosen.seed, chosen.seed + chosen.count))
    if chosen.child:
        child(seeds, not chosen.no_verification)
        return
    table: dict[str, Counter[str]] = {}
    slowest = largest = 0.0
    failures, started = [], time.perf_counter()
    for found in judged(seeds, not chosen.no_verification):
        row = table.setdefault(f"{found['kind']}{', sealed' if found['sealed'] else ''}", Counter())
        row[found["outcome"]] += 1
        slowest, largest = max(slowest, found["seconds"]), max(largest, found["megabytes"])
        if found["outcome"] not in GOOD or chosen.only:
            failures.append(found)
            print(json.dumps(found, ensure_ascii=False), flush=True)
    outcomes = list(dict.fromkeys([*GOOD, *(name for row in table.values() for name in row)]))
    print(f"{'mutation':32}" + "".join(f"{name:>18}" for name in outcomes))
    for name in sorted(table):
        print(f"{name:32}" + "".join(f"{table[name][outcome]:>18,}" for outcome in outcomes))
    bad = sum(row[name] for row in table.values() for name in row if name not in GOOD)
    total = sum(map(Counter.total, table.values()))
    print(
        f"{total:,} mutations in {time.perf_counter() - started:.0f} s; {bad:,} failures; slowest "
        f"{slowest:.2f} s of processor time; most memory {largest:.0f} MB above the imports"
    )
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()

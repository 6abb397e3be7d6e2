"""Run every ``bench_*.py``, keep their lines in ``latest.jsonl``, and show the table of figures to reach.

    python benchmarks/suite.py [--tiny] [--peers] [--quality] [--only NAME …] [--keep]

``--keep`` writes the lines to ``measured.jsonl`` too, from which ``write.py`` makes ``docs/benchmarks.md``: lines of benchmarks
that were not run stay. A script that fails does not stop the others, but the exit code tells.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from write import MEASURED, PRESETS, presets, read, table

HERE = Path(__file__).parent
LATEST = HERE / "latest.jsonl"


def main() -> None:
    """Run, keep, show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="small sizes, which only show that the scripts run")
    parser.add_argument("--peers", action="store_true", help="other libraries too; needs a package index")
    parser.add_argument(
        "--quality", action="store_true", help="trainings for quality too: many minutes, public data sets"
    )
    parser.add_argument("--only", nargs="*", help="names of scripts, without bench_ and .py")
    parser.add_argument("--keep", action="store_true", help="also into measured.jsonl")
    options = parser.parse_args()
    if options.tiny and options.keep:
        parser.error("--tiny figures mean nothing, so they are not kept; leave one of the two away.")
    flags = [f"--{name}" for name in ("tiny", "peers", "quality") if getattr(options, name)]
    known = {script.stem.removeprefix("bench_"): script for script in sorted(HERE.glob("bench_*.py"))}
    chosen = options.only or list(known)
    if unknown := sorted(set(chosen) - set(known)):
        parser.error(f"--only names {', '.join(unknown)}; there are {', '.join(known)}.")
    LATEST.write_text("")
    failed = [name for name in chosen if not run(known[name], flags)]
    lines = read(LATEST)
    if options.keep:
        keep(lines)
    if not options.tiny:
        print(table([*(read(MEASURED) if options.keep else lines), *presets(PRESETS)]), file=sys.stderr)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def run(script: Path, flags: list[str]) -> bool:
    """One script: its lines go to standard output and into the file as they come; whether it ended well."""
    print(f"benchmarks/{script.name} {' '.join(flags)}".rstrip(), file=sys.stderr, flush=True)
    command = [sys.executable, str(script), *flags]
    with (
        LATEST.open("a", encoding="utf-8") as file,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            file.write(line)
            file.flush()
    return process.returncode == 0


def keep(lines: list[dict[str, Any]]) -> None:
    """Put the lines in the place of earlier ones with the same name and size."""
    merged = {_key(line): line for line in [*read(MEASURED), *lines]}
    MEASURED.write_text("".join(json.dumps(line) + "\n" for line in merged.values()), encoding="utf-8")


def _key(line: dict[str, Any]) -> str:
    return json.dumps([line["benchmark"], *(line.get(name) for name in ("n", "dim", "data", "shape", "model"))])


if __name__ == "__main__":
    main()

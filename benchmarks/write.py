"""Make docs/benchmarks.md from measured.jsonl and notes.toml beside this file; ``--check`` only compares."""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from targets import TARGETS, Figure, Line, Target, line_of, not_built, seconds

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
MEASURED, NOTES, PRESETS = HERE / "measured.jsonl", HERE / "notes.toml", HERE / "results" / "presets.json"

HEAD = """# Benchmarks

<!-- made by benchmarks/write.py from measured.jsonl and notes.toml beside it; do not edit by hand -->

How fast is it, beside what? Each figure here is a *ratio of sides that took turns in one process*, so that a busy machine slows
both alike: the median over the rounds, and in brackets the quartiles. Seconds stand beside the ratios for orientation only.

`make bench` measures all of it again, without any network; `make bench-peers` does so beside other libraries, each in an
environment of its own that it installs first. Both end with the first table. `python benchmarks/suite.py --keep` followed by
`python benchmarks/write.py` makes this page anew.

{machine}

## Figures to reach
"""


def main() -> None:
    """Write the page, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if the page is not what would be written")
    options = parser.parse_args()
    text = page([*read(MEASURED), *presets(PRESETS)], tomllib.loads(NOTES.read_text(encoding="utf-8")))
    if options.check:
        if PAGE.read_text(encoding="utf-8") != text:
            sys.exit(f"{PAGE} is not what {MEASURED.name} and {NOTES.name} give; run python benchmarks/write.py.")
        return
    PAGE.write_text(text, encoding="utf-8")


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a file; none where it is not there."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("{")]


def presets(path: Path) -> list[dict[str, Any]]:
    """What ``results/presets.py`` measured, as lines of quality; none where the file is not there."""
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    lines = []
    for data, row in rows.items():
        for preset, timed in (("spectral", "command_seconds"), ("best", "best_seconds")):
            figures = dict(row["figures"])
            own = figures.pop(preset, None)
            if own is None:
                continue
            beside = ", ".join(f"{name.replace('_', ' ')} {values['ndcg@20']:.4f}" for name, values in figures.items())
            metrics = {name: dict.fromkeys(("value", "low", "high"), value) for name, value in own.items()}
            about = {"benchmark": "quality", "data": data, "model": preset, "seconds": row[timed]}
            told = f"NDCG@20 of {beside}; load {row['load_before']}, commit {row['commit']}"
            if row.get("split", {}).get("test") == "given" and row["split"].get("take") != "last":
                told += ", chosen on drawn rows"
            lines.append({**about, "metrics": metrics, "beside": told, "sides": {}})
    return lines


def page(lines: Sequence[Line], notes: dict[str, Any]) -> str:
    """The whole page."""
    parts = [HEAD.format(machine=machines(lines)), table(lines), "", why(lines, notes)]
    parts += ["## Beside other libraries", "", peers(lines, notes["peers"])]
    parts += ["## What this machine can do", "", limits(lines)]
    parts += ["## Everything measured", "", everything(lines)]
    return "\n".join(parts)


def table(lines: Sequence[Line]) -> str:
    """The figures to reach, what was measured, and what it was held against."""
    rows = ["| what | target | measured | beside | |", "|---|---|---|---|---|"]
    for target in TARGETS:
        figure = target.read(lines)
        bound = f"{'>=' if target.at_least else '<='} {number(target.bound)}{target.unit}"
        if figure is None:
            state = "**missed**: not built" if target.read is not_built else "not measured"
            rows.append(f"| {target.what} | {bound} | - | | {state} |")
        else:
            rows.append(
                f"| {target.what} | {bound} | {spread(figure, target.unit)} | {figure.beside} | {verdict(target, figure)} |"
            )
    return "\n".join(rows)


def verdict(target: Target, figure: Figure) -> str:
    """Met, or missed and by how much."""
    if target.met(figure):
        return "met"
    return f"**missed** by {number(abs(figure.value - target.bound))}{target.unit}"


def spread(figure: Figure, unit: str) -> str:
    """The figure with its quartiles."""
    if figure.low == figure.high:
        return f"{number(figure.value)}{unit}"
    return f"{number(figure.value)}{unit} [{number(figure.low)}, {number(figure.high)}]"


def number(value: float) -> str:
    """Three or four significant digits, never in powers of ten.

    Example:
        >>> number(1.3), number(0.01234), number(1234.6)
        ('1.3', '0.0123', '1235')
        >>> number(0.1597)
        '0.1597'
    """
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.4g}" if 0.1 <= abs(value) < 1.0 else f"{value:.3g}"


def why(lines: Sequence[Line], notes: dict[str, dict[str, str]]) -> str:
    """A word on every row that is missed, and on others where there is one to say.

    Raises:
        SystemExit: If a row is missed and no note says why.
    """
    told = []
    for target in TARGETS:
        figure = target.read(lines)
        is_missed = target.read is not_built or (figure is not None and not target.met(figure))
        if is_missed and target.key not in notes["missed"]:
            sys.exit(f"{target.key} is missed; say why in {NOTES}.")
        words = [notes["remarks"].get(target.key, ""), notes["missed"][target.key] if is_missed else ""]
        if text := " ".join(" ".join(words).split()):
            told.append(f"- *{target.what}*: {text}")
    return "\n".join([*told, ""])


def peers(lines: Sequence[Line], notes: dict[str, str]) -> str:
    """Each comparison with a peer: who is ahead, and what differs."""
    rows = ["| task | data | peer | peer's epoch | towerkit's epoch | ratio | ahead |", "|---|---|---|---|---|---|---|"]
    words = []
    for line in lines:
        if "left_out" in line:
            words.append(f"- {line['benchmark']}: left out, {line['left_out']}")
        if "peer" not in line:
            continue
        name, ratio = max(line["ratios"].items(), key=lambda item: item[1]["median"])
        theirs, ours = name.split(" / ")
        cells = [line["benchmark"], line["data"], line["peer"]["version"]]
        cells += [seconds(line["sides"][side]["median_s"]) for side in (theirs, ours)]
        cells += [spread(Figure(ratio["median"], ratio["q1"], ratio["q3"], ""), "x")]
        rows.append(f"| {' | '.join(cells)} | {ours if ratio['median'] > 1.0 else f'**{theirs}**'} |")
        words.append(f"- {line['benchmark']}: {line['alike']}.")
    words += [f"- {name}: {text}" for name, text in notes.items()]
    return "\n".join([*rows, "", *words, ""])


def limits(lines: Sequence[Line]) -> str:
    """The machine's own limits."""
    line = line_of(lines, "machine")
    if line is None:
        return "Not measured.\n"
    rows = ["| | best of the repeats | median |", "|---|---|---|"]
    for name, rate in line["rates"].items():
        side = line["sides"][name]
        median = rate["best"] * side["min_s"] / side["median_s"]
        rows.append(f"| {name} | {rate['best']:.1f} {rate['unit']} | {median:.1f} |")
    return "\n".join([*rows, ""])


def everything(lines: Sequence[Line]) -> str:
    """Every side of every line."""
    rows = ["| benchmark | side | median | quartiles | rounds | load |", "|---|---|---|---|---|---|"]
    for line in lines:
        about = ", ".join(str(line[name]) for name in ("shape", "data") if line.get(name))
        title = f"{line['benchmark']}{f' ({about})' if about else ''}"
        for side, times in line["sides"].items():
            quartiles = f"{seconds(times['q1_s'])} – {seconds(times['q3_s'])}"
            cells = [
                title,
                side,
                seconds(times["median_s"]),
                quartiles,
                times.get("repeats", line["repeats"]),
                line["load"],
            ]
            rows.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join([*rows, ""])


def machines(lines: Sequence[Line]) -> str:
    """Where, when in the history, and how busy."""
    lines = [line for line in lines if "machine" in line]
    if not lines:
        return "Nothing was measured yet."
    where = sorted({f"{line['machine']}, Python {line['python']}" for line in lines})
    commits = sorted({line["commit"] for line in lines})
    loads = [line["load"] for line in lines]
    return (
        f"Machine: {'; '.join(where)}. Commits: {', '.join(commits)}. Load while measuring (processes that wanted to run, "
        f"ours included): {min(loads)} to {max(loads)}."
    )


if __name__ == "__main__":
    main()

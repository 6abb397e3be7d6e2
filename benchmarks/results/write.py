"""Make docs/results.md from the JSON files that the scripts here wrote; ``--check`` only compares."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from fusion_page import fusion_part
from known_page import known_part
from shown import interval, short, spread
from specs import BETA, DATA, EXAMPLES, LR, VARIANTS, Example

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "results.md"
METRICS = ("recall@20", "ndcg@20")

HEAD = """# Results

<!-- made by benchmarks/results/write.py from the JSON files beside it; do not edit by hand -->

Every figure has an interval and stands beside baselines on the same rows. First
[two backpropagations or one](#two-backpropagations-or-one), on three sets of ratings and visits; then
[prediction and search](#prediction-and-search), on reviews and abstracts; then
[many towers and fusion](#many-towers-and-fusion), on films, emoji, people and comments; then
[what the Runs say of themselves](#what-the-runs-say-of-themselves), tower by tower; then
[a preset](#from-pairs-alone-a-preset), which chooses its own settings.

## Two backpropagations or one

Does a query side need gradients? Here three updates train the same towers with the same loss, negatives and budget:
`two_backprop` (both sides by gradient), `one_backprop` (queries move after each batch towards what they met, the start
left out of the average: `debias: true`) and `one_backprop by epoch` (queries start at the mean of their items and move
once per epoch). Ids only, cosine, sampled softmax with 256 shared uniform negatives.

Protocol: {protocol}
Every update chose its learning rate and `beta` (as many settings for each) on validation with seed 0, where the test
table was not read; then each seed was trained afresh and measured on test once. On MovieLens-100K the final model
learns from training and validation rows, on the larger sets from the training rows alone (nine tenths).
A figure is the mean over {seeds} seeds; ± is half of a 95 % t-interval over seeds (initialization and order of batches
vary, the split is the published one), [ ] the bootstrap interval over queries of the first seed. The time of a step is the
median of thirty, the updates taking turns in one process on a shared machine: read the ratios.

Machine: {machine}. `python benchmarks/results/measure.py --out build/results` does all of it again.
"""


def main() -> None:
    """Write the page, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if the page is not what would be written")
    options = parser.parse_args()
    examples = HERE / "examples.json"
    text = page(json.loads((HERE / "results.json").read_text()))
    text += examples_part(json.loads(examples.read_text())) if examples.exists() else ""
    fusion = HERE / "fusion.json"
    text += fusion_part(json.loads(fusion.read_text())) if fusion.exists() else ""
    known = HERE / "known.json"
    text += known_part(json.loads(known.read_text())) if known.exists() else ""
    presets = HERE / "presets.json"
    text += presets_part(json.loads(presets.read_text())) if presets.exists() else ""
    if options.check:
        if PAGE.read_text() != text:
            sys.exit(f"{PAGE} is not what {HERE / 'results.json'} gives; run python benchmarks/results/write.py.")
        return
    PAGE.write_text(text)


def page(content: dict[str, Any]) -> str:
    """The whole page."""
    seeds = len({run["settings"]["training.seed"] for run in content["runs"]})
    protocol = "all candidates ranked, training pairs removed, ties in a fixed random order."
    parts = [HEAD.format(protocol=protocol, seeds=seeds, machine=content["machine"])]
    costs = {each["data"]: each["variants"] for each in content["costs"]}
    for data in DATA:
        runs = [run for run in content["runs"] if run["data"] == data.name]
        if runs:
            parts.append(section(data.title, runs, costs.get(data.name, {})))
    notes = HERE / "notes.md"
    if notes.exists():
        parts.append(notes.read_text())
    return "\n".join(parts)


EXAMPLES_HEAD = """
## Prediction and search

The examples of this repository as they are: each seed draws its own split and its own training, and reads its test part
once. A figure is the mean over seeds; ± is half of a 95 % t-interval over seeds, [ ] the bootstrap interval
over the test queries or rows of the first seed. The settings in the files were chosen on validation parts.
`python benchmarks/results/examples.py --out build/results` does it again.
"""


def examples_part(runs: list[dict[str, Any]]) -> str:
    """The sections of the examples."""
    parts = [EXAMPLES_HEAD]
    for example in EXAMPLES:
        own = sorted(
            (run for run in runs if run["example"] == example.name), key=lambda run: run["settings"]["training.seed"]
        )
        if own:
            parts.append(example_section(example, own))
    return "\n".join(parts)


PRESETS_HEAD = """
## From pairs alone: a preset

`towerkit train --preset spectral`, and `--preset best`, on a training and a test file (Beauty: each user's last item is test,
the one before it validation), nothing set by hand: exponents, power, weight and width, and of `best` the other members and the
weights, were chosen on validation rows, then test was measured
once. A figure is Recall@20 / NDCG@20 over the test queries. The other baselines have their default settings, which nobody
chose for these sets; a blank was not measured, or left out as said below the table. The seconds are those of the whole
command, from its start to the written Run, beside the seconds of processors that it took and the load of the machine when it
began: its two cores were shared, and above 2 it waited for others. What was seen before which choice of the presets' design
stands in [a decision](decisions/0014-presets.md). `python benchmarks/results/presets.py` does it again.
"""
PRESET_COLUMNS = ("best", "spectral", "ease", "ials", "item_knn", "popularity")


def presets_part(rows: dict[str, dict[str, Any]]) -> str:
    """The table of the preset, what it chose, and what was left out."""
    heads = [
        "data",
        *(f"`{name}`" for name in PRESET_COLUMNS),
        "chosen by `spectral`: dim, exponents, power, weight",
        "shares of `best`",
        "seconds: `spectral`, `best` (load)",
    ]
    lines = [PRESETS_HEAD, "| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name, row in rows.items():
        cells = [preset_figures(row["figures"].get(column)) for column in PRESET_COLUMNS]
        chosen = row["chosen"]
        settings = f"{chosen['dim']}, {chosen['query_exponent']:g} and {chosen['candidate_exponent']:g}"
        settings += f", {chosen['power']:g}, {chosen['weight']:g}"
        took = ", ".join(times(row, preset) for preset in ("", "best_") if f"{preset or 'command_'}seconds" in row)
        told = f"{took} ({row['load_before']:g})"
        blend = ", ".join(f"{each} {part['share']:g}" for each, part in shares(row.get("chosen_best", {})).items())
        lines.append(f"| {name}, {row['queries']:,} queries | {' | '.join(cells)} | {settings} | {blend} | {told} |")
    left_out = {f"{name}: {each} {why}" for name, row in rows.items() for each, why in row["left_out"].items()}
    lines += ["", *(f"Left out of {each}." for each in sorted(left_out))]
    last = [name for name, row in rows.items() if row["split"].get("take") == "last"]
    if last:
        lines.append(f"Chosen on each query's last rows: {', '.join(last)}; with a test file the others on drawn ones.")
    marks = sorted({f"{row['date']} at {row['commit']}" for row in rows.values()})
    return "\n".join([*lines, f"Measured {', '.join(marks)}.", ""])


def times(row: dict[str, Any], preset: str) -> str:
    """Seconds on the clock, and of processors where these were counted."""
    processor = row.get(f"{preset}processor_seconds")
    clock = row[f"{preset or 'command_'}seconds"]
    return f"{clock:g}" + ("" if processor is None else f" [{processor:g}]")


def shares(chosen: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The members of a blend; the towers alone where nothing helped them."""
    if not chosen:
        return {}
    return chosen if all(isinstance(part, dict) for part in chosen.values()) else {"spectral": {"share": 1.0}}


def preset_figures(figures: dict[str, float] | None) -> str:
    """Recall and NDCG of one model."""
    return "" if figures is None else f"{short(figures['recall@20'])} / {short(figures['ndcg@20'])}"


def example_section(example: Example, runs: list[dict[str, Any]]) -> str:
    """One example: the model, its members and its baselines."""
    about = runs[0]["protocol"]
    if "queries" in about:
        size = f"{about['queries']:,} queries, {about['candidates']:,} candidates, {about['positives']:,} test pairs"
    else:
        size = f"{about['rows']:,} test rows"
    seeds = f"{len(runs)} seeds; in the first {size}" if len(runs) > 1 else f"One seed; {size}"
    lines = [f"### {example.title}", "", f"{example.about} {seeds}. The spec: {example.spec}.", ""]
    lines += ["| | " + " | ".join(example.metrics) + " |", "|---" * (len(example.metrics) + 1) + "|"]
    for name in runs[0]["metrics"]:
        figures = [spread([run["metrics"][name][metric] for run in runs]) for metric in example.metrics]
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(figures)} |")
    return "\n".join([*lines, ""])


def section(title: str, runs: list[dict[str, Any]], costs: dict[str, Any]) -> str:
    """One data set: quality, then cost."""
    about = runs[0]["protocol"]
    lines = [
        f"### {title}",
        "",
        f"{about['queries']:,} queries, {about['candidates']:,} candidates, {about['positives']:,} test pairs.",
        "",
        "| | Recall@20 | NDCG@20 | chosen | epochs |",
        "|---|---|---|---|---|",
    ]
    for variant in VARIANTS:
        own = [run for run in runs if run["variant"] == variant.name]
        if own:
            figures = " | ".join(spread([run["metrics"][name] for run in own]) for name in METRICS)
            chosen = ", ".join(
                f"{key.split('.')[-1]} {own[0]['settings'][key]}" for key in (LR, BETA) if key in own[0]["settings"]
            )
            epochs = ", ".join(str(run["epochs"]) for run in own)
            lines.append(f"| `{variant.name}` | {figures} | {chosen} | {epochs} |")
    for name, metrics in max((run["baselines"] for run in runs), key=len).items():
        figures = " | ".join(f"{short(metrics[m]['value'])} {interval(metrics[m])}" for m in METRICS)
        lines.append(f"| {name.replace('_', ' ')} | {figures} | | |")
    for run in runs:
        for name, reason in run["protocol"].get("baselines_left_out", {}).items():
            lines += ["", f"Left out: {name}, since it {reason}."]
    lines += ["", "| | step | weights | optimizer state |", "|---|---|---|---|"]
    for name, each in costs.items():
        slots, weights = megabytes(each["optimizer_bytes"]), megabytes(each["weights_bytes"])
        lines.append(f"| `{name}` | {each['step_ms']:.1f} ms | {weights} | {slots} |")
    return "\n".join([*lines, ""])


def megabytes(number: int) -> str:
    """Bytes in MB."""
    return f"{number / 1e6:.2f} MB"


if __name__ == "__main__":
    main()

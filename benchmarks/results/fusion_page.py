"""The part of docs/results.md about many towers and fusion, from fusion.json."""

from __future__ import annotations

from typing import Any

from fusion_rows import ROWS, Row
from shown import signed, spread

HEAD = """
## Many towers and fusion

Each table answers one question: whether towers together are worth more than each alone, and merged where. Every seed draws
its own split and its own training, and all models of a seed have the same test rows. A figure is the mean over seeds; ± is
half of a 95 % t-interval over seeds, [ ] the bootstrap interval over the test rows of the first seed. Differences are paired,
row by row, one for each seed, in the metrics of the table, their p-values corrected (Holm) over these; **bold** ones are clear
(p below .05). Parameters are those that training moves or makes: a frozen encoder's are left out. Seconds are those of the
training with its evaluation, on one core of two that other work shared: read them as ratios at most.
`python benchmarks/results/fusion.py --out build/fusion` does it again.
"""


def fusion_part(content: dict[str, list[dict[str, Any]]]) -> str:
    """The sections of the rows that were measured."""
    parts = [HEAD]
    for row in ROWS:
        runs, differences = (
            [each for each in content[part] if each["row"] == row.name] for part in ("runs", "differences")
        )
        if runs:
            parts.append(section(row, runs, differences))
    return "\n".join(parts)


def section(row: Row, runs: list[dict[str, Any]], differences: list[dict[str, Any]]) -> str:
    """One question: what was asked, the models, their differences, and what it says."""
    seeds = sorted({run["seed"] for run in runs})
    specs = dict.fromkeys(model.spec for model in row.models)
    many = f"Seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else "One seed"
    lines = [f"### {row.title}", "", f"{row.about} {many}; {size(runs[0]['protocol'])}. Specs: {', '.join(specs)}.", ""]
    lines += [
        "| | " + " | ".join((*row.metrics, "parameters", "seconds")) + " |",
        "|---" * (len(row.metrics) + 3) + "|",
    ]
    for name in dict.fromkeys(run["model"] for run in runs):
        own = [run for run in runs if run["model"] == name]
        lines.append(line(row, name, [run["metrics"] for run in own], cost(own)))
        beside = [run["beside"] for run in own]
        lines += [
            line(
                row,
                f"{name}: {each.replace('_', ' ')}" if len(row.models) > 1 else each.replace("_", " "),
                shown,
                " | ",
            )
            for each in beside[0]
            if wanted(row, each, name) and (shown := [found[each] for found in beside])
        ]
    if differences:
        lines += ["", "| difference | " + " | ".join(row.compared or row.metrics) + " |"]
        lines.append("|---" * (len(row.compared or row.metrics) + 1) + "|")
        for pair in dict.fromkeys((each["model"], each["than"]) for each in differences):
            of_pair = [each["metrics"] for each in differences if (each["model"], each["than"]) == pair]
            cells = [
                gaps([each[metric] for each in of_pair if metric in each]) for metric in row.compared or row.metrics
            ]
            lines.append(f"| {pair[0]} − {pair[1]} | {' | '.join(cells)} |")
    if row.said:
        lines += ["", row.said]
    marks = sorted({run["measured"] for run in runs})
    return "\n".join([*lines, "", f"Measured {', '.join(marks)}.", ""])


def wanted(row: Row, baseline: str, model: str) -> bool:
    """Whether a baseline of the Runs stands in the table: members of a fusion, and what the row names, beside its first model."""
    return baseline.startswith("member ") or (baseline in row.beside and model == row.models[0].name)


def size(protocol: dict[str, Any]) -> str:
    """How much was measured."""
    if "queries" in protocol:
        return f"in the first {protocol['queries']:,} queries, {protocol['candidates']:,} candidates"
    return f"in the first {protocol['rows']:,} test rows" if "rows" in protocol else "test rows as said"


def line(row: Row, name: str, metrics: list[dict[str, Any]], costs: str) -> str:
    """A model's figures."""
    cells = [
        spread([each[metric] for each in metrics]) if all(metric in each for each in metrics) else ""
        for metric in row.metrics
    ]
    return f"| {name} | {' | '.join(cells)} | {costs} |"


def cost(runs: list[dict[str, Any]]) -> str:
    """Parameters, and seconds of the trainings in the mean."""
    if "parameters" not in runs[0]:
        return " | "
    seconds = sum(run["training_seconds"] for run in runs) / len(runs)
    return f"{runs[0]['parameters']:,} | {seconds:.0f}"


def gaps(found: list[dict[str, Any]]) -> str:
    """One difference for each seed."""
    told = [f"{signed(each['difference'])} [{signed(each['low'])}, {signed(each['high'])}]" for each in found]
    return ", ".join(f"**{text}**" if each["clear"] else text for text, each in zip(told, found, strict=True))

"""The model card: what a Run is, in words for the next person."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from towerkit.artifact.markdown import block, name, table
from towerkit.metrics.shown import decision_line, headlines, value_place

_FEW = 200
"""Below so many queries or rows a figure says little; the card says so."""


@dataclass(frozen=True)
class CardFacts:
    """What the card tells, beside the figures."""

    spec: Mapping[str, Any]
    """In plain data."""
    data: Mapping[str, Any]
    """The content of ``data.json``."""
    protocol: str
    """The protocol as one line."""
    seconds: float
    """What training and evaluation took."""
    parameters: int
    """Learned numbers."""
    bytes: int
    """Size of the model's files."""
    space: str | None = None
    """The embedding-space id."""
    continues: Mapping[str, str] | None = None
    """The name and the hash of the Run that the training went on from."""
    replaces: Mapping[str, str] | None = None
    """Of a late fusion with a new member: the name and the hash of the Run it comes from, the member, what was fitted."""
    ranks: bool = False
    """Whether it ranks candidates; else it predicts."""
    fusions: tuple[Sequence[str], Sequence[Sequence[str]], str] | None = None
    """Head and cells of the table of fusions that it was chosen from, and what the table says."""


def model_card(facts: CardFacts, evaluation: Any, baselines: Mapping[str, Any]) -> str:
    """A page of Markdown.

    Args:
        facts: What is told beside the figures.
        evaluation: The model's evaluation.
        baselines: The baselines' evaluations, on the same rows.
    """
    parts = [
        [f"# A {facts.spec['model']['kind']} trained by towerkit", "", *_summary(facts)],
        ["## Data", "", *_data(facts.data)],
        ["## Figures", "", *_figures(evaluation, baselines), *_decisions(evaluation.protocol)],
        *_segments({**baselines, "model": evaluation}),
        *_fusions(facts),
        ["## Protocol", "", name(facts.protocol, limit=4000), "", *block(dict(evaluation.protocol))],
        ["## Limits", "", *_limits(facts, evaluation)],
        ["## How to load it", "", *_loading(facts.ranks)],
        ["## Spec", "", *block(dict(facts.spec))],
    ]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _summary(facts: CardFacts) -> list[str]:
    lines = [
        f"Trained and evaluated in {facts.seconds:.1f} s. {facts.parameters:,} learned numbers; the model's files take "
        f"{_size(facts.bytes)}."
    ]
    if facts.space is not None:
        lines += ["", f"Embedding space `{facts.space}`: vectors of Runs with this id may be compared, others may not."]
    if facts.continues is not None:
        run = facts.continues
        lines += [
            "",
            f"The training went on from the Run {_run(run['run'])} (SHA-256 of its files `{run['sha256'][:16]}…`): known keys "
            "began at the vectors they had there, and means and deviations of numbers are those of its data.",
        ]
    if facts.replaces is not None and "query_of" in facts.replaces:
        was = facts.replaces
        lines += [
            "",
            f"Its candidates are those of the Run {_run(was['run'])} (SHA-256 of its files `{was['sha256'][:16]}…`), whose "
            f"embedding space it keeps; its query side is that of {_run(was['query_of'])}. Fitted: "
            f"{name(was['fitted'], limit=400)}.",
        ]
    elif facts.replaces is not None:
        was = facts.replaces
        lines += [
            "",
            f"It is the Run {_run(was['run'])} (SHA-256 of its files `{was['sha256'][:16]}…`) with another member "
            f"{_run(was['member'])}; the files of the other members are the same. Fitted: {name(was['fitted'], limit=400)}.",
        ]
    return lines


def _run(text: str) -> str:
    shown = name(text)
    return shown if shown.startswith("`") else f"`{shown}`"


def _data(data: Mapping[str, Any]) -> list[str]:
    roles = ", ".join(f"{role} {name(column)}" for role, column in data["roles"].items() if isinstance(column, str))
    lines = [f"Examples: {name(data['examples'])}{f' ({roles})' if roles else ''}."]
    for entity, about in data["entities"].items():
        lines.append(f"Rows of {name(entity)}: {name(about['table'])}.")
    times = data.get("times", {})
    head = ["part", "rows", *(["first", "last"] if times else [])]
    rows = [
        [part, f"{count:,}", *([name(each) for each in times.get(part, ("–", "–"))] if times else [])]
        for part, count in data["rows"].items()
    ]
    split = {key: value for key, value in data["split"].items() if key not in ("warnings", "left_out")}
    settings = ", ".join(f"{key} {name(value)}" for key, value in split.items() if value not in (None, (), [], {}))
    lines += ["", *table(head, rows), "", f"Split: {settings}."]
    left_out = data["split"].get("left_out") or {}
    if left_out:
        counts = ", ".join(f"{count:,} ({name(reason)})" for reason, count in left_out.items())
        lines += ["", f"Left out of the data: {counts} rows."]
    for entity, columns in data["columns"].items():
        title = "Columns of the examples" if entity == "example" else f"Columns of {name(entity)}"
        cells = [[name(c["name"]), c["type"], c["role"], f"{c['distinct']:,}", f"{c['missing']:.1%}"] for c in columns]
        lines += ["", f"{title}:", "", *table(["column", "type", "role", "distinct", "missing"], cells)]
    return lines


def _figures(evaluation: Any, baselines: Mapping[str, Any]) -> list[str]:
    columns = {**baselines, "model": evaluation}
    rows = [
        [name(metric), f"{interval.n:,}", *(_cell(column.metrics.get(metric)) for column in columns.values())]
        for metric, interval in evaluation.metrics.items()
    ]
    lines = table(["metric", "n", *map(name, columns)], rows)
    return [
        *lines,
        "",
        f"In brackets: {name(str(evaluation.protocol.get('interval', 'the interval')))}. A dash: not measured.",
    ]


def _decisions(protocol: Mapping[str, Any]) -> list[str]:
    """A line for each task whose probabilities were scaled, or whose classes do not begin at a half."""
    told = {task: decision_line(about) for task, about in protocol.get("tasks", {}).items()}
    lines = [
        f"- {name(task)}: {name(line, limit=400)}; every answer goes through it." for task, line in told.items() if line
    ]
    return ["", *lines] if lines else []


def _segments(columns: Mapping[str, Any]) -> list[list[str]]:
    """A part per segment and task: a table with one figure of each model."""
    parts = []
    for segment, values in columns["model"].segments.items():
        for metric in headlines(columns["model"].metrics):
            rows = []
            for value in sorted((value for value in values if metric in values[value]), key=value_place):
                cells = [_cell(each.segments.get(segment, {}).get(value, {}).get(metric)) for each in columns.values()]
                rows.append([name(value), f"{values[value][metric].n:,}", *cells])
            head = [name(segment), "n", *map(name, columns)]
            parts.append([f"## {name(metric)} by {name(segment)}", "", *table(head, rows)])
    return parts


def _fusions(facts: CardFacts) -> list[list[str]]:
    """A part with what it was chosen from."""
    if facts.fusions is None:
        return []
    head, cells, sentence = facts.fusions
    rows = [[name(row[0]), *row[1:]] for row in cells]
    return [["## How the fusion was chosen", "", *table(head, rows), "", name(sentence, limit=4000)]]


def _cell(interval: Any) -> str:
    if interval is None:
        return "–"
    if math.isnan(interval.value):
        return "undefined"
    bounds = [interval.low, interval.high]
    return f"{interval.value:.4f}" + ("" if any(map(math.isnan, bounds)) else " [{:.4f}, {:.4f}]".format(*bounds))


def _limits(facts: CardFacts, evaluation: Any) -> list[str]:
    lines = [
        "- The figures hold for the split above and for data like it; they say nothing about another time or place.",
        "- An id that training never saw is answered by the mean vector, and the answer says that it is cold.",
        "- The folder holds keys of the entities it was trained on; treat it as you treat that data.",
    ]
    fewest = min((interval.n for interval in evaluation.metrics.values()), default=0)
    if fewest < _FEW:
        lines.append(
            f"- Some figures rest on {fewest:,} queries or rows alone: read their intervals, not their values."
        )
    undefined = [metric for metric, interval in evaluation.metrics.items() if math.isnan(interval.value)]
    if undefined:
        lines.append(f"- Undefined here, for lack of rows that could decide: {', '.join(map(name, undefined))}.")
    protocol = evaluation.protocol
    cold = protocol.get("cold_candidates")
    if cold:
        lines.append(
            f"- {cold:,} of {protocol['positives']:,} held-out positives are candidates that training never saw."
        )
    lines += [f"- {name(warning, limit=400)}" for warning in facts.data["split"].get("warnings", ())]
    return lines


def _loading(ranks: bool) -> list[str]:
    asked = 'run.recommend("a key", k=10)' if ranks else 'run.predict("rows.csv")'
    command = "recommend RUN --query KEY" if ranks else "predict RUN rows.csv"
    code = ["import towerkit as tk", "", 'run = tk.load("RUN")  # every file is checked; no code is run', asked]
    return ["```python", *code, "```", "", f"On the command line: `towerkit {command}`."]


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"

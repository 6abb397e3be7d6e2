"""Protocol and data: what the figures were measured on, and what the tables held."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from towerkit.evaluation.result import protocol_line, split_line
from towerkit.reporting.blocks import Block, Folded, Part, Section, Words
from towerkit.reporting.chart import Grid
from towerkit.reporting.subject import Subject


def about_section(subject: Subject) -> Section:
    """What was trained, on which rows, and how it was measured."""
    run, data = subject.run, subject.about
    protocol = run.evaluation.protocol
    warnings = [Words(f"Warning: {each}", is_note=True) for each in protocol["split"].get("warnings", ())]
    told = protocol_line({**protocol, "split": {**protocol["split"], "warnings": []}}).split(" · ")
    sentences = " ".join(f"{line[:1].upper()}{line[1:]}." for line in told)
    parts = [
        Part("", (_model(subject), *warnings)),
        Part("Protocol", (Words(sentences),)),
        Part("Data", (Words(f"{_roles(data)} Split: {split_line(data['split'])}."), _sizes(data), *_columns(data))),
        Part(
            "", (Folded("The spec, every default written out", Grid(("key", "value"), tuple(nested_keys(run.spec)))),)
        ),
    ]
    return Section(subject.anchor("about"), subject.title("Protocol and data"), tuple(parts))


def _model(subject: Subject) -> Grid:
    run = subject.run
    rows = [
        ("kind", run.kind),
        ("folder", run.path.resolve().name),
        ("trained", f"{run.manifest.created}, by towerkit {run.manifest.towerkit}"),
    ]
    if run.space is not None:
        rows.append(("embedding space", f"{run.space[:16]}…"))
    for key, words in (("continues", "goes on from"), ("replaces", "comes from")):
        if key in run.manifest.extra:
            rows.append((words, str(run.manifest.extra[key]["run"])))
    return Grid(("model", ""), tuple(rows))


def _roles(data: Mapping[str, Any]) -> str:
    roles = ", ".join(f"{role} {column}" for role, column in data["roles"].items() if isinstance(column, str))
    entities = "".join(f"; rows of {name}: {each['table']}" for name, each in data["entities"].items())
    return f"Examples: {data['examples']}{f' ({roles})' if roles else ''}{entities}."


def _sizes(data: Mapping[str, Any]) -> Grid:
    times = data.get("times") or {}
    rows = [
        (part, f"{count:,}", *times.get(part, ("", ""))[: 2 if times else 0]) for part, count in data["rows"].items()
    ]
    return Grid(("part", "rows", *(("first", "last") if times else ())), tuple(rows), "Rows of each part")


def _columns(data: Mapping[str, Any]) -> list[Block]:
    found: list[Block] = []
    for entity, columns in data["columns"].items():
        rows = tuple(
            (each["name"], each["type"], each["role"], f"{each['distinct']:,}", f"{each['missing']:.1%}")
            for each in columns
        )
        title = "Columns of the examples" if entity == "example" else f"Columns of {entity}"
        found.append(Folded(title, Grid(("column", "type", "role", "distinct", "missing"), rows)))
    return found


def nested_keys(content: Any, path: str = "") -> list[tuple[str, str]]:
    """Nested settings, a line for each.

    Example:
        >>> nested_keys({"training": {"epochs": 5}, "heads": [{"dim": 4}]})
        [('training.epochs', '5'), ('heads[0].dim', '4')]
    """
    if isinstance(content, Mapping) and content:
        return [
            line for key, value in content.items() for line in nested_keys(value, f"{path}.{key}" if path else str(key))
        ]
    if isinstance(content, list | tuple) and any(isinstance(each, Mapping) for each in content):
        return [line for place, value in enumerate(content) for line in nested_keys(value, f"{path}[{place}]")]
    return [(path, ", ".join(map(str, content)) if isinstance(content, list | tuple) else str(content))]

"""What doctor found, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from towerkit.console import show_schema
from towerkit.data.schema import ColumnInfo, Schema
from towerkit.doctor.finding import finding_line


def show_findings(found: Mapping[str, Any], console: Console) -> None:
    """Print what :func:`towerkit.doctor.examine` found.

    Args:
        found: Its answer.
        console: Where to print.
    """
    if found["kind"] == "data" and found["columns"]:
        _show_table(found["path"], found, console)
        _show_suggestions(found, console)
    elif found["kind"] == "spec":
        _show_spec(found, console)
    elif found["kind"] == "run" and "model" in found:
        size = f"{found['files']} files, {found['bytes'] / 1e6:.1f} MB"
        _say(
            console, f"{found['path']}: a {found['model']} of {found['created']}, towerkit {found['towerkit']}, {size}"
        )
    for each in found.get("findings", ()):
        _say(console, finding_line(each))
    for text in found["notes"]:
        _say(console, f"note: {text}")
    for text in found["problems"]:
        _say(console, f"problem: {text}")


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)


def _show_table(name: str, found: Mapping[str, Any], console: Console) -> None:
    schema = Schema(tuple(ColumnInfo(**column) for column in found["columns"]))
    show_schema(f"{name}: {found['rows']:,} rows, {found['bytes'] / 1e6:.1f} MB in memory", schema, console=console)
    for line in facts(found):
        _say(console, line)


def facts(found: Mapping[str, Any]) -> list[str]:
    """The pairs and the time of a table in sentences.

    Args:
        found: What is known of the table.
    """
    lines, pairs, time = [], found["pairs"], found["time"]
    if pairs is not None:
        single = pairs["single_event_queries"]
        lines += [
            f"pairs: {pairs['queries']:,} queries, {pairs['candidates']:,} candidates, {pairs['events']:,} events; "
            f"density {pairs['density']:.3%}; a query has {pairs['median_events_per_query']:g} events in the median",
            f"{pairs['repeated_pairs']:,} events repeat an earlier pair; {single:,} queries "
            f"({single / pairs['queries']:.1%}) have one event only; the most popular 1 % of the candidates have "
            f"{pairs['top_1_percent_share']:.1%} of the events",
        ]
    if time is not None:
        unit = f", in {time['unit']} since 1970" if time["unit"] else ""
        days = f" ({time['days']:,} days{unit})" if time["days"] is not None else ""
        lines.append(f"time: '{time['column']}' from {time['first']} to {time['last']}{days}")
    return lines


def _show_suggestions(found: Mapping[str, Any], console: Console) -> None:
    for role, column in found["suggested_roles"].items():
        _say(console, f"{role}: '{column}' ({found['role_reasons'][role]})")
    for label in found["suggested_labels"]:
        _say(console, f"a label perhaps: '{label['column']}', {label['distinct']:,} values, kind: {label['kind']}")
    _say(console, f"\nThe data part of a first spec:\n\n{found['snippet']}")


def _show_spec(found: Mapping[str, Any], console: Console) -> None:
    for name, table in found["tables"].items():
        _show_table(f"{name}: {table['path']}", table, console)
        console.print()
    if found["parts"] is not None:
        split = ", ".join(f"{key} {value}" for key, value in found["split"].items() if key != "warnings")
        parts = " · ".join(f"{part} {size:,}" for part, size in found["parts"].items())
        _say(console, f"split: {split} -> {parts}")

"""Commands that measure: one Run, or several beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from towerkit.cli.app import AsJson, RunPath, app, print_json, show_run
from towerkit.core.errors import SpecError


@app.command()
def evaluate(
    run: RunPath,
    data: Annotated[
        Path | None, typer.Option("--data", help="Measure on these rows instead.", show_default=False)
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(
            "--without",
            help="With --data: how the figures fall without this tower, member or NAME=column,column; 'each': all of them.",
            show_default=False,
        ),
    ] = None,
    loss: Annotated[
        Literal["blank", "permute"],
        typer.Option("--loss", help="With --without: take the values away, or mix them up."),
    ] = "blank",
    as_json: AsJson = False,
) -> None:
    """Show what was measured on the held-out part, or measure on new rows, whole or with columns lost."""
    from towerkit import console
    from towerkit.evaluation.result import protocol_line
    from towerkit.run import Run

    opened = Run.load(run)
    if without:
        if data is None:
            raise SpecError(
                "--without measures rows that are given: add --data FILE, of rows that the Run has not learned from."
            )
        curves = opened.robustness(str(data), {} if without == ["each"] else _groups(without), loss=loss)
        if as_json:
            print_json({"run": str(run), "robustness": {name: curve.as_dict() for name, curve in curves.items()}})
        else:
            console.show_robustness(curves)
        return
    found = opened.evaluate(None if data is None else str(data))
    if as_json:
        print_json(found.as_dict())
    elif data is None:
        show_run(opened)
    else:
        console.show_metrics(found, {})
        console.show_segments(found, {})
        console.show_tasks(found)
        console.say(protocol_line(found.protocol))


def _groups(told: list[str]) -> dict[str, list[str]]:
    """``NAME`` and ``NAME=column,column`` to name and columns."""
    parts = (each.partition("=") for each in told)
    return {name: [column for column in columns.split(",") if column] for name, _, columns in parts}


@app.command()
def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Two or more Runs; the first is what the others are compared with.")
    ],
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric", help="Only this metric, decided on beforehand; may be given again.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare Runs on the same held-out rows: paired differences, intervals, p-values corrected for their number, effects."""
    from towerkit import console
    from towerkit.evaluation.compare import compare_runs
    from towerkit.evaluation.result import protocol_line
    from towerkit.run import Run

    if len(runs) < 2:
        raise SpecError(f"compare needs at least two Runs; received {len(runs)}. Name the second one too.")
    first, *others = [Run.load(path) for path in runs]
    found = compare_runs(first.evaluation, {str(run.path): run.evaluation for run in others}, metrics=metric)
    if as_json:
        described = {path: each.as_dict() for path, each in found.items()}
        content: dict[str, Any] = {"baseline": str(first.path), "protocol": dict(first.evaluation.protocol)}
        content["differences"] = {path: each.pop("metrics") for path, each in described.items()}
        for key in ("segments", "left_out"):
            if any(key in each for each in described.values()):
                content[key] = {path: each.get(key, {}) for path, each in described.items()}
        print_json(content)
        return
    for path, each in found.items():
        console.show_comparison(each, str(first.path), path)
    console.say(protocol_line(first.evaluation.protocol))
    console.say(console.comparison_line(found))

"""``towerkit report``: Runs as a page that a person reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from towerkit.cli.app import AsJson, app, print_json


@app.command()
def report(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(help="One Run or more; the first is what the others are compared with.", show_default=False),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The HTML file to write.")] = Path("report.html"),
    kept: Annotated[
        list[Path] | None,
        typer.Option("--with", help="Also show this file that ablate, tune or crossval wrote.", show_default=False),
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option("--plots", help="Also write each drawing into this folder, as SVG.", show_default=False),
    ] = None,
    png: Annotated[bool, typer.Option("--png", help="With --plots: as PNG too; needs towerkit\\[report].")] = False,
    base: Annotated[
        Path, typer.Option("--base", help="The folder that relative paths of the Runs' data start from.")
    ] = Path(),
    examples: Annotated[int, typer.Option("--examples", min=0, help="Queries or rows that are shown.")] = 20,
    points: Annotated[int, typer.Option("--points", min=2, help="The most that an embedding map shows.")] = 1500,
    latency: Annotated[bool, typer.Option("--latency/--no-latency", help="Measure how long an answer takes.")] = True,
    as_json: AsJson = False,
) -> None:
    """Write one HTML file about Runs, whole in itself: figures, curves, examples, maps, cost, what ablate and tune kept."""
    from towerkit import console
    from towerkit.reporting import write_report
    from towerkit.run import Run

    found = write_report(
        [Run.load(path) for path in runs or ()],
        out,
        kept=kept or (),
        plots=plots,
        png=png,
        base=base,
        examples=examples,
        points=points,
        measure=latency,
    )
    for text in found.notes:
        console.note(f"note: {text}")
    if as_json:
        told = {"out": str(found.path), "bytes": found.bytes, "sections": found.sections, "figures": found.figures}
        print_json({**told, "files": [str(path) for path in found.files], "notes": found.notes})
        return
    console.say(f"{found.path}: {found.bytes:,} bytes, {len(found.figures)} figures in {len(found.sections)} sections")

"""The command that writes the towers of a Run for other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from towerkit.cli.app import AsJson, RunPath, app, print_json


@app.command()
def export(
    run: RunPath,
    onnx: Annotated[Path, typer.Option("--onnx", help="The folder of ONNX files to make.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Write each side of a two-tower, or each tower of another model, as an ONNX file."""
    from towerkit import console
    from towerkit.onnx_export import export_onnx
    from towerkit.run import Run

    files = export_onnx(Run.load(run), onnx)
    if as_json:
        print_json({"run": str(run), "out": str(onnx), "files": [vars(each) for each in files]})
        return
    for each in files:
        reads = ", ".join(each.inputs)
        console.say(
            f"{onnx / each.name}.onnx  {each.entity}: {reads} -> {each.dim} numbers (off by {each.difference:.1g})"
        )

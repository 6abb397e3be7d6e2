"""Commands that look and change nothing: doctor, the JSON Schema, and the public data sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from towerkit.cli.app import AsJson, app, print_json


@app.command()
def doctor(
    path: Annotated[str, typer.Argument(help="A data file, a spec file (.yaml), or a Run folder.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Say what a data file or a spec's data holds before anyone trains on it, or check a Run and replay its golden request."""
    from towerkit import console
    from towerkit.doctor import examine, show_findings

    found = examine(path)
    if as_json:
        print_json(found)
    else:
        show_findings(found, console.out)
    if found["problems"]:
        raise typer.Exit(1)


@app.command()
def schema(as_json: AsJson = False) -> None:
    """Print the JSON Schema of spec files, for editors that complete and check YAML."""
    from towerkit.spec import ExperimentSpec

    found = ExperimentSpec.model_json_schema()
    typer.echo(json.dumps(found) if as_json else json.dumps(found, indent=2))


data_app = typer.Typer(help="Public data sets: what there is, and fetch one.", no_args_is_help=True)
app.add_typer(data_app, name="data")
DataFolder = Annotated[
    Path | None,
    typer.Option("--to", help="The folder of data sets; $TOWERKIT_DATA or ./data if not given.", show_default=False),
]


@data_app.command("list")
def data_list(to: DataFolder = None, as_json: AsJson = False) -> None:
    """List the public data sets, who gives them out on what terms, and which are there already."""
    from towerkit import console
    from towerkit.data.fetch import default_folder
    from towerkit.data.public_sets import PUBLIC_SETS

    folder = to or default_folder()
    rows = [
        {
            "name": each.name,
            "about": each.about,
            "page": each.page,
            "terms": each.terms,
            "redistribution": each.redistribution,
            "is_there": all((folder / each.name / file.name).is_file() for file in each.files),
        }
        for each in PUBLIC_SETS.values()
    ]
    if as_json:
        print_json({"folder": str(folder), "sets": rows})
        return
    for row in rows:
        there = f"  (in {folder / str(row['name'])})" if row["is_there"] else ""
        console.say(f"{row['name']}{there}\n  {row['about']}\n  terms: {row['terms']}")
        console.say(f"  passing it on: {row['redistribution']}\n  {row['page']}\n")


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="A name that `towerkit data list` shows.", show_default=False)],
    to: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a public data set: shows its terms, resumes, checks every file, overwrites nothing, prints the spec's data part."""
    from dataclasses import asdict

    from towerkit import console
    from towerkit.data.fetch import default_folder, fetch, public_set
    from towerkit.data.http import Policy

    found = fetch(public_set(name), to or default_folder(), policy=Policy(), tell=console.note)
    if as_json:
        print_json(asdict(found))
        return
    for file in found.files:
        console.say(f"{found.folder}/{file.name}: {file.state}, {file.bytes:,} bytes, compared with {file.checked}")
    console.say(f"\nThe data part of a spec:\n\n{found.snippet}")

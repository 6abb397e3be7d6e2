"""``towerkit new``: a project that begins with an example."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from towerkit.cli.app import AsJson, app, print_json
from towerkit.core.errors import SpecError


def _uses(begun: str) -> list[tuple[str, str]]:
    """Uses that begin so, for the completion of a shell."""
    from towerkit.gallery import uses

    return [(use.name, use.title) for use in uses().values() if use.name.startswith(begun)]


@app.command()
def new(
    name: Annotated[
        Path | None,
        typer.Argument(help="Folder of the new project; without it, the uses are listed.", show_default=False),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option("--like", help="A use of the gallery: search.", show_default=False, autocompletion=_uses),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Begin a project with the example of a use; alone, list the uses."""
    from towerkit import console
    from towerkit.gallery import begin, uses
    from towerkit.grid import Grid

    if name is None or like is None:
        if name is not None or like is not None:
            raise SpecError(
                "A new project needs a folder and a use: towerkit new NAME --like USE; towerkit new lists the uses."
            )
        if as_json:
            print_json(
                {"uses": [{"name": use.name, "title": use.title, "specs": use.files} for use in uses().values()]}
            )
            return
        table = Grid(["use", "what", "files"])
        for use in uses().values():
            table.add(use.name, use.title, ", ".join(use.files))
        table.show(console.out)
        return
    files = begin(name, like)
    if as_json:
        print_json({"folder": str(name), "like": like, "files": [str(each) for each in files]})
        return
    console.say(
        f"{name}: {', '.join(each.name for each in files)}; go on with: cd {name}, then towerkit doctor {files[1].name}"
    )

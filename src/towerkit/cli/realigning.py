"""``towerkit realign``: another query side over the items of a trained two-tower, whose index stays valid."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from towerkit.cli.app import AsJson, Base, Overwrite, RunPath, app, print_json, run_and_data

if TYPE_CHECKING:
    from towerkit.realignment import Realigned


@app.command()
def realign(
    run: RunPath,
    new: Annotated[Path, typer.Argument(help="The Run whose query side comes.", show_default=False)],
    out: Annotated[Path, typer.Option("--run", help="The Run folder to write.", show_default=False)],
    method: Annotated[
        Literal["auto", "procrustes", "least_squares"],
        typer.Option("--method", help="A rotation, any linear map, or whichever misses less."),
    ] = "auto",
    base: Base = Path(),
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Put the query side of another Run before the candidates of this one, whose index and its id stay as they are."""
    from towerkit import console
    from towerkit.realignment import realign as put
    from towerkit.run import Run
    from towerkit.storage.atomic import check_target

    check_target(out, overwrite)
    other = Run.load(new)
    opened, dataset = run_and_data(run, base, "towerkit.realignment.realign")
    found = put(out, opened, other, dataset, method=method, overwrite=overwrite)
    if as_json:
        print_json(found.as_dict())
        return
    _show(found)
    if not found.same_rows:
        console.note(f"note: {new} was trained with other rows than {run}: it may have learned from rows measured here")


def _show(found: Realigned) -> None:
    """A row per metric: before, swapped as it is, re-aligned, and what is lost."""
    from towerkit import console
    from towerkit.evaluation.result import protocol_line
    from towerkit.grid import Grid

    table = Grid(["metric", "before", "swapped as it is", "re-aligned", "re-aligned less before"])
    swapped: Any = {} if found.swapped is None else found.swapped.metrics
    for name, pair in found.lost().items():
        told = f"{swapped[name].value:.4f}" if name in swapped else "another width"
        between = f"{pair.difference:+.4f} [{pair.low:.4f}, {pair.high:.4f}]"
        table.add(name, f"{pair.first:.4f}", told, f"{pair.second:.4f}", between)
    table.show(console.out)
    errors = ", ".join(f"{name} {error:.4f}" for name, error in found.errors.items())
    console.say(
        f"{found.map.method} on {found.shared:,} queries that both Runs know · missed of a fifth held out, as a share of the "
        f"squared length: {errors}"
    )
    console.say(protocol_line(found.after.protocol))
    console.say(f"Embedding space {str(found.run.space)[:12]}…, as before: an index of the old Run stays valid")
    console.say(f"Run: {found.run.path}")

"""``towerkit features``: what could be made of the columns."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from towerkit.cli.app import AsJson, app, print_json
from towerkit.core.errors import SpecError

features_app = typer.Typer(help="Features: which crosses of columns are worth having.", no_args_is_help=True)
app.add_typer(features_app, name="features")


@features_app.callback()
def features() -> None:
    """Features: which crosses of columns are worth having."""


@features_app.command()
def suggest(
    spec: Annotated[Path, typer.Argument(help="A spec file of a tower_model with a table tower.", show_default=False)],
    task: Annotated[
        str | None, typer.Option("--task", help="Whose loss is looked at; the first one.", show_default=False)
    ] = None,
    buckets: Annotated[int, typer.Option("--buckets", min=2, help="Of each cross.")] = 1024,
    most: Annotated[int, typer.Option("--most", min=1, help="Pairs of columns that are tried.")] = 60,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change the spec: data.split.validation=0.2.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Rank crosses of two columns by what each brings a linear model on validation rows, with intervals."""
    from towerkit import console
    from towerkit.data.dataset import Dataset
    from towerkit.data.stream.opening import open_data
    from towerkit.grid import Grid
    from towerkit.metrics.shown import between
    from towerkit.spec import load_spec
    from towerkit.tuning.crosses import suggest_crosses

    experiment = load_spec(spec, settings or ())
    dataset = open_data(experiment.data, base=spec.resolve().parent, seed=experiment.training.seed)
    if not isinstance(dataset, Dataset):
        raise SpecError("Crosses are tried on tables in memory; remove data.examples.stream.")
    with console.Counter("pairs of columns tried") as counter:
        found = suggest_crosses(
            experiment, dataset, task=task, buckets=buckets, most=most, seed=experiment.training.seed, tell=counter.tell
        )
    if as_json:
        print_json({"kind": "crosses", "crosses": [each.as_dict() for each in found]})
        return
    table = Grid(["tower", "cross", "n", "gain", "p (Holm)", "verdict"])
    for each in found:
        pair = each.loss
        gain = f"{-pair.difference:+.4f} {between(-pair.high, -pair.low)}"
        table.add(each.tower, " x ".join(each.columns), f"{pair.n:,}", gain, f"{pair.p_holm:.4f}", each.verdict)
    table.show(console.out)
    console.say(
        "gain: how much the mean loss of a linear model falls on validation rows with the cross, with its paired bootstrap "
        "interval. A hint for the towers, not a promise; the test rows were not looked at."
    )
    if found[0].verdict == "clear":
        entry = f"- {{cross: [{', '.join(found[0].columns)}], buckets: {buckets}}}"
        console.say(f"\nThe best one, for the columns of the tower {found[0].tower}:\n\n{entry}")

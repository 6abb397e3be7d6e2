"""Commands that train: a spec of one's own, and the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from towerkit.cli.app import AsJson, Overwrite, app, described, print_json, show_run


@app.command()
def train(
    spec: Annotated[Path, typer.Argument(help="A spec file; see examples/.", show_default=False)],
    run: Annotated[Path | None, typer.Option("--run", help="The Run folder to write.", show_default=False)] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change the spec: training.epochs=5, update.kind=two_backprop.")
    ] = None,
    overwrite: Overwrite = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an interrupted training of this Run was saved.")
    ] = False,
    base: Annotated[
        Path | None,
        typer.Option("--from", help="Go on from this Run: weights carried over by key.", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it needs: parameters, memory, steps, time. Writes nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train a model of any kind, measure it beside its baselines, and write a Run. Ctrl-C saves and stops."""
    from towerkit import console
    from towerkit.data.dataset import read_dataset
    from towerkit.experiment import estimates_of
    from towerkit.run import Run
    from towerkit.run_writer import train_run
    from towerkit.spec import load_spec
    from towerkit.storage.atomic import check_target
    from towerkit.training.signals import StopSignals

    if run is not None:
        check_target(run, overwrite)
    elif not dry_run:
        raise typer.BadParameter("Missing option '--run'; only --dry-run goes without.")
    experiment = load_spec(spec, settings or ())
    before = None if base is None else Run.load(base)
    dataset = read_dataset(experiment.data, base=spec.resolve().parent, seed=experiment.training.seed)
    if not as_json:
        console.show_dataset(dataset)
    if dry_run:
        found = {name: each.as_dict() for name, each in estimates_of(experiment, dataset).items()}
        print_json(found) if as_json else console.show_estimates(found)
        return
    assert run is not None
    with console.ConsoleProgress() as progress:
        written, outcome = train_run(
            run,
            experiment,
            dataset,
            progress,
            overwrite=overwrite,
            resume=resume,
            base=before,
            stop=StopSignals(),
            say=console.note,
        )
    if as_json:
        print_json({**described(written), "seconds": round(outcome.seconds, 2), "epochs": outcome.history.best_epoch})
        return
    show_run(written)
    console.say(f"Run: {written.path}")


@app.command()
def demo(
    run: Annotated[Path, typer.Option("--run", help="Where to write the demo's Runs.")] = Path("towerkit-demo"),
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Train all three model kinds on the bundled synthetic shop, and check that the planted truth is found."""
    from towerkit.demo import run_demo

    found = run_demo(run, overwrite=overwrite, quiet=as_json)
    if as_json:
        print_json(found)
    if not found["passed"]:
        raise typer.Exit(1)

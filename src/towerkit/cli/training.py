"""Commands that train: a spec of one's own, and the demo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from towerkit.cli.app import AsJson, Base, Overwrite, RunPath, app, described, print_json, run_and_data, show_run
from towerkit.cli.presets import preset_spec, seconds_of, train_preset
from towerkit.cli.scaling import Workers, check_workers, encoder, train_by_workers

if TYPE_CHECKING:
    from towerkit.data.dataset import Dataset
    from towerkit.data.stream.log import Log
    from towerkit.run import Run
    from towerkit.spec import ExperimentSpec


@app.command()
def train(
    spec: Annotated[Path | None, typer.Argument(help="A spec file; see examples/.", show_default=False)] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            help="In place of a spec: 'spectral' or 'best' choose their own on validation.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="With --preset: the training pairs, in any form.", show_default=False)
    ] = None,
    test: Annotated[
        str | None,
        typer.Option("--test", help="With --preset: the test pairs; else a part is held out.", show_default=False),
    ] = None,
    query: Annotated[
        str | None,
        typer.Option("--query", help="With --preset: the column of the queries (users).", show_default=False),
    ] = None,
    candidate: Annotated[
        str | None,
        typer.Option("--candidate", help="With --preset: the column of the candidates (items).", show_default=False),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option("--budget", help="With --preset: time for all, such as 120s; the search ends after half of it."),
    ] = None,
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
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            help="Train by several workers: 'local', or a Ray cluster's address; see docs/scale.md.",
            show_default=False,
        ),
    ] = None,
    workers: Workers = 1,
    as_json: AsJson = False,
) -> None:
    """Train a model of any kind, measure it beside its baselines, and write a Run. Ctrl-C saves and stops."""
    from towerkit import console
    from towerkit.data.stream.opening import open_data
    from towerkit.experiment import estimates_of
    from towerkit.run import Run
    from towerkit.spec import load_spec
    from towerkit.storage.atomic import check_target

    if run is not None:
        check_target(run, overwrite)
    elif not dry_run:
        raise typer.BadParameter("Missing option '--run'; only --dry-run goes without.")
    of_preset = {"--data": data, "--test": test, "--query": query, "--candidate": candidate, "--budget": budget}
    if preset is not None:
        if spec is not None or resume or base is not None or on is not None:
            raise typer.BadParameter(
                "--preset takes the place of a spec file, and goes without --resume, --from and --on."
            )
        budget_s = None if budget is None else seconds_of(budget)
        roles = {"query": query, "candidate": candidate}
        start, notes = preset_spec(preset, data, test, roles, settings or ())
        for note in notes:
            console.note(f"note: {note}")
        target = None if dry_run else run
        train_preset(start, target, settings=settings or (), budget_s=budget_s, overwrite=overwrite, as_json=as_json)
        return
    check_workers(on, workers)
    if on is not None and base is not None:
        raise typer.BadParameter("--on trains from the start; --from goes without it.")
    given = [name for name, value in of_preset.items() if value is not None]
    if spec is None or given:
        told = f"{given[0]} goes with --preset." if given else "Missing argument 'SPEC': a spec file, or --preset NAME."
        raise typer.BadParameter(told)
    experiment = load_spec(spec, settings or ())
    before = None if base is None else Run.load(base)
    place, seed = spec.resolve().parent, experiment.training.seed
    encode = None if on is None else encoder(on, workers, experiment)
    dataset = open_data(experiment.data, base=place, seed=seed, say=console.note, encode=encode)
    if not as_json:
        console.show_dataset(dataset)
    if dry_run:
        found = {name: each.as_dict() for name, each in estimates_of(experiment, dataset).items()}
        print_json(found) if as_json else console.show_estimates(found)
        return
    assert run is not None
    if on is not None:
        train_by_workers(
            on, workers, run, experiment, dataset, place=place, overwrite=overwrite, resume=resume, as_json=as_json
        )
        return
    _train_here(run, experiment, dataset, overwrite=overwrite, resume=resume, base=before, as_json=as_json)


def _train_here(
    run: Path,
    spec: ExperimentSpec,
    dataset: Dataset | Log,
    *,
    overwrite: bool,
    resume: bool,
    base: Run | None,
    as_json: bool,
) -> None:
    """Train by this process, and show the Run."""
    from towerkit import console
    from towerkit.run_writer import train_run
    from towerkit.training.signals import StopSignals

    with console.ConsoleProgress() as progress:
        written, outcome = train_run(
            run,
            spec,
            dataset,
            progress,
            overwrite=overwrite,
            resume=resume,
            base=base,
            stop=StopSignals(),
            say=console.note,
        )
    if as_json:
        print_json({**described(written), "seconds": round(outcome.seconds, 2), "epochs": outcome.history.best_epoch})
        return
    show_run(written)
    console.say(f"Run: {written.path}")


@app.command(name="replace")
def replace_one(
    run: RunPath,
    member: Annotated[str, typer.Argument(help="The member that goes.", show_default=False)],
    new: Annotated[
        Path, typer.Argument(help="A file with the spec of a member, or a trained Run.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--run", help="The Run folder to write.", show_default=False)],
    base: Base = Path(),
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Put another member into a late fusion: the others stay byte for byte, only what combines them is fitted again."""
    from towerkit import console
    from towerkit.replacement import member_from, replace_member
    from towerkit.storage.atomic import check_target

    check_target(out, overwrite)
    opened, dataset = run_and_data(run, base, "towerkit.replacement.replace_member")
    with console.ConsoleProgress() as progress:
        found = replace_member(out, opened, member, member_from(new), dataset, progress, overwrite=overwrite)
    written, outcome = found
    told = written.manifest.extra["replaces"]
    if as_json:
        print_json({**described(written), "seconds": round(outcome.seconds, 2), "replaces": told})
        return
    show_run(written)
    console.say(f"Fitted: {told['fitted']}.")
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

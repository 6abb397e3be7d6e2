"""``towerkit crossval``: the same spec on several divisions of the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from towerkit.cli.ablating import numbers
from towerkit.cli.app import AsJson, app, print_json

if TYPE_CHECKING:
    from towerkit.crossval.result import CrossValidation


@app.command()
def crossval(
    spec: Annotated[Path, typer.Argument(help="A spec file; see examples/.", show_default=False)],
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            help="random, stratified, grouped, cold or time; time where there is a time, else stratified.",
            show_default=False,
        ),
    ] = None,
    folds: Annotated[int, typer.Option("--folds", help="How many; of time, windows that are held out.")] = 5,
    column: Annotated[
        str | None,
        typer.Option(
            "--column", help="By which rows are spread (stratified) or held out together (grouped).", show_default=False
        ),
    ] = None,
    learn: Annotated[
        int | None,
        typer.Option(
            "--learn", help="Of time: so many stretches before a window, not all of them.", show_default=False
        ),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="A repetition for each, such as 0,1,2.", show_default=False)
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Folds side by side, a process for each.")] = 1,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Change the spec: training.epochs=5.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder in which each finished fold is kept, and crossval.json at the end."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train and measure a spec on every fold; a call that was killed goes on from the folds in --out."""
    import json

    from towerkit import console
    from towerkit.crossval.study import crossval as study
    from towerkit.crossval.study import plan_of
    from towerkit.spec import load_spec
    from towerkit.storage.atomic import atomic_write_bytes

    experiment = load_spec(spec, settings or ())
    plan = None
    if by is not None or folds != 5 or column is not None or learn is not None:
        usual = "time" if experiment.data.examples.time is not None else "stratified"
        plan = plan_of(by or usual, folds=folds, column=column, learn=learn)
    with console.ConsoleProgress() as progress, console.Counter("folds done") as counter:
        found = study(
            experiment,
            plan=plan,
            seeds=numbers(seeds),
            workers=workers,
            kept=None if out is None else out / "folds",
            base=spec.resolve().parent,
            progress=progress,
            tell=counter.tell,
        )
    content = found.as_dict()
    if out is not None:
        atomic_write_bytes(out / "crossval.json", (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    if as_json:
        print_json(content)
        return
    _show(found)
    if out is not None:
        console.say(f"kept in {out}")


def _show(found: CrossValidation) -> None:
    """A row per metric: the mean of the folds, its interval, how far they spread, and the baselines."""
    from towerkit import console
    from towerkit.grid import Grid

    names = sorted(found.baselines)
    table = Grid(["metric", "mean of the folds", "sd of folds", "lowest", "highest", *names])
    for metric, spread in found.spread.items():
        pooled = found.pooled.get(metric)
        between = "" if pooled is None else f" [{pooled.low:.4f}, {pooled.high:.4f}]"
        deviation = f"{spread.deviation:.4f}" if spread.deviation == spread.deviation else ""
        others = (found.baselines[name].get(metric) for name in names)
        told = [f"{value:.4f}" if value is not None else "" for value in others]
        table.add(metric, f"{spread.mean:.4f}{between}", deviation, f"{spread.least:.4f}", f"{spread.most:.4f}", *told)
    table.show(console.out)
    plan = ", ".join(f"{key} {value}" for key, value in found.plan.items() if value is not None)
    sizes = ", ".join(
        f"{fold.sizes['train']:,}/{fold.sizes['validation']:,}/{fold.sizes['test']:,}" for fold in found.folds
    )
    seeds = ", ".join(map(str, found.seeds))
    console.say(
        f"{len(found.folds)} trainings ({plan}; seeds {seeds}) · rows to learn from/to choose/held out: {sizes}"
    )
    console.say(
        "mean: with its bootstrap interval over all held-out queries or rows; what other trainings would give shows in sd"
    )
    for note in found.notes:
        console.say(f"note: {note}")

"""``towerkit tune``: search the ranges of a spec on validation rows."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from towerkit.cli.app import AsJson, app, print_json
from towerkit.cli.presets import seconds_of

if TYPE_CHECKING:
    from towerkit.tuning.tune import Tuned

Sampler = Literal["tpe", "random", "grid"]
Pruner = Literal["halving", "none"]


@app.command()
def tune(
    spec: Annotated[
        Path, typer.Argument(help="A spec file with ranges in place of values; see docs/tuning.md.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder of the study.", show_default=False)],
    trials: Annotated[
        int | None,
        typer.Option("--trials", help="Trials in all; 30, or the whole grid, when not given.", show_default=False),
    ] = None,
    budget: Annotated[
        str | None, typer.Option("--budget", help="No trial begins after this time, such as 10m.", show_default=False)
    ] = None,
    sampler: Annotated[Sampler, typer.Option("--sampler", help="What proposes.")] = "tpe",
    pruner: Annotated[Pruner, typer.Option("--pruner", help="What gives trials up that lag behind.")] = "halving",
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes that make trials.")] = 1,
    on: Annotated[
        str | None,
        typer.Option(
            "--on", help="Make trials on Ray: 'local', or a cluster's address; see docs/scale.md.", show_default=False
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change the spec; a value may be a range: model.query.dim='{int: [16, 64]}'."),
    ] = None,
    helper: Annotated[bool, typer.Option("--helper", hidden=True)] = False,
    as_json: AsJson = False,
) -> None:
    """Search a spec with ranges on validation rows; then the best beside the default on test rows. Goes on where it was killed."""
    asked = _Asked(spec, out, workers, trials, budget, sampler, pruner, settings or [])
    found = _by_processes(asked, helper=helper) if on is None else _on_ray(on, asked)
    if found is None:
        return
    if as_json:
        print_json(found.report)
    else:
        _show(found)


@dataclass(frozen=True)
class _Asked:
    """What was said on the command line."""

    spec: Path
    out: Path
    workers: int
    trials: int | None
    budget: str | None
    sampler: Sampler
    pruner: Pruner
    settings: Sequence[str]

    @property
    def budget_s(self) -> float | None:
        """In seconds."""
        return None if self.budget is None else seconds_of(self.budget)

    def words(self) -> list[str]:
        """The command of a helper."""
        words = [
            "tune",
            str(self.spec),
            "--out",
            str(self.out),
            "--sampler",
            self.sampler,
            "--pruner",
            self.pruner,
            "--helper",
        ]
        words += [] if self.trials is None else ["--trials", str(self.trials)]
        words += [] if self.budget is None else ["--budget", self.budget]
        return words + [word for setting in self.settings for word in ("--set", setting)]


def _by_processes(asked: _Asked, *, helper: bool) -> Tuned | None:
    """Search by this process and its helpers; None in a helper, which leaves the rest to who started it."""
    from towerkit import console
    from towerkit.tuning import tune as tuning
    from towerkit.tuning.helpers import helping
    from towerkit.tuning.problem import problem_of, searching
    from towerkit.tuning.search import opened, search

    started, budget_s = time.perf_counter(), asked.budget_s
    tuning.check_limits(asked.trials, budget_s)
    problem = problem_of(asked.spec, None, asked.settings)
    how = searching(problem, asked.sampler, asked.pruner)
    study = opened(asked.out, problem, how)
    others = asked.workers - 1
    beside = helping(others, asked.words(), asked.out / "workers", console.note) if others else contextlib.nullcontext()
    limit, deadline = tuning.limit_of(asked.trials, asked.sampler), tuning.deadline_of(budget_s, started)
    with console.ConsoleProgress() as progress:
        with beside, study.working():
            search(study, problem, limit, deadline, progress, console.note)
        return None if helper else tuning.concluded(study, problem, how, progress, console.note, started)


def _on_ray(address: str, asked: _Asked) -> Tuned:
    """Search by workers of a Ray cluster."""
    from towerkit import console
    from towerkit.scale.ray_tune import tune_on

    with console.ConsoleProgress() as progress:
        return tune_on(
            address,
            asked.workers,
            asked.spec,
            out=asked.out,
            trials=asked.trials,
            budget_s=asked.budget_s,
            sampler=asked.sampler,
            pruner=asked.pruner,
            settings=asked.settings,
            progress=progress,
            say=console.note,
        )


def _show(found: Tuned) -> None:
    """The trials, default against best, what mattered, and where the best is."""
    from towerkit import console
    from towerkit.evaluation.compare import compare_runs
    from towerkit.evaluation.result import protocol_line

    report = found.report
    _show_trials(report["trials"], report["metric"], list(report["space"]))
    shares = report["importance"]
    if shares["parameters"]:
        _show_shares("part", shares["parts"])
        _show_shares("parameter", shares["parameters"])
    if found.default is not None and found.default.path != found.best.path:
        compared = compare_runs(found.default.evaluation, {"best": found.best.evaluation})
        console.show_comparison(compared["best"], "default", f"best (trial {report['best']['trial']})")
        console.say(protocol_line(found.best.evaluation.protocol))
        console.say(console.comparison_line(compared))
    elif found.default is not None:
        console.say("No trial was better than the default configuration on validation rows.")
    console.say(
        f"Best spec: {found.folder / 'best.yaml'} · Run: {found.best.path} · report: {found.folder / 'tuning.json'}"
    )


def _show_trials(trials: Sequence[Mapping[str, Any]], metric: str, places: Sequence[str]) -> None:
    from towerkit import console
    from towerkit.grid import Grid

    table = Grid(["trial", "", metric, "epoch", "s", *(_short(place, places) for place in places)])
    for each in trials:
        table.add(
            f"{each['number']}{' (default)' if each['default'] else ''}",
            each["state"],
            "" if each["value"] is None else f"{each['value']:.4f}",
            str(each.get("best_epoch", "")),
            f"{each['seconds']:.1f}" if "seconds" in each else "",
            *(str(each["values"].get(place, "")) for place in places),
        )
    table.show(console.out)
    for each in trials:
        if each["state"] == "failed":
            console.note(f"trial {each['number']} failed: {each.get('reason', '')}")


def _show_shares(what: str, shares: Mapping[str, float]) -> None:
    from towerkit import console
    from towerkit.grid import Grid

    table = Grid([what, "importance"])
    for name, share in shares.items():
        table.add(name, f"{share:.0%}")
    table.show(console.out)


def _short(place: str, places: Sequence[str]) -> str:
    """As much of the end of a path as tells it from the others."""
    parts = place.split(".")
    for length in range(1, len(parts) + 1):
        end = ".".join(parts[-length:])
        if sum(other == end or other.endswith(f".{end}") for other in places) == 1 and not end.isdigit():
            return end
    return place

"""The ablation of a Run: which of its towers earns its cost?"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from towerkit.ablation.cost import costs
from towerkit.ablation.game import MODES, Game, Mode
from towerkit.ablation.games import chosen_metrics, game_of
from towerkit.ablation.opening import check_same_rows, dataset_of, seal_of, spec_of
from towerkit.ablation.play import ORDERS, Tell, play
from towerkit.ablation.result import Ablation, Played, Retrained
from towerkit.ablation.retraining import retrain
from towerkit.core.errors import SpecError, listed, nearest
from towerkit.core.remarks import collecting
from towerkit.data.dataset import Dataset
from towerkit.data.stream.log import Log
from towerkit.evaluation.kept import Kept
from towerkit.evaluation.samples import averaged, sample_differences, values_of_sample
from towerkit.metrics.significance import Difference, corrected
from towerkit.run import Run
from towerkit.training.progress import Progress, Silent

RETRAIN = "retrain"
_NEAR = 1e-3
"""How far the whole model, measured again, may be from what its Run says without a note."""


def ablate(
    run: Run | str | os.PathLike[str],
    dataset: Dataset | Log | None = None,
    *,
    modes: Sequence[str] = ("absent", "permute"),
    towers: Sequence[str] = (),
    metrics: Sequence[str] = (),
    repeats: int = 3,
    columns: bool = False,
    seeds: Sequence[int] = (),
    kept: Path | None = None,
    base: Path | None = None,
    orders: int = ORDERS,
    progress: Progress | None = None,
    tell: Callable[[str, int, int], None] = lambda mode, done, total: None,
    say: Callable[[str], None] = lambda text: None,
) -> Ablation:
    """Measure a Run again and again on its held-out rows without some of its towers.

    Args:
        run: A Run of any kind, or its folder.
        dataset: The data that it was trained with; read again from where its spec says when not given.
        modes: What stands in the place of a tower: ``absent`` its learned vector, or what it says of a row that nothing is known
            of; ``mean`` its mean vector; ``permute`` that of another row; ``retrain``: the model is trained again without it.
        towers: Only these, one at a time; all, and every subset of them, when not given.
        metrics: Only these figures, decided on beforehand; the headline of each task when not given.
        repeats: Shuffles that are averaged, for ``permute``.
        columns: Also shuffle each raw column of each tower alone.
        seeds: Of ``retrain``; the Run's own when not given.
        kept: Folder in which ``retrain`` keeps each training's evaluation, so that a second call trains nothing twice.
        base: The folder that relative paths of the Run's data start from.
        orders: Random orders behind the Shapley values of more than six towers.
        progress: Told of each training.
        tell: Told the mode, and how many towers of how many are done.
        say: Told what is being trained.

    Returns:
        The figures.

    Raises:
        RunError: If the Run has nothing to take away, or was trained with other rows.
        SpecError: If a tower, a mode or a figure is not one that the Run has.
        DataError: If the data cannot be read again.
    """
    run = run if isinstance(run, Run) else Run.load(run)
    wanted = _checked_modes(modes)
    if repeats < 1:
        raise SpecError(f"repeats must be at least 1; received {repeats}.")
    spec, named = spec_of(run), chosen_metrics(run, metrics)
    with collecting():  # what is odd about the rows was told when the Run was trained
        data = dataset_of(run, base) if dataset is None else dataset
        check_same_rows(run, data)
        game = game_of(run, spec, data, named)
        _check_towers(towers, game)
        played: dict[str, Played] = {}
        for mode in wanted:
            played[mode] = play(game, mode, towers=towers, repeats=repeats, orders=orders, tell=_telling(tell, mode))
        within = _columns(game, towers, repeats) if columns else {}
        again: dict[str, Retrained] = {}
        structure: dict[str, Retrained] = {}
        skipped: dict[str, str] = {}
        if RETRAIN in modes:
            again, structure, skipped = retrain(
                run,
                data,
                named,
                progress or Silent(),
                seeds=seeds,
                towers=towers,
                kept=Kept(kept),
                say=say,
            )
    found = Ablation(
        run=str(run.path),
        model=run.kind,
        seal=seal_of(run),
        protocol=run.evaluation.protocol,
        whole={name: run.evaluation.metrics[name] for name in named},
        costs=costs(game),
        played=played,
        retrained=again,
        structure=structure,
        columns=within,
        skipped=skipped,
        notes=_notes(run, game, named),
    )
    return with_corrections(found)


def with_corrections(found: Ablation) -> Ablation:
    """The same with p-values corrected over all towers and figures of each mode, and of all columns.

    Args:
        found: With the p-values of single tests.
    """
    played = {}
    for mode, each in found.played.items():
        own = dict(zip(each.alone, corrected(list(each.alone.values())), strict=True))
        played[mode] = replace(each, alone=own)
    families = [pairs for own in found.columns.values() for pairs in own.values()]
    done = iter(corrected(families))
    columns = {tower: {column: next(done) for column in own} for tower, own in found.columns.items()}
    return replace(found, played=played, columns=columns)


def _checked_modes(modes: Sequence[str]) -> list[Mode]:
    for mode in modes:
        if mode not in (*MODES, RETRAIN):
            known = (*MODES, RETRAIN)
            raise SpecError(f"There is no mode '{mode}'{nearest(mode, known) or '.'} The modes are {listed(known)}.")
    if not modes:
        raise SpecError(f"Name a mode or more; the modes are {listed((*MODES, RETRAIN))}.")
    return [mode for mode in MODES if mode in modes]


def _check_towers(towers: Sequence[str], game: Game) -> None:
    for name in towers:
        if name not in game.parts:
            raise SpecError(
                f"There is no tower '{name}' to take away{nearest(name, game.parts) or '.'} There are {listed(game.parts)}."
            )


def _telling(tell: Callable[[str, int, int], None], mode: str) -> Tell:
    return lambda done, total: tell(mode, done, total)


def _columns(game: Game, towers: Sequence[str], repeats: int) -> dict[str, dict[str, Mapping[str, Difference]]]:
    """Tower -> column -> metric -> difference."""
    whole = game.answers(frozenset(), "absent", 0)
    found: dict[str, dict[str, Mapping[str, Difference]]] = {}
    tests = sum(len(part.reads) for part in game.parts.values()) * len(values_of_sample(whole))
    for name, part in game.parts.items():
        if towers and name not in towers:
            continue
        for column in part.reads:
            each = averaged([game.with_column(name, column, draw) for draw in range(repeats)])
            found.setdefault(name, {})[column] = sample_differences(whole, each, tests=tests)
    return found


def _notes(run: Run, game: Game, metrics: Sequence[str]) -> list[str]:
    """What should be known of the figures."""
    again = values_of_sample(game.answers(frozenset(), "absent", 0))
    far = [name for name in metrics if abs(again[name] - run.evaluation.metrics[name].value) > _NEAR]
    return [
        f"{name} of the whole model is {again[name]:.4f} here and {run.evaluation.metrics[name].value:.4f} in the Run: the towers "
        "are not asked as they were."
        for name in far
    ]

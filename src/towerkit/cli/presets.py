"""``towerkit train --preset``: pairs in a file, and a model whose settings are chosen on validation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from towerkit.core.durations import duration_s
from towerkit.core.errors import SpecError

if TYPE_CHECKING:
    from towerkit.doctor.interactions import DescribedPairs
    from towerkit.spec import ExperimentSpec


def seconds_of(budget: str) -> float:
    """A budget in seconds: ``120``, ``120s``, ``2m`` or ``1h``.

    Raises:
        SpecError: If it is none.

    Example:
        >>> seconds_of("2m"), seconds_of("90")
        (120.0, 90.0)
    """
    found = duration_s(budget)
    if found is None:
        raise SpecError(f"--budget is a time such as 120s or 2m, above 0; received '{budget}'.")
    return found


def preset_spec(
    preset: str, data: str | None, test: str | None, roles: dict[str, str | None], settings: Sequence[str]
) -> tuple[ExperimentSpec, list[str]]:
    """The spec that a preset starts from on a file of pairs.

    Args:
        preset: Its name.
        data: The training pairs, in any form that can be read.
        test: The test pairs; without them, a part of the training pairs is held out.
        roles: ``query`` and ``candidate`` -> column, where they are given.
        settings: ``key.of.part=value`` texts, as for a spec file.

    Returns:
        The spec, and what a person should know about it.

    Raises:
        SpecError: If there is no such preset, or a setting is not one.
        DataError: If the file cannot be read, or does not say who met what.
    """
    from towerkit.core.spec import parse
    from towerkit.doctor.interactions import describe_pairs
    from towerkit.presets import start_of
    from towerkit.spec import ExperimentSpec, apply_setting

    content = start_of(preset)
    if data is None:
        raise typer.BadParameter("--preset needs --data, the file of training pairs.")
    known: dict[str, Any] = {"data": {"examples": {}}}
    for setting in settings:
        if setting.startswith("data."):
            apply_setting(known, setting)
    examples = known["data"].pop("examples")
    examples |= {role: column for role, column in roles.items() if column is not None}
    split = known["data"].pop("split", {})
    found = describe_pairs(data, examples, with_time=test is None and "kind" not in split)
    if "kind" not in split:
        split = _split(found, has_test=test is not None) | split
    content["data"] = {"examples": found.examples, "split": split, **known["data"]}
    if test is not None:
        content["data"]["test"] = {"path": test}
    for setting in settings:
        if not setting.startswith("data."):
            apply_setting(content, setting)
    return parse(ExperimentSpec, content, f"the preset {preset}"), found.notes


def _split(found: DescribedPairs, *, has_test: bool) -> dict[str, Any]:
    """Validation rows that are like the test rows, as far as the training file tells."""
    if not has_test:
        return {"kind": "time" if "time" in found.examples else "per_query", "validation": 0.1, "test": 0.1}
    take = {"take": "last"} if found.in_order else {}  # what comes next, if the order is one of time; else any rows
    return {"kind": "per_query", "validation": 0.1, **take}


def train_preset(
    spec: ExperimentSpec,
    run: Path | None,
    *,
    settings: Sequence[str],
    budget_s: float | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Choose, fit, measure, write and show; without a Run's folder only say what it would start from."""
    from towerkit import console
    from towerkit.cli.app import described, print_json, show_run
    from towerkit.data.dataset import read_dataset
    from towerkit.preset_run import preset_run
    from towerkit.presets import held_settings, told
    from towerkit.spec import plain

    if run is None:
        print_json(plain(spec))
        return
    dataset = read_dataset(spec.data, seed=spec.training.seed)
    if not as_json:
        console.show_dataset(dataset)
    with console.ConsoleProgress() as progress:
        held = held_settings(settings)
        written, outcome = preset_run(run, spec, dataset, progress, held=held, budget_s=budget_s, overwrite=overwrite)
    chosen = told(plain(outcome.model.spec))
    if as_json:
        print_json({**described(written), "seconds": round(outcome.seconds, 2), "chosen": chosen})
        return
    show_run(written)
    parts = chosen if isinstance(next(iter(chosen.values())), dict) else {"": chosen}
    lines = [
        f"{name} ".lstrip() + ", ".join(f"{key} {value:g}" for key, value in part.items() if key != "kind")
        for name, part in parts.items()
    ]
    console.say("Chosen on validation: " + "; ".join(lines))
    console.say(f"Run: {written.path}")

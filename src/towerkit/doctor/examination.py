"""Look at a data file, a spec file or a Run, and say in plain data what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from towerkit.core.errors import RunError, TowerkitError, redacted
from towerkit.data.dataset import make_dataset
from towerkit.data.locations import extension
from towerkit.data.parquet import parquet_files
from towerkit.data.spec import DataSpec
from towerkit.data.table import Table
from towerkit.doctor.guesses import Guess, guess_entity, guess_labels, guess_roles, incomplete_time
from towerkit.doctor.keys import repeated_keys
from towerkit.doctor.opening import open_file
from towerkit.doctor.snippet import snippet_of, title_of
from towerkit.doctor.spec_file import examine_spec
from towerkit.doctor.tables import describe


def examine(path: str) -> dict[str, Any]:
    """Look at a data file, a spec file or a Run.

    Args:
        path: A data file in any form that a spec can name, a folder of Parquet files, a spec file (``.yaml``, ``.yml``), or a
            Run folder.

    Returns:
        ``kind`` (``data``, ``spec`` or ``run``), what was found, ``notes`` worth knowing and ``problems`` that stop
        training.
    """
    folder = Path(path)
    if folder.is_dir() and ((folder / "manifest.json").is_file() or not parquet_files(folder)):
        return _examine_run(folder)
    if extension(path) in (".yaml", ".yml"):
        return examine_spec(Path(path))
    return _examine_data(path)


def _examine_data(path: str) -> dict[str, Any]:
    try:
        opened = open_file(path)
    except TowerkitError as error:
        return {"kind": "data", "path": redacted(path), "columns": [], "notes": [], "problems": [str(error)]}
    guesses = guess_roles(opened.table, has_names=opened.has_names)
    roles = {role: guess.column for role, guess in guesses.items()}
    found = describe(opened.table, roles)
    source: dict[str, Any] = dict(opened.source)
    entity = None if {"query", "candidate"} <= roles.keys() else guess_entity(opened.table, has_names=opened.has_names)
    if entity is not None:
        source |= {"key": entity.column, **title_of(opened.table)}
        found["notes"].append(entity.reason)
        found["problems"] += filter(None, [repeated_keys(opened.table, entity.column)])
    if "time" not in roles:
        found["notes"] += filter(None, [incomplete_time(opened.table)])
    problems = found.pop("problems") + _training_problems(opened.table, roles, entity)
    return {
        "kind": "data",
        "path": redacted(path),
        **found,
        "suggested_roles": roles,
        "role_reasons": {role: guess.reason for role, guess in guesses.items()},
        "suggested_labels": guess_labels(opened.table, roles),
        "snippet": snippet_of(source, roles),
        "notes": opened.notes + found["notes"],
        "problems": problems,
    }


def _training_problems(table: Table, roles: dict[str, str], entity: Guess | None) -> list[str]:
    """What a training with these roles would refuse, in its own words."""
    if entity is not None or not roles:
        return []
    data = {"examples": {"path": "in memory", **roles}}
    try:
        make_dataset(DataSpec.model_validate(data), table)
    except TowerkitError as error:
        return [str(error)]
    return []


def _examine_run(path: Path) -> dict[str, Any]:
    from towerkit.doctor.trained_run import findings_of
    from towerkit.run import Run

    found: dict[str, Any] = {"kind": "run", "path": str(path), "findings": [], "notes": [], "problems": []}
    try:
        run = Run.load(path)
        found |= {"model": run.kind, "created": run.manifest.created, "towerkit": run.manifest.towerkit}
        found["files"] = len(run.manifest.files)
        found["bytes"] = sum(entry.bytes for entry in run.manifest.files.values())
        assert run.model is not None
        for task, about in run.evaluation.protocol.get("tasks", {}).items():
            if about.get("positive") is not None:
                found["notes"].append(f"the positive class of '{task}' is '{about['positive']}', of {about['classes']}")
        found["notes"].append(
            "every file agrees with the manifest, and the golden request is answered as when it was saved"
        )
        found["findings"] = [each.as_dict() for each in findings_of(run)]
    except RunError as error:
        found["problems"].append(str(error))
    return found

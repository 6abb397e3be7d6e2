"""The Python door: read tables, fit a model of any kind, get a Run."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

from towerkit.core.errors import SpecError, listed, nearest
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset, make_dataset
from towerkit.data.logs import EventLog
from towerkit.data.readers import read_table
from towerkit.data.roles import EntityTable
from towerkit.data.spec import DataSpec
from towerkit.data.stream.log import Log
from towerkit.data.stream.opening import open_data
from towerkit.experiment import train_and_evaluate
from towerkit.preset_run import preset_run
from towerkit.presets import check_preset, start_of
from towerkit.run import Run
from towerkit.run_writer import base_of, train_run, write_run
from towerkit.spec import ExperimentSpec, ModelingSpec, load_spec
from towerkit.storage.atomic import check_target
from towerkit.training.progress import Progress, Silent


def read(
    examples: Any,
    *,
    query: str | None = None,
    candidate: str | None = None,
    time: str | None = None,
    weight: str | None = None,
    event: Mapping[str, Any] | None = None,
    positive: str | None = None,
    relevance: str | None = None,
    grades: Mapping[str, float] | None = None,
    validation: Any = None,
    test: Any = None,
    entities: Mapping[str, Any] | None = None,
    logs: Mapping[str, Any] | None = None,
    split: Mapping[str, Any] | None = None,
    decay: Mapping[str, float] | None = None,
    duplicates: str = "keep",
    min_count: Mapping[str, int] | None = None,
    k_core: int | None = None,
    filter_on: str = "train",
    seed: int = 0,
) -> Dataset:
    """Read tables into a data set.

    Args:
        examples: A path, or a pandas, Polars, DuckDB or Arrow table: one row per event, pair or labelled object.
        query: Column with the query's key (a user, a search).
        candidate: Column with the candidate's key (an item, a document).
        time: Column with the time.
        weight: Column with the weight of each row.
        event: ``{"column": "type", "weights": {"view": 1, "buy": 5}, "others": "refuse" | "drop"}``.
        positive: Which rows are pairs at all, for example ``"rating >= 4"``.
        relevance: Column with the grade of a judged pair, 0 or more; a pair of grade 0 is in no part.
        grades: Value of ``relevance`` -> the grade it stands for, where the value is none itself.
        validation: A validation table given apart.
        test: A test table given apart.
        entities: Example column -> its table, or ``{"table": …, "key": …, "title": …}``.
        logs: Name -> ``{"table": …, "key": …, "time": …}``: what happened to whom and when, for features that look back.
        split: ``{"kind": "time" | "per_query" | "leave_last" | "random" | "grouped" | "given", …}``.
        decay: ``{"half_life_days": 30}``, or ``{"half_life": 100}`` in the unit of the time column.
        duplicates: Of a pair in several training rows: ``keep`` all, ``first``, ``last``, or ``count`` them as one.
        min_count: ``{"query": 5, "candidate": 5}`` training rows at least.
        k_core: Least training rows of every query and candidate, by leaving out until all have them.
        filter_on: Whether ``min_count`` and ``k_core`` see ``train`` rows or ``all``, before the split.
        seed: Draws a random split.

    Raises:
        DataError: If a table cannot be used; names file, column, row and value.
        SpecError: If a setting is not one that towerkit knows.

    Example:
        >>> data = read({"user": ["a", "b"] * 20, "item": [str(n) for n in range(40)]}, query="user", candidate="item")
        >>> data.parts.sizes()
        {'train': 32, 'validation': 4, 'test': 4}
    """
    table = read_table(examples)
    roles: dict[str, Any] = {"query": query, "candidate": candidate, "time": time, "weight": weight}
    roles |= {"event": event, "positive": positive, "relevance": relevance, "grades": grades}
    tables = {name: _entity(name, given) for name, given in (entities or {}).items()}
    described: dict[str, Any] = {
        "examples": {"path": table.name, **{role: column for role, column in roles.items() if column is not None}},
        "entities": {name: {"path": e.table.name, "key": e.key, "title": e.title} for name, e in tables.items()},
    }
    events = {
        name: EventLog(given["key"], given["time"], read_table(given["table"])) for name, given in (logs or {}).items()
    }
    described["logs"] = {n: {"path": e.table.name, "key": e.key, "time": e.time} for n, e in events.items()}
    settings = {"split": split, "decay": decay, "min_count": min_count, "k_core": k_core}
    described |= {"duplicates": duplicates, "filter_on": filter_on}
    described |= {name: value for name, value in settings.items() if value is not None}
    apart = {
        part: read_table(given) for part, given in (("validation", validation), ("test", test)) if given is not None
    }
    described |= {part: {"path": given.name} for part, given in apart.items()}
    return make_dataset(parse(DataSpec, described, "read"), table, **apart, entities=tables, logs=events, seed=seed)


def _entity(name: str, given: Any) -> EntityTable:
    if isinstance(given, Mapping) and "table" in given:
        return EntityTable(name, given.get("key") or name, read_table(given["table"]), given.get("title"))
    return EntityTable(name, name, read_table(given))


def fit(
    spec: ModelingSpec | Mapping[str, Any] | str | os.PathLike[str] | Any,
    dataset: Dataset | Log | None = None,
    *,
    run: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    resume: bool | None = None,
    base: Run | str | os.PathLike[str] | None = None,
    preset: str | None = None,
    progress: Progress | None = None,
    **roles: Any,
) -> Run:
    """Train, evaluate once on held-out rows beside the baselines, and write a Run.

    Three ways to call it: ``fit("spec.yaml")``; ``fit({"model": …}, dataset)``; and, for a two-tower over ids with default
    settings, ``fit(table, query="user", candidate="item", time="ts")``, or with those that ``preset="spectral"`` chooses.

    Args:
        spec: A spec, its plain data, the path of a spec file, or a table of pairs.
        dataset: The data, where the spec does not say it.
        run: Folder to write; when not given a temporary one (``Run.path``), removed when the process ends.
        overwrite: Replace an existing Run.
        resume: Save the training beside ``run`` on the way; True goes on where an interrupted one was saved, False begins
            at the start. Nothing is saved when not given.
        base: A Run to go on from, for new data: its weights are carried over by key, its vocabularies grow.
        preset: For a table of pairs: choose the settings on validation, as this preset does (``spectral``, ``best``).
        progress: Told after each step and epoch, and at the end.
        **roles: For a table of pairs, the arguments of :func:`read`.

    Returns:
        The opened Run.

    Raises:
        SpecError: If the spec is not one that towerkit knows.
        DataError: If the data cannot be used.
        RunError: If the folder cannot be written.
    """
    folder = Path(run) if run is not None else _temporary_folder()
    check_target(folder, overwrite)
    if preset is not None:
        check_preset(preset)
        _check_plain(spec, roles, resume=resume, base=base)
        modeling = parse(ModelingSpec, start_of(preset), f"the preset {preset}")
        dataset = read(spec, **roles) if dataset is None else dataset
        if isinstance(dataset, Log):
            raise SpecError("A preset tries settings on tables in memory; read the pairs without data.examples.stream.")
        return preset_run(folder, modeling, dataset, progress or Silent(), overwrite=overwrite)[0]
    modeling, place = _modeling(spec, roles)
    if dataset is None:
        if not isinstance(modeling, ExperimentSpec):
            if _is_spec(spec):
                raise SpecError(
                    "The spec says nothing of data: add the key data, or give a data set: fit(spec, read(…))."
                )
            dataset = read(spec, **roles)
        else:
            dataset = open_data(modeling.data, base=place, seed=modeling.training.seed)
    before = base if isinstance(base, Run) or base is None else Run.load(base)
    if resume is not None:
        told = progress or Silent()
        return train_run(folder, modeling, dataset, told, overwrite=overwrite, resume=resume, base=before)[0]
    carried = None if before is None else base_of(before, modeling)
    outcome = train_and_evaluate(modeling, dataset, progress or Silent(), base=carried)
    return write_run(folder, modeling, dataset, outcome, overwrite=overwrite)


def _temporary_folder() -> Path:
    """A new folder for a Run, below one that is removed when the process ends."""
    return Path(tempfile.mkdtemp(dir=_temporary_place().name)) / "run"


@functools.cache
def _temporary_place() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="towerkit-")


def _check_plain(
    spec: Any, roles: Mapping[str, Any], *, resume: bool | None, base: Run | str | os.PathLike[str] | None
) -> None:
    """A preset takes a table of pairs, and makes its spec itself."""
    if _is_spec(spec):
        raise SpecError(
            "A preset chooses the spec itself, and one was given; give a table of pairs, or leave preset out."
        )
    if resume is not None or base is not None:
        raise SpecError("A preset begins anew; leave out resume and base, or train the spec of its Run with them.")
    _check_roles(roles, is_spec=False)


def _is_spec(spec: Any) -> bool:
    """Whether it is a spec in some form, and not a table."""
    if isinstance(spec, str | os.PathLike):
        return str(spec).endswith((".yaml", ".yml", ".json"))
    return isinstance(spec, ModelingSpec) or (isinstance(spec, Mapping) and "model" in spec)


def _modeling(spec: Any, roles: Mapping[str, Any]) -> tuple[ModelingSpec, Path | None]:
    _check_roles(roles, is_spec=_is_spec(spec))
    if isinstance(spec, ModelingSpec):
        return spec, None
    if isinstance(spec, str | os.PathLike) and _is_spec(spec):
        return load_spec(Path(spec)), Path(spec).resolve().parent
    if _is_spec(spec):
        return parse(ExperimentSpec if "data" in spec else ModelingSpec, dict(spec), "the spec"), None
    if not roles:
        raise SpecError(
            "fit needs a spec, or a table with the names of its columns: fit(table, query='user', candidate='item'). "
            f"Received {type(spec).__name__}."
        )
    ids = {"kind": "id", "dim": 64}
    return parse(
        ModelingSpec, {"model": {"kind": "two_tower", "query": ids, "candidate": ids}}, "the default spec"
    ), None


def _check_roles(roles: Mapping[str, Any], *, is_spec: bool) -> None:
    known = [name for name in signature(read).parameters if name != "examples"]
    for name in roles:
        if name not in known:
            raise SpecError(
                f"fit has no argument '{name}'{nearest(name, known) or '.'} A table goes with {listed(known)}."
            )
        if is_spec:
            raise SpecError(
                f"'{name}' belongs to a table of pairs, and a spec was given: give it to read, or write it into the spec."
            )

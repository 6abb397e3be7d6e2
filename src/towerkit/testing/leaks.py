"""No leak: what lies in a held-out row reaches nothing that is learned. Shown by changing it, not by reading the code.

A *leak* is a vocabulary, statistic, logQ or history computed from later rows, or an example's target inside its own
history. Whatever its path, it shows in one way: the trained model is another when only held-out rows are. So a model is
trained twice, on the data and on the data with every value of the held-out rows replaced, and the two saved models must
be the same, byte by byte: weights, vocabularies, statistics, classes, catalogues and known pairs.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from towerkit.core.errors import TowerkitError
from towerkit.data.dataset import Dataset
from towerkit.data.roles import EntityTable
from towerkit.data.splits import Parts, Rows
from towerkit.data.table import Table, values_of
from towerkit.ensembles.late_spec import LateFusionSpec
from towerkit.experiment import train_and_evaluate
from towerkit.models.joint import JointSpec
from towerkit.models.wiring import pair_of
from towerkit.run_writer import save_model
from towerkit.spec import ModelingSpec, ranks
from towerkit.testing.promises import require
from towerkit.training.loop import Silent

Saved = Mapping[str, bytes]


def assert_no_leak(spec: ModelingSpec, dataset: Dataset) -> None:
    """Train on the data and on changed copies of it; what is learned must not move.

    The changes, each by itself: every value of the test rows; every column of the entity rows that no learned row points
    to; every value of the validation rows, for a model that takes no validation (not asked of a late fusion whose combiner
    is fitted on them). A candidate of a model that ranks and has a row in a table is known and may be drawn as a negative, so of
    its entity rows only the fitted features are compared.

    Args:
        spec: A model of any kind, and its training; a few epochs are enough.
        dataset: Data with a test part, or else with a validation part that is then taken for it.

    Raises:
        AssertionError: Naming the files of the saved model that changed, and by what.
    """
    whole = dataset if len(dataset.parts.test) else _without_validation(dataset)
    before = fingerprint(spec, whole)
    labels = {label.column for label in spec.model.demand(whole).labels.values()}
    _require_same(spec, before, replaced_rows(whole, whole.parts.test, among_known=labels), "the test rows")
    learned = np.concatenate([whole.parts.train, whole.parts.validation])
    candidates = _candidates(spec, whole)
    for name, entity in whole.entities.items():
        changed = {**whole.entities, name: _replaced_entity(entity, whole.labelled(name, learned))}
        what = f"rows of {name} that no learned row points to"
        _require_same(
            spec, before, replace(whole, entities=changed), what, among=_FITTED if name in candidates else _ALL
        )
    if len(whole.parts.validation) and not _reads_validation(spec):
        alone = _without_validation(whole)
        changed_rows = replaced_rows(alone, alone.parts.test, among_known=labels)
        _require_same(spec, fingerprint(spec, alone), changed_rows, "the validation rows")


def _candidates(spec: ModelingSpec, dataset: Dataset) -> tuple[str, ...]:
    """The entities that are ranked."""
    if isinstance(spec.model, JointSpec):
        return tuple(spec.model.candidates)
    return pair_of(dataset)[1:] if ranks(spec.model) else ()


def _reads_validation(spec: ModelingSpec) -> bool:
    """Whether a model fits something on validation rows, and so cannot be trained without them."""
    return isinstance(spec.model, LateFusionSpec) and spec.model.reads_validation


_FITTED = r"(.*/)?(encoder\.json|vocabulary-\d+\.arrow)"
_ALL = r".*(?<!query\.arrow)(?<!candidate\.arrow)(?<!entity-\d\.arrow)"
"""Names of files: of fitted features; and of all but the entity tables, which are stored as they are."""


def replaced_rows(dataset: Dataset, rows: Rows, *, among_known: Collection[str] = ()) -> Dataset:
    """The same data set with other values in some rows: numbers far off, words never seen, keys old and new, labels moved.

    Types, parts and the weights of all other rows stay as they are.

    Args:
        dataset: The data.
        rows: Rows of the example table to change.
        among_known: Columns that only take values which stand elsewhere in them, as labels must.
    """
    data = dataset.examples.data
    for place, name in enumerate(data.column_names):
        data = data.set_column(place, name, _replaced(data.column(name), rows, may_be_new=name not in among_known))
    weights = dataset.weights
    if weights is not None:
        weights = weights.copy()
        weights[rows] = 7.0
    return replace(dataset, examples=replace(dataset.examples, data=data), weights=weights)


def _replaced(values: pa.ChunkedArray, rows: Rows, *, may_be_new: bool = True) -> pa.Array:
    """The rows take values that stand elsewhere in the column, and every second one a value that nobody has."""
    whole = values.combine_chunks()
    whole = pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole
    others = np.setdiff1d(np.arange(len(whole)), rows)
    order = np.arange(len(whole))
    order[rows] = others[(np.arange(len(rows)) * 7 + 3) % len(others)] if len(others) else rows[::-1]
    moved = whole.take(pa.array(order))
    is_new = np.zeros(len(whole), bool)
    is_new[rows[::2]] = True
    new = _never_seen(whole) if may_be_new else None
    return moved if new is None else pc.if_else(pa.array(is_new), new, moved)


def _never_seen(values: pa.Array) -> pa.Array | None:
    """``[rows]`` values of the column's type that stand nowhere in it; None for types that have none to give."""
    kind, count = values.type, np.arange(len(values))
    if pa.types.is_string(kind):
        return pa.array([f"planted by the leak check {number}" for number in count])
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        top = pc.max(values).as_py()
        return pa.array((0 if top is None else int(top)) + 1_000 + count).cast(kind, safe=False)
    return None


def _replaced_entity(entity: EntityTable, keys: pa.Array) -> EntityTable:
    own = values_of(entity.table.data, entity.key)
    pointed = pc.is_in(own, value_set=pc.unique(keys).cast(own.type))
    rows = np.flatnonzero(~pointed.to_numpy(zero_copy_only=False))
    data = entity.table.data
    for place, name in enumerate(data.column_names):
        if name != entity.key:
            data = data.set_column(place, name, _replaced(data.column(name), rows))
    return replace(entity, table=Table(data, entity.table.name, entity.table.first_row))


def _without_validation(dataset: Dataset) -> Dataset:
    """Validation rows among the test rows: nothing may look at them any more, not even to choose the epoch."""
    parts = dataset.parts
    held_out = np.union1d(parts.validation, parts.test)
    return replace(dataset, parts=Parts(parts.train, parts.validation[:0], held_out), uncut=None)


def _require_same(spec: ModelingSpec, before: Saved, changed: Dataset, what: str, *, among: str = ".*") -> None:
    try:
        after = fingerprint(spec, changed)
    except TowerkitError as error:
        raise AssertionError(f"{what} were changed, and the {spec.model.kind} could not be trained: {error}") from error
    moved = sorted(
        name
        for name in before.keys() | after.keys()
        if re.fullmatch(among, name) and before.get(name) != after.get(name)
    )
    require(
        not moved,
        f"a leak: {what} were changed, and of what the {spec.model.kind} learned this changed too: {', '.join(moved)}",
    )


def fingerprint(spec: ModelingSpec, dataset: Dataset) -> Saved:
    """Train, save, and give every byte of the saved model, by file.

    Args:
        spec: The model and its training.
        dataset: The data.
    """
    model = train_and_evaluate(spec, dataset, Silent()).model
    with tempfile.TemporaryDirectory(prefix="towerkit-") as folder:
        save_model(Path(folder) / "model", model)
        files = (path for path in Path(folder).rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def parts_move(make: Callable[[pa.Table], Dataset], examples: pa.Table, rows: Rows, columns: list[str]) -> list[str]:
    """What of the training rows depends on the values of held-out rows, for settings that choose and weigh rows.

    Args:
        make: Example table to data set.
        examples: The rows.
        rows: Rows to change, which ``make`` must hold out.
        columns: The columns to change in them.

    Returns:
        ``train``, ``weights`` or both, where they changed; nothing when there is no leak.
    """
    changed = examples
    for name in columns:
        place = examples.column_names.index(name)
        changed = changed.set_column(place, name, _replaced(examples.column(name), rows))
    first, second = make(examples), make(changed)
    moved = [] if np.array_equal(first.parts.train, second.parts.train) else ["train"]
    if (first.weights is None) != (second.weights is None):
        return [*moved, "weights"]
    if first.weights is not None and second.weights is not None:
        same = np.array_equal(first.weights[first.parts.train], second.weights[second.parts.train])
        moved += [] if same else ["weights"]
    return moved

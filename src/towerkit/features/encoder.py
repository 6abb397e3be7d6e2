"""Fit every feature and label a model asks for, then turn raw tables into encoded ones."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import Field, TypeAdapter

from towerkit.core import keeping
from towerkit.core.errors import DataError
from towerkit.core.keeping import Same
from towerkit.data.batch import Column, joined
from towerkit.data.dataset import Dataset
from towerkit.data.readers import Table
from towerkit.data.roles import EXAMPLE
from towerkit.data.splits import Rows
from towerkit.features.aggregates import AggregateSpec
from towerkit.features.audio import AudioSpec
from towerkit.features.base import Feature, FeatureSpec, State
from towerkit.features.columns import CategorySpec, IdSpec, NumberSpec
from towerkit.features.cyclic import CyclicSpec
from towerkit.features.hashed import HashedSpec
from towerkit.features.image import ImageSpec
from towerkit.features.image_pretrained import EncoderPixelsSpec, ImageVectorsSpec
from towerkit.features.label_scale import Transform, label_numbers
from towerkit.features.label_sets import SetForm
from towerkit.features.labels import Labels, TaskKind
from towerkit.features.looking_back import fit_aggregate
from towerkit.features.multi_hot import MultiHotSpec
from towerkit.features.ngrams import NgramsSpec
from towerkit.features.quantiles import PiecewiseSpec, QuantileSpec
from towerkit.features.text import TextVectorsSpec, TokensSpec
from towerkit.features.vectors import VectorSpec
from towerkit.features.vocabulary import Vocabulary
from towerkit.features.words import WordsSpec
from towerkit.pretrained.folder import Pretrained

AnyFeatureSpec = Annotated[
    IdSpec
    | CategorySpec
    | NumberSpec
    | QuantileSpec
    | PiecewiseSpec
    | HashedSpec
    | MultiHotSpec
    | CyclicSpec
    | NgramsSpec
    | TextVectorsSpec
    | TokensSpec
    | WordsSpec
    | VectorSpec
    | ImageSpec
    | ImageVectorsSpec
    | EncoderPixelsSpec
    | AudioSpec
    | AggregateSpec,
    Field(discriminator="kind"),
]
"""The menu of features."""
_MENU: TypeAdapter[FeatureSpec] = TypeAdapter(AnyFeatureSpec)


@dataclass(frozen=True)
class LabelSpec:
    """A task's label column and what it holds."""

    column: str
    kind: TaskKind
    positive: str | None = None
    """The positive class of a binary task; the second in order when not given."""
    form: SetForm = SetForm()
    """How the several labels of a row are written, for a multilabel task."""
    min_count: int = 1
    """Labels of fewer training rows are left out, for a multilabel task."""
    transform: Transform = "none"
    """What is done to a number before it is learned, for a regression."""

    def fit(self, values: pa.Array) -> Labels:
        """Find the classes, or the unit of a number, among the labels of the training rows; see :class:`Labels`."""
        if self.kind == "multilabel":
            return Labels.fit_sets(self.column, values, self.form, self.min_count)
        if self.kind == "regression":
            return Labels.fit_numbers(self.column, values, self.transform)
        if self.kind == "count":
            return Labels.fit_counts(self.column, values)
        return Labels.fit(self.column, self.kind, values, self.positive)

    def check(self, values: pa.Array) -> None:
        """Refuse what can be no label, wherever it stands.

        Args:
            values: The whole column, so that a row is counted as in the file.

        Raises:
            DataError: Naming column, row and value.
        """
        if self.kind in ("regression", "count"):
            label_numbers(self.column, values, "count" if self.kind == "count" else self.transform)


@dataclass
class Demand:
    """What a model needs from the data, collected from its towers and heads."""

    features: dict[str, list[FeatureSpec]] = field(default_factory=dict)
    """Entity -> features."""
    labels: dict[str, LabelSpec] = field(default_factory=dict)
    """Task -> label."""

    def add(self, entity: str, features: Iterable[FeatureSpec]) -> None:
        """Ask for features of an entity; asking twice for an equal one costs nothing."""
        wanted = self.features.setdefault(entity, [])
        wanted.extend(feature for feature in features if feature not in wanted)

    def refuse_labels_as_features(self) -> None:
        """A label that is also a feature would leak.

        Raises:
            DataError: If an example column plays both parts.
        """
        for feature in self.features.get(EXAMPLE, []):
            for task, label in self.labels.items():
                if label.column in feature.column_names():
                    raise DataError(
                        f"The column '{label.column}' is the label of the task '{task}' and also a feature of a tower: "
                        "the answer would leak into the question. Remove it from the tower's columns."
                    )


@dataclass(frozen=True)
class Fitted:
    """A feature with the spec it was fitted from."""

    spec: FeatureSpec
    feature: Feature


@dataclass(frozen=True)
class Encoder:
    """Fitted features of every entity and fitted labels of every task."""

    features: Mapping[str, tuple[Fitted, ...]]
    labels: Mapping[str, Labels]

    @classmethod
    def fit(cls, demand: Demand, dataset: Dataset, rows: Rows) -> Encoder:
        """Fit on training rows only: no vocabulary, statistic or class comes from any other row.

        Args:
            demand: What to fit.
            dataset: The raw tables.
            rows: Training rows of the example table; an entity is fitted on its rows that these point to.
        """
        demand.refuse_labels_as_features()
        base = Same(dataset), rows.tobytes()
        predicted = {label.column for label in demand.labels.values()}
        features: dict[str, tuple[Fitted, ...]] = {}
        for entity, specs in demand.features.items():
            table = keeping.kept(("training rows", entity, *base), partial(training_rows, dataset, entity, rows))
            keys = partial(training_keys, dataset, entity, rows)
            whole = dataset.entities[entity].table if entity in dataset.entities else dataset.examples
            fits: dict[FeatureSpec, Callable[[], Fitted]] = {}
            for spec in specs:
                if isinstance(spec, AggregateSpec):
                    fits[spec] = partial(_fitted_back, spec, entity, dataset, rows, predicted)
                else:
                    fit_on = keys() if isinstance(spec, IdSpec) else table.data
                    fits[spec] = partial(_fitted, spec, fit_on, whole)
            features[entity] = tuple(keeping.kept(("fitted", entity, spec, *base), fit) for spec, fit in fits.items())
        everywhere = np.arange(dataset.examples.data.num_rows)
        labels = {}
        for task, label in demand.labels.items():
            named(dataset.examples.name, label.check, dataset.labelled(label.column, everywhere))
            labels[task] = named(dataset.examples.name, label.fit, dataset.labelled(label.column, rows))
        return cls(features, labels)

    def only(self, entities: Collection[str]) -> Encoder:
        """The features of some entities, without labels.

        Args:
            entities: Which ones.
        """
        return Encoder({name: fitted for name, fitted in self.features.items() if name in entities}, {})

    def encode(self, entity: str, table: Table, *, kept: bool = False) -> dict[str, Column]:
        """Columns of an entity; row 0 is the unknown row, row ``r`` is row ``r - 1`` of the table.

        Args:
            entity: Whose rows.
            table: Raw rows.
            kept: Whether what costs much, such as decoding pictures, may be kept on disk for the next training.

        Raises:
            DataError: If a column is missing or holds a value of another kind; names the file.
        """
        encoded: dict[str, Column] = {}
        for fitted in self.features.get(entity, ()):
            columns = fitted.spec.column_names()
            unknown = pa.table({name: pa.nulls(1, _type_of(table.data, name)) for name in columns})
            made = partial(_encoded, fitted.feature, unknown, table, kept)
            encoded[fitted.feature.name] = (
                keeping.kept(("encoded", Same(fitted), Same(table)), made) if kept else made()
            )
        return encoded

    def portable(self, entity: str, table: Table) -> Table:
        """The table with its files inside, so that it can be read where they are gone; see :meth:`Feature.portable`."""
        data = table.data
        for fitted in self.features.get(entity, ()):
            for name, values in fitted.feature.portable(table).items():
                data = data.set_column(data.column_names.index(name), name, values)
        return replace(table, data=data)

    def feature(self, entity: str, spec: FeatureSpec) -> Feature:
        """The fitted form of a feature that was asked for."""
        return next(fitted.feature for fitted in self.features[entity] if fitted.spec == spec)

    def columns(self, entity: str) -> tuple[str, ...]:
        """Raw columns that the features of an entity read, each once."""
        read = (name for fitted in self.features.get(entity, ()) for name in fitted.spec.column_names())
        return tuple(dict.fromkeys(read))

    def sample(self, entity: str) -> dict[str, Any]:
        """A made-up row of an entity that holds no one's data."""
        values = [item for fitted in self.features.get(entity, ()) for item in fitted.feature.sample().items()]
        # Where features share a column, a number wins over a text: the others can read it, but not the reverse.
        return dict(sorted(values, key=lambda item: not isinstance(item[1], str)))

    def as_dict(self) -> tuple[dict[str, Any], list[pa.Array]]:
        """Plain data for JSON, and the vocabularies it refers to by number."""
        vocabularies: list[pa.Array] = []
        entities: dict[str, list[dict[str, Any]]] = {}
        for entity, all_fitted in self.features.items():
            entities[entity] = []
            for fitted in all_fitted:
                state = fitted.feature.state()
                entry: dict[str, Any] = {"spec": fitted.spec.model_dump(mode="json"), "state": dict(state.values)}
                if state.vocabulary is not None:
                    entry["vocabulary"] = len(vocabularies)
                    vocabularies.append(state.vocabulary.values)
                    if state.vocabulary.begun_with is not None:
                        entry["begun_with"] = state.vocabulary.begun_with
                if state.pretrained is not None:
                    entry["pretrained"] = state.pretrained.fingerprint
                entities[entity].append(entry)
        return {
            "features": entities,
            "labels": {task: label.as_dict() for task, label in self.labels.items()},
        }, vocabularies

    def pretrained(self) -> dict[str, Pretrained]:
        """Fingerprint -> the pretrained encoder that features read by, each once; :meth:`as_dict` names them by it."""
        states = (fitted.feature.state() for all_fitted in self.features.values() for fitted in all_fitted)
        return {each.pretrained.fingerprint: each.pretrained for each in states if each.pretrained is not None}

    @classmethod
    def from_dict(
        cls,
        data: Mapping[str, Any],
        vocabularies: list[pa.Array],
        pretrained: Mapping[str, Pretrained] = MappingProxyType({}),
    ) -> Encoder:
        """The inverse of :meth:`as_dict`.

        Args:
            data: Plain data.
            vocabularies: In the order in which the data numbers them.
            pretrained: By fingerprint, as :meth:`pretrained` gave them.
        """
        features = {}
        for entity, entries in data["features"].items():
            restored = []
            for entry in entries:
                spec = _MENU.validate_python(entry["spec"])
                values = vocabularies[entry["vocabulary"]] if "vocabulary" in entry else None
                known = None if values is None else Vocabulary(values, entry.get("begun_with"))
                by = pretrained[entry["pretrained"]] if "pretrained" in entry else None
                state = State(entry["state"], known, by)
                restored.append(Fitted(spec, spec.restore(state)))
            features[entity] = tuple(restored)
        return cls(features, {task: Labels.from_dict(label) for task, label in data["labels"].items()})


def _encoded(feature: Feature, unknown: pa.Table, table: Table, kept: bool) -> Column:
    """The unknown row, then the rows of a table."""
    rows = named(table.name, partial(feature.read, kept=kept), table)
    return joined(named(table.name, feature.encode, unknown), rows)


def _fitted_back(spec: AggregateSpec, entity: str, dataset: Dataset, rows: Rows, predicted: Collection[str]) -> Fitted:
    return Fitted(spec, fit_aggregate(spec, entity, dataset, rows, predicted))


def _fitted(spec: FeatureSpec, rows: pa.Table, whole: Table) -> Fitted:
    try:
        return Fitted(spec, spec.fit(rows))
    except DataError as error:
        named(whole.name, spec.fit, whole.data)  # fails too, but counts rows as the file does and not among these
        raise DataError(f"{whole.name}: {error}") from None


def training_rows(dataset: Dataset, entity: str, rows: Rows) -> Table:
    """The rows of an entity that some examples point to, each once; for examples, the rows themselves."""
    if entity == EXAMPLE:
        return replace(dataset.examples, data=dataset.examples.data.take(pa.array(rows)), first_row=0)
    if entity not in dataset.entities:
        return Table(training_keys(dataset, entity, rows), dataset.examples.name, 0)
    source = dataset.entities[entity]
    keys = Vocabulary.fit(dataset.labelled(entity, rows))
    used = np.flatnonzero(keys.encode(source.table.data.column(source.key).combine_chunks()))
    return replace(source.table, data=source.table.data.take(pa.array(used)), first_row=0)


def training_keys(dataset: Dataset, entity: str, rows: Rows) -> pa.Table:
    """A one-column table with the key of each example, under the entity's key name."""
    key = dataset.entities[entity].key if entity in dataset.entities else entity
    return pa.table({key: dataset.labelled(entity, rows)})


def named(source: str, function: Any, *arguments: Any) -> Any:
    """Call a function; a data error it raises gets the name of the table in front."""
    try:
        return function(*arguments)
    except DataError as error:
        raise DataError(f"{source}: {error}") from None


def _type_of(table: pa.Table, name: str) -> pa.DataType:
    return table.schema.field(name).type if name in table.column_names else pa.null()

"""What a data set is made of: an example table, entity tables, tables given apart, the split, and what is learned from."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from towerkit.core.errors import listed
from towerkit.core.spec import Name, Spec
from towerkit.data.events import EventSpec
from towerkit.data.learning import DecaySpec, Duplicates, MinCountSpec
from towerkit.data.logs import LogSpec
from towerkit.data.readers import SourceSpec
from towerkit.data.roles import EXAMPLE
from towerkit.data.rules import parse_rule
from towerkit.data.search.spec import DOCUMENT, QUERY, RELEVANCE, CollectionSpec, Grades, codes_as_texts
from towerkit.data.split_specs import (
    AnySplit,
    GivenSplit,
    GroupedSplit,
    LeaveLastSplit,
    PerQuerySplit,
    RandomSplit,
    SplitSpec,
    TimeSplit,
)


class StreamSpec(Spec):
    """How a log that need not fit into memory is read."""

    cache: str | None = Field(default=None, min_length=1)
    """Folder of the encoded log, which the next training of the same files finds again; the user's folder for caches when not
    given. It may be deleted at any time that no training runs."""


class ExamplesSpec(SourceSpec):
    """The example table: one row per event, pair or labelled object."""

    query: str | None = None
    """Column with the key of the query entity (a user, a search, a session)."""
    candidate: str | None = None
    """Column with the key of the candidate entity (an item, a document, an ad)."""
    time: str | None = None
    """Column with the time of the example."""
    weight: str | None = None
    """Column with the weight of the example in the loss."""
    event: EventSpec | None = None
    """What kinds of event weigh; multiplied with ``weight`` when both are given."""
    positive: str | None = Field(default=None, max_length=1000)
    """Which rows are pairs at all, for example ``rating >= 4``; the others are left out of every part."""
    relevance: str | None = None
    """Column with the grade of a judged pair, 0 or more; a pair of grade 0 is judged and no pair, in any part."""
    grades: Grades | None = Field(default=None, min_length=1)
    """The grade that each value of ``relevance`` stands for, where the value is none itself."""
    stream: StreamSpec | None = None
    """``true``: read Parquet once, encode it on disk and train from there; the rows are never all in memory."""

    @field_validator("grades", mode="before")
    @classmethod
    def _codes_are_texts(cls, grades: Any) -> Any:
        return codes_as_texts(grades)

    @field_validator("stream", mode="before")
    @classmethod
    def _stream_is_yes_or_no(cls, stream: Any) -> Any:
        return ({} if stream else None) if isinstance(stream, bool) else stream

    @field_validator("positive")
    @classmethod
    def _positive_is_a_rule(cls, positive: str | None) -> str | None:
        if positive is not None:
            parse_rule(positive)
        return positive

    @model_validator(mode="after")
    def _grades_have_their_column(self) -> ExamplesSpec:
        if self.grades is not None and self.relevance is None:
            raise ValueError("'grades' says what the values of the relevance column stand for; name it in 'relevance'.")
        return self


class EntitySpec(SourceSpec):
    """A table with one row per entity; its name in the spec is the example column that points to it."""

    key: str | None = None
    """Column that holds the key; the entity's name when not given."""
    title: str | None = None
    """Column shown to people beside the key."""


_READ_ALIKE = ("format", "separator", "encoding", "header", "names", "quoted", "decimal")
_NOT_STREAMED = ("weight", "event", "positive", "relevance", "sql", "names", "separator")


def _examples_or_collection(schema: dict[str, Any]) -> None:
    schema["required"] = [name for name in schema.get("required", ()) if name != "examples"]
    schema["anyOf"] = [{"required": ["examples"]}, {"required": ["collection"]}]


class DataSpec(Spec):
    """Where the data lies, which column plays which role, how it is split, and which training rows are learned from."""

    model_config = ConfigDict(json_schema_extra=_examples_or_collection)

    examples: ExamplesSpec
    collection: CollectionSpec | None = None
    """A search collection, which takes the place of ``examples`` and ``entities``."""
    validation: SourceSpec | None = None
    """A validation table given apart; the split then cuts no validation part."""
    test: SourceSpec | None = None
    """A test table given apart; the split then cuts only a validation part."""
    entities: dict[str, EntitySpec] = Field(default_factory=dict)
    logs: dict[Name, LogSpec] = Field(default_factory=dict)
    """What happened to whom and when, for features that look back from the moment of a row."""
    split: SplitSpec | None = None
    """``grouped`` by query for a collection, ``time`` when there is a time column, else ``per_query`` for pairs and
    ``random`` for rows."""
    decay: DecaySpec | None = None
    """Older training rows weigh less."""
    duplicates: Duplicates = "keep"
    """A pair in several training rows: all, the first, the last, or one row with the sum of their weights."""
    min_count: MinCountSpec | None = None
    """Training rows of rarer keys are left out, in one pass."""
    k_core: int | None = Field(default=None, ge=2)
    """Training rows are left out until every query and every candidate has so many."""
    filter_on: Literal["train", "all"] = "train"
    """Which rows ``min_count`` and ``k_core`` see and take from: with ``all`` it is every row, before the split."""

    @model_validator(mode="before")
    @classmethod
    def _collection_takes_the_place_of_tables(cls, data: Any) -> Any:
        given = data.get("collection") if isinstance(data, dict) else None
        if given is None:
            return data
        collection = CollectionSpec.model_validate(given)
        own: dict[str, Any] = {
            "path": collection.files().qrels,
            "query": QUERY,
            "candidate": DOCUMENT,
            "relevance": RELEVANCE,
        }
        if collection.grades is not None:
            own["grades"] = collection.grades
        examples = data.get("examples") or {}
        if isinstance(examples, Spec):
            examples = examples.model_dump(exclude_unset=True)
        for key, value in own.items():
            if examples.get(key, value) != value:
                raise ValueError(
                    f"the examples of a collection are its judgements, so examples.{key} is '{value}'; received "
                    f"'{examples[key]}'. Remove examples, or give tables of your own in place of the collection."
                )
        if data.get("entities"):
            raise ValueError(
                f"a collection brings its own tables '{QUERY}' and '{DOCUMENT}'; received entities "
                f"{listed(data['entities'])}. Remove entities, or give tables of your own in place of the collection."
            )
        return {**data, "collection": collection, "examples": {**examples, **own}}

    @model_validator(mode="before")
    @classmethod
    def _given_tables_take_the_place_of_shares(cls, data: Any) -> Any:
        split = data.get("split") if isinstance(data, dict) else None
        if isinstance(split, Spec):  # built in Python: the default share counts as not given, as in a file
            split = {"kind": split.model_dump()["kind"], **split.model_dump(exclude_unset=True)}
        if not (data and isinstance(split, dict)):
            return data
        for part in ("validation", "test"):
            if data.get(part) is None:
                continue
            if split.get(part):
                raise ValueError(
                    f"a {part} table is given, so split.{part} must be absent or 0; received {split[part]}. "
                    "Remove one of the two."
                )
            if split.get("kind") != "given":  # which cuts nothing by itself
                split = {**split, part: False if split.get("kind") == "leave_last" else 0.0}
        if split.get("kind") == "leave_last" and data.get("validation") is not None and data.get("test") is not None:
            split = {"kind": "given"}  # nothing is left to cut
        return {**data, "split": split}

    @model_validator(mode="after")
    def _tables_given_apart_are_read_as_the_examples(self) -> DataSpec:
        """Unless they say otherwise. Written out here, so that a spec that was stored reads what it read."""
        inherited = self.examples.model_dump(include=set(_READ_ALIKE))
        for part in ("validation", "test"):
            source = getattr(self, part)
            if source is not None:
                given = source.model_dump(exclude_unset=True)
                object.__setattr__(self, part, SourceSpec.model_validate({**inherited, **given}))
        return self

    @model_validator(mode="after")
    def _entities_differ_and_are_not_the_example_rows(self) -> DataSpec:
        query, candidate = self.examples.query, self.examples.candidate
        if query is not None and query == candidate:
            raise ValueError(
                f"the query and the candidate must be two columns; received '{query}' for both. Copy the column under "
                "another name if a thing is matched with its own kind."
            )
        if EXAMPLE in (query, candidate, *self.entities):
            raise ValueError(
                f"'{EXAMPLE}' is what the example rows themselves are called, so no query, candidate or entity can have "
                "that name. Rename the column."
            )
        return self

    @model_validator(mode="after")
    def _settings_have_their_columns(self) -> DataSpec:
        least = self.min_count or MinCountSpec()
        for setting, is_set, needed in (
            ("examples.positive", self.examples.positive is not None, ("query", "candidate")),
            ("examples.relevance", self.examples.relevance is not None, ("query", "candidate")),
            ("duplicates", self.duplicates != "keep", ("query", "candidate")),
            ("k_core", self.k_core is not None, ("query", "candidate")),
            ("min_count.query", least.query > 1, ("query",)),
            ("min_count.candidate", least.candidate > 1, ("candidate",)),
            ("decay", self.decay is not None, ("time",)),
        ):
            missing = [role for role in needed if getattr(self.examples, role) is None]
            if is_set and missing:
                raise ValueError(f"'{setting}' needs examples.{missing[0]}; name that column, or remove '{setting}'.")
        return self

    @model_validator(mode="after")
    def _a_stream_goes_alone(self) -> DataSpec:
        if self.examples.stream is None:
            return self
        for role in ("query", "candidate"):
            if getattr(self.examples, role) is None:
                raise ValueError(f"'examples.stream' reads pairs; name the column in examples.{role}.")
        for name, is_set in {
            "collection": self.collection is not None,
            "validation": self.validation is not None,
            "test": self.test is not None,
            "entities": bool(self.entities),
            "logs": bool(self.logs),
            "decay": self.decay is not None,
            "duplicates": self.duplicates != "keep",
            "min_count": self.min_count is not None,
            "k_core": self.k_core is not None,
            "filter_on": self.filter_on != "train",
            **{f"examples.{key}": getattr(self.examples, key) is not None for key in _NOT_STREAMED},
            "examples.format": self.examples.format not in ("auto", "parquet"),
        }.items():
            if is_set:
                raise ValueError(
                    f"'{name}' needs the rows in memory, and 'examples.stream' never has them there together. Remove one of the "
                    "two, or do it when the Parquet files are written."
                )
        self._check_streamed_split(self.resolved_split())
        return self

    def _check_streamed_split(self, split: AnySplit) -> None:
        may = "time, per_query, random and grouped (by the query)"
        if isinstance(split, LeaveLastSplit | GivenSplit) or (
            isinstance(split, GroupedSplit) and split.column is not None
        ):
            raise ValueError(
                f"'examples.stream' splits rows it has not all in memory, by {may}; received split.kind '{split.kind}'"
                f"{' with a column' if isinstance(split, GroupedSplit) else ''}. Choose one of these."
            )
        if isinstance(split, TimeSplit) and (self.examples.time is None or split.time_missing != "refuse"):
            raise ValueError(
                "a time split of a stream needs examples.time and a time in every row (time_missing: refuse); received "
                f"time {self.examples.time!r} and time_missing '{split.time_missing}'. Name the column and fill the times."
            )

    @model_validator(mode="after")
    def _given_parts_are_given(self) -> DataSpec:
        split = self.split
        if not isinstance(split, GivenSplit):
            return self
        tables = [name for name in ("validation", "test") if getattr(self, name) is not None]
        if split.column is None and not tables and not split.validation:
            raise ValueError(
                "a given split takes the parts from the data: give the table data.test (or data.validation), or name the "
                "column that says train, validation or test in split.column."
            )
        if split.column is not None and tables:
            raise ValueError(
                f"the parts are given twice, by the column '{split.column}' and by a {tables[0]} table. Remove one of the two."
            )
        return self

    def resolved_split(self) -> AnySplit:
        """The split that will be made, with the default chosen from the roles."""
        if self.split is not None:
            return self.split
        if self.test is not None and self.validation is not None:
            return GivenSplit()
        test = 0.0 if self.test is not None else 0.1
        validation = 0.0 if self.validation is not None else 0.1
        if self.collection is not None:
            return GroupedSplit(validation=validation, test=test)
        if self.examples.time is not None:
            return TimeSplit(validation=validation, test=test)
        if self.examples.query is not None:
            return PerQuerySplit(validation=validation, test=test)
        return RandomSplit(validation=validation, test=test)

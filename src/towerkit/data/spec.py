"""What a data set is made of: an example table, entity tables, an optional test table, and the split."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from towerkit.core.spec import Spec
from towerkit.data.readers import SourceSpec
from towerkit.data.roles import EXAMPLE

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


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


class EntitySpec(SourceSpec):
    """A table with one row per entity; its name in the spec is the example column that points to it."""

    key: str | None = None
    """Column that holds the key; the entity's name when not given."""
    title: str | None = None
    """Column shown to people beside the key."""


def _leave_training_rows(validation: float, test: float) -> None:
    if validation + test >= 1.0:
        raise ValueError(
            "validation and test together must be below 1, so that rows are left for training; received "
            f"validation {validation} and test {test}. Lower one of the two."
        )


class TimeSplit(Spec):
    """Everything after a moment is test, the stretch before it validation."""

    kind: Literal["time"] = "time"
    validation: Fraction = 0.1
    test: Fraction = 0.1

    @model_validator(mode="after")
    def _rows_are_left(self) -> TimeSplit:
        _leave_training_rows(self.validation, self.test)
        return self


class PerQuerySplit(Spec):
    """A random share of every query's rows; at least one row of each query stays in training."""

    kind: Literal["per_query"] = "per_query"
    validation: Fraction = 0.1
    test: Fraction = 0.0


class RandomSplit(Spec):
    """A random share of all rows."""

    kind: Literal["random"] = "random"
    validation: Fraction = 0.1
    test: Fraction = 0.1

    @model_validator(mode="after")
    def _rows_are_left(self) -> RandomSplit:
        _leave_training_rows(self.validation, self.test)
        return self


SplitSpec = Annotated[TimeSplit | PerQuerySplit | RandomSplit, Field(discriminator="kind")]


class DataSpec(Spec):
    """Where the data lies, which column plays which role, and how it is split."""

    examples: ExamplesSpec
    test: SourceSpec | None = None
    """A test table given apart; the split then cuts only a validation part."""
    entities: dict[str, EntitySpec] = Field(default_factory=dict)
    split: SplitSpec | None = None
    """``time`` when there is a time column, else ``per_query`` for pairs and ``random`` for rows."""

    @model_validator(mode="before")
    @classmethod
    def _given_test_takes_the_place_of_a_test_share(cls, data: Any) -> Any:
        split = data.get("split") if isinstance(data, dict) else None
        if isinstance(split, Spec):  # built in Python: the default share counts as not given, as in a file
            split = {"kind": split.model_dump()["kind"], **split.model_dump(exclude_unset=True)}
        if data and isinstance(split, dict) and data.get("test") is not None:
            if split.get("test"):
                raise ValueError(
                    f"a test table is given, so split.test must be absent or 0; received {split['test']}. "
                    "Remove one of the two."
                )
            return {**data, "split": {**split, "test": 0.0}}
        return data

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

    def resolved_split(self) -> TimeSplit | PerQuerySplit | RandomSplit:
        """The split that will be made, with the default chosen from the roles."""
        if self.split is not None:
            return self.split
        share = 0.0 if self.test is not None else 0.1
        if self.examples.time is not None:
            return TimeSplit(test=share)
        if self.examples.query is not None:
            return PerQuerySplit(test=share)
        return RandomSplit(test=share)

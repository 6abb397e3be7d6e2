"""What each call answers, for the description of the service and for clients."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class _Answer(BaseModel):
    model_config = ConfigDict(extra="allow", protected_namespaces=())


class Share(_Answer):
    """Something that the query met, and its part in the score."""

    item: str | int
    share: float


class Why(_Answer):
    """Shares that sum to the score, and what rules did."""

    towers: dict[str, float]
    """Of each tower of the query side."""
    base: float | None = None
    """What a stranger's score is, where shares are told beside it."""
    history: list[Share] | None = None
    """Parts of the towers' shares."""
    rules: list[dict[str, Any]] = []


class Item(_Answer):
    """One answer."""

    item: str | int | float | bool
    rank: int
    score: float
    title: Any = None
    why: Why | None = None


class Stamped(_Answer):
    """What every answer of a model says of it."""

    model: str
    model_version: str


class Recommended(Stamped):
    """The best candidates, best first."""

    items: list[Item]
    cold: bool
    as_of: int | None = None
    """The place in the log of the last event of the query that is counted in."""
    notes: list[str]


class Likened(Stamped):
    """The most similar ones, best first."""

    items: list[Item]
    notes: list[str]


class PairScore(_Answer):
    """The score of a pair."""

    query: str | int
    item: str | int
    score: float
    cold: bool


class Scored(Stamped):
    """Scores, in the order of the pairs."""

    scores: list[PairScore]


class Predicted(Stamped):
    """The tasks of each row."""

    rows: list[dict[str, Any]]
    notes: list[str]


class Embedded(Stamped):
    """Vectors, in the order of the rows."""

    vectors: list[list[float]]
    space: str | None


class Told(_Answer):
    """What became of an event."""

    id: str
    status: str
    reason: str | None = None


class Kept(_Answer):
    """What became of events; all of them are on disk."""

    model: str
    events: list[Told]


class Taken(_Answer):
    """How many candidates there are now."""

    model: str
    model_version: str
    candidates: int
    durable: bool


class Forgotten(_Answer):
    """What is gone."""

    events: int


class Models(_Answer):
    """The served models."""

    models: list[dict[str, Any]]


class Shadowed(_Answer):
    """What copies of requests have shown of a candidate."""

    compared: int
    overlap: float
    slowdown: float


class Swapped(_Answer):
    """What is served now, and what was before."""

    model: str
    model_version: str
    previous_version: str
    shadow: Shadowed | None = None


class Health(_Answer):
    """Whether the service lives, or is ready."""

    status: str


class Fault(_Answer):
    """The rule, what was received, the next step."""

    rule: str
    received: str
    next: str


class Refusal(_Answer):
    """The body of every answer that is none."""

    error: Fault

"""What each call takes. Everything that is not named here is refused, and every list and text has a longest length."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from towerkit.serving.settings import NAME

MOST_ANSWERS, MOST_HISTORY, MOST_ROWS, MOST_KEYS, MOST_EVENTS = 1_000, 1_000, 1_000, 10_000, 1_000
LONGEST_KEY, LONGEST_TEXT, MOST_COLUMNS = 256, 20_000, 500


def _a_number(value: Any) -> Any:
    if isinstance(value, bool | str):
        raise ValueError("must be a number")
    return value


def _plain(text: str) -> str:
    if text.isprintable():  # the quick way for nearly all
        return text
    if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in text):
        raise ValueError("must hold no control characters")
    return text


def _key(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("must be a text or a whole number")
    return value


Text = Annotated[str, Field(max_length=LONGEST_KEY, min_length=1), AfterValidator(_plain)]
Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Key = Annotated[Text | Whole, Field(union_mode="left_to_right"), BeforeValidator(_key)]
"""The key of a query or a candidate, as the data has it."""
ModelName = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
Count = Annotated[int, Field(ge=1, le=MOST_ANSWERS), BeforeValidator(_a_number)]
Number = Annotated[float, Field(ge=-1e12, le=1e12, allow_inf_nan=False), BeforeValidator(_a_number)]
Condition = Annotated[str, Field(max_length=2_000, min_length=1), AfterValidator(_plain)]
Keys = Annotated[list[Key], Field(max_length=MOST_KEYS)]


def _value(value: Any) -> Any:
    """A cell of a raw row."""
    many = value if isinstance(value, list) else [value]
    if len(many) > MOST_HISTORY or any(isinstance(each, dict | list) for each in many):
        raise ValueError(f"must be a text, a number, true, false, null, or a list of up to {MOST_HISTORY:,} of these")
    for each in many:
        if isinstance(each, str) and (len(each) > LONGEST_TEXT or "\x00" in each):
            raise ValueError(f"must be a text of up to {LONGEST_TEXT:,} characters, none of them NUL")
        if isinstance(each, int) and not -(2**63) <= each < 2**63:
            raise ValueError("must be a number of 64 bits")
    return value


Column = Annotated[str, Field(min_length=1, max_length=LONGEST_KEY), AfterValidator(_plain)]
Cell = Annotated[
    str | int | float | bool | list[Any] | None, BeforeValidator(_value), Field(union_mode="left_to_right")
]
Row = Annotated[dict[Column, Annotated[Any, BeforeValidator(_value)]], Field(min_length=1, max_length=MOST_COLUMNS)]
"""Columns and values, as a row of the data has them."""


class _Strict(BaseModel):
    """What a caller sends: nothing that is unknown, no number that is none."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class Body(_Strict):
    """The base of all bodies."""

    model: ModelName | None = None
    """Which of the served models; the first one when not given."""


class Cap(_Strict):
    """At most so many answers of one value of a column."""

    column: Column
    most: Count


class Boost(_Strict):
    """Add to the score of the candidates that hold a condition."""

    where: Condition
    add: Number


class Pin(_Strict):
    """A candidate that stands at a place, whatever its score."""

    item: Key
    place: Count


class Rules(_Strict):
    """What the business wants beside what the model says."""

    diversity: Annotated[float, Field(ge=0.0, le=1.0), BeforeValidator(_a_number)] = 0.0
    """Share of unlikeness to what stands above (maximal marginal relevance); 0 leaves the order of scores."""
    caps: Annotated[list[Cap], Field(max_length=8)] = []
    boosts: Annotated[list[Boost], Field(max_length=16)] = []
    pinned: Annotated[list[Pin], Field(max_length=32)] = []
    in_stock: Column | None = None
    """A column of the candidates; one is kept where the column is true, or a number above 0."""


class Recommend(Body):
    """Ask for the best candidates: of a known query, of a raw row, or after a history."""

    query: Key | None = None
    features: Row | None = None
    history: Annotated[list[Key], Field(min_length=1, max_length=MOST_HISTORY)] | None = None
    k: Count = 10
    exclude_seen: bool = True
    allow: Keys | None = None
    deny: Keys | None = None
    where: Condition | None = None
    rules: Rules | None = None
    why: bool = False

    @model_validator(mode="after")
    def _one_question(self) -> Recommend:
        given = (self.query is not None) + (self.features is not None) + (self.history is not None)
        if given != 1:
            raise ValueError(f"give exactly one of query, features and history, not {given}")
        return self


class Similar(Body):
    """Ask for candidates like a candidate, or queries like a query."""

    item: Key | None = None
    query: Key | None = None
    k: Count = 10
    allow: Keys | None = None
    deny: Keys | None = None
    where: Condition | None = None

    @model_validator(mode="after")
    def _one_question(self) -> Similar:
        if (self.item is None) == (self.query is None):
            raise ValueError("give exactly one of item and query")
        if self.query is not None and not (self.allow is None and self.deny is None and self.where is None):
            raise ValueError("allow, deny and where choose candidates; leave them out when queries are asked for")
        return self


class Pair(_Strict):
    """A query and a candidate."""

    query: Key
    item: Key


class Score(Body):
    """Ask for the scores of pairs."""

    pairs: Annotated[list[Pair], Field(min_length=1, max_length=MOST_ROWS)]


class Predict(Body):
    """Ask for the tasks of raw rows."""

    rows: Annotated[list[Row], Field(min_length=1, max_length=MOST_ROWS)]


class Embed(Body):
    """Ask for vectors of raw rows, or of rows of keys."""

    rows: Annotated[list[Row], Field(min_length=1, max_length=MOST_ROWS)]
    side: Literal["query", "candidate"] | None = None


class Event(_Strict):
    """Somebody met something."""

    id: Text
    """Of the event, not of what happened: sent twice, it counts once."""
    query: Key
    item: Key
    time: Annotated[float, Field(ge=0.0, le=1e11, allow_inf_nan=False), BeforeValidator(_a_number)] | None = None
    """Seconds since 1970; when it came, if not given."""


class Events(Body):
    """Tell what happened; the answer comes when it is safe on disk."""

    events: Annotated[list[Event], Field(min_length=1, max_length=MOST_EVENTS)]


class Items(Body):
    """Tell of new candidates, or of new values of known ones."""

    items: Annotated[list[Row], Field(min_length=1, max_length=MOST_ROWS)]


class Shadow(_Strict):
    """Let a candidate answer copies of requests before it answers any, and say what it must reach."""

    share: Annotated[float, Field(ge=0.0, le=1.0), BeforeValidator(_a_number)]
    """Of the requests for recommendations that a copy is made of; 0 makes none."""
    requests: Annotated[int, Field(ge=1, le=10_000), BeforeValidator(_a_number)] = 100
    """So many copies are compared."""
    seconds: Annotated[float, Field(gt=0.0, le=600.0), BeforeValidator(_a_number)] = 60.0
    """Time in which they must have come."""
    overlap: Annotated[float, Field(ge=0.0, le=1.0), BeforeValidator(_a_number)] = 0.1
    """Share of the answers of the served model that the candidate must give too, the mean over the copies."""
    slowdown: Annotated[float, Field(ge=1.0, le=1_000.0), BeforeValidator(_a_number)] = 3.0
    """So many times as long as the served model may the candidate work for an answer, by the medians."""


class Swap(_Strict):
    """Put another Run in the place of the one that is served."""

    candidate: ModelName
    shadow: Shadow | None = None
    """As the service was started, when not given."""

"""Questions of the Try it page to a model that ranks: what the page sends, and the engine of the service that answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from towerkit.data.table import values_of
from towerkit.features.encoded import Catalogue
from towerkit.models.answer import Retriever
from towerkit.serving.engine import Engine
from towerkit.serving.live import Live
from towerkit.serving.problems import Problem
from towerkit.serving.recommending import recommend
from towerkit.serving.requests import Condition, Key, Recommend, Rules
from towerkit.studio.opened import Missing, Opened

MOST_FOUND = 12
_MAGIC = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif", b"RIFF": "image/webp"}
_LOOKED_AT = 50


class Strict(BaseModel):
    """What a page sends: nothing that is unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Find(Strict):
    """Look for queries or candidates by a part of their key or title."""

    side: Annotated[str, Field(pattern="^(query|candidate)$")]
    text: Annotated[str, Field(max_length=200)]


class Question(Strict):
    """A question for recommendations; one of query, features and history."""

    query: Key | None = None
    features: dict[str, Any] | None = None
    history: Annotated[list[Key], Field(max_length=200)] | None = None
    k: Annotated[int, Field(ge=1, le=50)] = 10
    where: Condition | None = None
    exclude_seen: bool = True
    diversity: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    why: bool = True


def engine_of(opened: Opened, ranking: str) -> Engine:
    """What answers for a Run, or for one ranking of a joint one.

    Raises:
        Missing: If it does not rank that.
    """
    several = opened.engines
    found = next(iter(several.values())) if len(several) == 1 else several.get(ranking.lower())
    if found is None or found.live is None:
        raise Missing(f"{opened.entry.name} does not rank {ranking or 'candidates'}.")
    return found


def live_of(engine: Engine) -> Live:
    """The model that ranks."""
    return engine.ranking("recommend")


def answered(engine: Engine, question: Question) -> dict[str, Any]:
    """The answer to a question, with its shares where the model can tell them.

    Raises:
        Problem: If the question does not fit the model.
    """
    given: dict[str, Any] = {"query": question.query, "features": question.features, "history": question.history}
    given = {name: value for name, value in given.items() if value is not None}
    rules = Rules(diversity=question.diversity) if question.diversity else None
    why = question.why and isinstance(live_of(engine).model, Retriever)
    try:
        body = Recommend(
            **given, k=question.k, where=question.where, exclude_seen=question.exclude_seen, rules=rules, why=why
        )
    except ValueError:
        raise Problem(422, "A question names one asker.", "none, or several", "Choose who asks.") from None
    found = recommend(engine, [body])[0]
    if isinstance(found, Problem):
        raise found
    return found


def found(engine: Engine, wanted: Find) -> list[tuple[str, str]]:
    """Keys and titles that hold a text, those that begin with it first."""
    model = live_of(engine).model
    catalogue = model.query if wanted.side == "query" else model.candidate
    entity = model.query_entity if wanted.side == "query" else model.candidate_entity
    keys = catalogue.keys.cast(pa.string()) if not pa.types.is_binary(catalogue.keys.type) else None
    if keys is None:
        return []
    titles = titles_of(catalogue, model.titles.get(entity))
    texts = keys if titles is None else pc.binary_join_element_wise(keys, pc.fill_null(titles, ""), " ")
    text = wanted.text.strip().lower()
    lower = pc.utf8_lower(texts)
    places = pc.indices_nonzero(pc.match_substring(lower, text)).to_pylist()
    names = [
        (keys[place].as_py(), titles[place].as_py() or "" if titles is not None else "") for place in places[:2000]
    ]
    names.sort(key=lambda pair: not (pair[0].lower().startswith(text) or pair[1].lower().startswith(text)))
    return names[:MOST_FOUND]


def titles_of(catalogue: Catalogue, column: str | None) -> pa.Array | None:
    """``[rows]`` the titles of a catalogue as texts; None where it has none."""
    data = catalogue.table.data
    if column is None or column not in data.column_names:
        return None
    return values_of(data, column).cast(pa.string())


def picture_column(catalogue: Catalogue) -> str | None:
    """The column of a catalogue that holds pictures as bytes; None where none does."""
    data = catalogue.table.data
    for name in data.column_names:
        if pa.types.is_binary(data.schema.field(name).type):
            some = data.column(name).slice(0, _LOOKED_AT).drop_null().to_pylist()
            if some and all(kind_of_picture(each) for each in some):
                return name
    return None


def kind_of_picture(content: bytes) -> str:
    """The type of a picture by how it begins; empty where it is none that browsers show."""
    return next((kind for begin, kind in _MAGIC.items() if content.startswith(begin)), "")


def picture_of(engine: Engine, side: str, row: int) -> tuple[bytes, str]:
    """The picture of a row of a catalogue, and its type.

    Args:
        engine: Of a model that ranks.
        side: ``query`` or ``candidate``.
        row: From 1.

    Raises:
        Missing: If there is none.
    """
    model = live_of(engine).model
    catalogue = model.query if side == "query" else model.candidate
    column = picture_column(catalogue)
    if column is None or not 1 <= row <= catalogue.table.data.num_rows:
        raise Missing("There is no such picture.")
    content = catalogue.table.data.column(column)[row - 1].as_py()
    kind = kind_of_picture(content or b"")
    if not kind:
        raise Missing("There is no such picture.")
    return content, kind


def features_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as a question has it: what is empty is missing."""
    return {name: None if value == "" else value for name, value in row.items()}

"""Twenty queries as a person reads them: what each had, what it is recommended, and which of that it then met."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from towerkit.core.random import generator
from towerkit.data.dataset import Dataset
from towerkit.data.splits import Rows
from towerkit.data.table import values_of
from towerkit.data.times import times_of
from towerkit.models.joint import for_candidate
from towerkit.reporting.blocks import Example, Examples, Item, Listing, Part, Section, Words
from towerkit.reporting.subject import Subject
from towerkit.run import Run
from towerkit.trained import RankingModel

_ANSWERS, _HISTORY = 10, 8
_FACTS = 4
"""Columns of a query that are shown."""


@dataclass(frozen=True)
class Asked:
    """Examples of one ranking, and how long each answer took."""

    part: Part
    seconds: tuple[float, ...]


def recommendations(subject: Subject, count: int, seed: int) -> tuple[Section, dict[str, tuple[float, ...]]]:
    """Examples of every ranking of a Run.

    Args:
        subject: A Run that ranks.
        count: Queries of each ranking.
        seed: Draws them.

    Returns:
        The section, and what was asked -> seconds that each answer took.
    """
    run, parts, seconds = subject.run, [], {}
    for name in run.rankings or [""]:
        asked = _asked(run.ranking(name) if name else run, subject, name, count, seed)
        parts.append(asked.part)
        seconds[f"recommend ({name})" if name else "recommend"] = asked.seconds
    return Section(subject.anchor("examples"), subject.title("Examples"), tuple(parts)), seconds


def _asked(run: Run, subject: Subject, name: str, count: int, seed: int) -> Asked:
    keys = run.evaluation.details["ranking"].column("query").to_pylist()
    chosen = sorted(generator(seed, "report", "queries").permutation(len(keys))[:count].tolist())
    queries = [keys[place] for place in chosen]
    model = run.model
    assert isinstance(model, RankingModel)
    known = _Known.of(subject, model, queries, name)
    exclude = bool(run.spec["evaluation"].get("exclude_seen", True))
    examples, seconds = [], []
    for query in queries:
        start = time.perf_counter()
        answers = run.recommend(query, k=_ANSWERS, exclude_seen=exclude)
        seconds.append(time.perf_counter() - start)
        examples.append(_example(model, query, answers, known))
    words = f"{len(queries):,} of {len(keys):,} queries of the {run.evaluation.protocol['part']} part, drawn at random."
    words += f" {known.about}"
    return Asked(Part(name, (Words(words), Examples(tuple(examples)))), tuple(seconds))


@dataclass(frozen=True)
class _Known:
    """What is known of some queries, by key."""

    history: Mapping[Any, Sequence[Any]]
    held_out: Mapping[Any, Sequence[Any]]
    titles: Mapping[Any, str]
    """Candidate -> its title, of those that are not in the catalogue."""
    about: str
    """What is said of it above the examples."""

    @classmethod
    def of(cls, subject: Subject, model: RankingModel, queries: Sequence[Any], name: str) -> _Known:
        if subject.data is None:
            history = {query: stored_history(model, query) for query in queries}
            why = f"What they met later is not marked, since the data of the Run is not there: {subject.why_not}"
            return cls(history, {}, {}, why)
        dataset = for_candidate(subject.data.dataset, name) if name else subject.data.dataset
        rows = _among(dataset, np.intersect1d(subject.data.learned, _all(dataset)), model, queries)
        history = _by_query(dataset, rows, model, newest_first=True)
        later = _among(dataset, np.intersect1d(subject.data.rows, _all(dataset)), model, queries)
        if dataset.grades is not None:
            later = later[dataset.grades[later] > 0]
        told = "Marked are those that the query met in the held-out part, which the model has not seen."
        return cls(history, _by_query(dataset, later, model), _titles(dataset, model), told)


def _all(dataset: Dataset) -> Rows:
    return np.concatenate([dataset.parts.train, dataset.parts.validation, dataset.parts.test])


def _among(dataset: Dataset, rows: Rows, model: RankingModel, queries: Sequence[Any]) -> Rows:
    """Those of some rows that are of some queries."""
    keys = values_of(dataset.examples.data, model.query_entity).take(pa.array(rows))
    wanted = pa.array(queries).cast(keys.type)
    return rows[pc.is_in(keys, value_set=wanted).to_numpy(zero_copy_only=False)]


def _by_query(dataset: Dataset, rows: Rows, model: RankingModel, *, newest_first: bool = False) -> dict[Any, list[Any]]:
    """Query -> its distinct candidates; the latest one first, where times are known."""
    if newest_first:
        times = None if dataset.roles.time is None else times_of(dataset.examples, dataset.roles.time)[rows]
        order = np.argsort(-times, kind="stable") if times is not None else np.arange(len(rows))[::-1]
        rows = rows[order]
    columns = (
        values_of(dataset.examples.data, each).take(pa.array(rows))
        for each in (model.query_entity, model.candidate_entity)
    )
    found: dict[Any, dict[Any, None]] = {}
    for query, candidate in zip(*(column.to_pylist() for column in columns), strict=True):
        found.setdefault(query, {})[candidate] = None
    return {query: list(candidates) for query, candidates in found.items()}


def _titles(dataset: Dataset, model: RankingModel) -> dict[Any, str]:
    entity = dataset.entities.get(model.candidate_entity)
    if entity is None or entity.title is None:
        return {}
    columns = (values_of(entity.table.data, each).to_pylist() for each in (entity.key, entity.title))
    return {key: title for key, title in zip(*columns, strict=True) if title is not None}


def stored_history(model: RankingModel, query: Any) -> list[Any]:
    """What the Run itself keeps: the candidates that training saw with a query, in no order."""
    row = int(model.query.rows(pa.array([query]).cast(model.query.keys.type))[0])
    if not row:
        return []
    places = model.seen.indices[model.seen.indptr[row - 1] : model.seen.indptr[row]]
    return list(model.candidate.keys.take(pa.array(np.asarray(places, np.int64))).to_pylist())


def _example(model: RankingModel, query: Any, answers: pa.Table, known: _Known) -> Example:
    met = set(known.held_out.get(query, ()))
    key = next(
        name for name in answers.column_names if name in (model.candidate_entity, f"{model.candidate_entity}_key")
    )
    shown = answers.column(key).to_pylist()
    recommended = tuple(Item(_name(model, each, known), "✓ met later" if each in met else "") for each in shown)
    history = list(known.history.get(query, ()))
    before = tuple(Item(_name(model, each, known)) for each in history[:_HISTORY])
    more = f" ({_HISTORY} of {len(history):,})" if len(history) > _HISTORY else ""
    lists = [
        Listing(f"Had before{more}", before or (Item("nothing"),)),
        Listing("Recommended", recommended, is_ordered=True),
    ]
    missed = [each for each in known.held_out.get(query, ()) if each not in shown]
    if missed:
        few = tuple(Item(_name(model, each, known)) for each in missed[:_HISTORY])
        lists.append(Listing(f"Met later, not among these ({len(missed):,})", few))
    return Example(f"{model.query_entity} {query}", tuple(facts_of(model, query)), tuple(lists))


def _name(model: RankingModel, candidate: Any, known: _Known) -> str:
    """Its title and its key."""
    title, column = None, model.titles.get(model.candidate_entity)
    data = model.candidate.table.data
    if column is not None and column in data.column_names:
        row = int(model.candidate.rows(pa.array([candidate]).cast(model.candidate.keys.type))[0])
        title = data.column(column)[row - 1].as_py() if row else None
    title = title or known.titles.get(candidate)
    return f"{title} ({candidate})" if title else str(candidate)


def facts_of(model: RankingModel, query: Any) -> list[tuple[str, str]]:
    """A few columns of the query's own row."""
    row = int(model.query.rows(pa.array([query]).cast(model.query.keys.type))[0])
    data = model.query.table.data
    if not row:
        return [("known", "no: answered as a stranger")]
    found = []
    for name in data.column_names:
        value = data.column(name)[row - 1].as_py()
        if name != model.query.key and isinstance(value, str | int | float) and not isinstance(value, bool):
            found.append((name, _cut(value)))
    return found[:_FACTS]


def _cut(value: object, most: int = 160) -> str:
    words = f"{value:.6g}" if isinstance(value, float) else str(value)
    return words if len(words) <= most else words[: most - 1] + "…"

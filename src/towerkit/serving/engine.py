"""One served model: it answers requests that wait together, as the Run answers them offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit import recommend as asking
from towerkit.core.errors import RunError, TowerkitError
from towerkit.data.table import Table, values_of
from towerkit.features.history import Events, given_events
from towerkit.features.image import FileSpec
from towerkit.index.contract import Index
from towerkit.index.files import open_index
from towerkit.index.ranker import Ranker, candidate_tie_order
from towerkit.index.vectors import VectorRanker
from towerkit.models.answer import Retriever, TaskPredictor
from towerkit.models.joint_retriever import JointRetriever
from towerkit.recommend.asked import keyed
from towerkit.recommend.keys import with_stored_columns
from towerkit.run import Run
from towerkit.serving.live import Live, table_of_rows
from towerkit.serving.problems import Problem, problem_of
from towerkit.serving.requests import Embed, Predict, Recommend, Score, Similar
from towerkit.serving.rules import Placed, needs_all_scores, placed
from towerkit.serving.shares import Asker, shares_of
from towerkit.serving.users import OnlineUsers, beta_of, history_of, parts_of, row_of
from towerkit.storage.hashes import content_hash
from towerkit.trained import RankingModel

Answer = dict[str, Any] | Problem


@dataclass
class _Prepared:
    """A request for recommendations on its way to the ranker."""

    body: Recommend
    live: Live
    row: int = 0
    """Of the ranker, where no vector stands in."""
    vector: NDArray[np.float32] | None = None
    seen: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Places of candidates, from 0."""
    cold: bool = False
    allowed: NDArray[np.bool_] | None = None
    ranker: Ranker | None = None
    """One of its own, where the model has no vectors to compare."""
    notes: list[str] = field(default_factory=list)
    table: Table | None = None
    """The raw row of the question."""
    met: list[int] | None = None
    """Rows of the candidates, from 1, of the history of the question."""


@dataclass(eq=False)
class Engine:
    """A loaded Run under a name. Asked by the inference thread only; ``live`` is replaced whole."""

    name: str
    version: str
    run: Run
    live: Live | None
    """None for a model that predicts."""
    users: OnlineUsers | None = None
    index: Index | None = None
    """Searched in place of all candidates, where one was given; row ``i`` is candidate ``i``."""

    @classmethod
    def load(cls, name: str, run: Run, index: Path | None = None) -> Engine:
        """Load the model of a verified Run.

        Args:
            name: What it is called.
            run: The Run, or one ranking of a joint one.
            index: The folder of an index of its candidates; None ranks all of them.

        Raises:
            RunError: If it cannot be loaded, or the index is one of other candidates or of another space.
        """
        model = run.model
        live = Live(run, model) if isinstance(model, RankingModel) else None
        users = None
        if isinstance(model, Retriever) and model.takes_history:
            users = OnlineUsers(model, beta_of(run.spec))
        return cls(name, version_of(run), run, live, users, None if index is None else _index_of(run, live, index))

    def warm(self) -> None:
        """Answer once, so that the first request finds everything loaded and compiled."""
        if self.live is None:
            return
        key = next(iter(self.live.query_rows), "0")
        for count in (1, 32):
            self.recommend([Recommend(query=key, k=10) for _ in range(count)])

    def describe(self) -> dict[str, Any]:
        """What it is, for a list of models."""
        told: dict[str, Any] = {"name": self.name, "model_version": self.version, "kind": self.run.kind}
        if self.live is None:
            return told | {"tasks": self.run.tasks}
        model = self.live.model
        return told | {
            "query": model.query_entity,
            "candidate": model.candidate_entity,
            "queries": len(model.query.keys),
            "candidates": len(model.candidate.keys),
            "online": self.users is not None,
            "index": "exact" if self.index is None else self.index.kind,
            "exact": self.live.ranker.exact if self.index is None else self.index.exact,
        }

    def stamped(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """An answer with the name and version of what gave it."""
        return {"model": self.name, "model_version": self.version, **content}

    def ranking(self, what: str) -> Live:
        """The model that ranks.

        Raises:
            Problem: If it does not rank.
        """
        if self.live is None:
            raise Problem(
                422,
                f"The model '{self.name}' is a {self.run.kind}: it predicts, and does not {what}.",
                "",
                "Use /v1/predict.",
            )
        return self.live

    def guarded(self, answer: Any) -> Answer:
        """What a function answers, or the problem that it met."""
        try:
            found: Answer = answer()
        except Problem as problem:
            return problem
        except TowerkitError as error:
            return problem_of(error, [(str(self.run.path), f"the model '{self.name}'")])
        return found

    # Recommendations ------------------------------------------------------------------------------------------------

    def recommend(self, asked: Sequence[Recommend]) -> list[Answer]:
        """The best candidates of each request; a fault of one is its own."""
        found: list[Answer | None] = [None] * len(asked)
        groups: dict[int, list[tuple[int, _Prepared]]] = {}
        for place, body in enumerate(asked):
            prepared = self._attempt(body)
            if isinstance(prepared, Problem):
                found[place] = prepared
            elif prepared.ranker is not None or needs_all_scores(body.rules):
                found[place] = self.guarded(lambda one=prepared: self._one(one))
            else:
                key = 0 if prepared.allowed is None else id(prepared.allowed)
                groups.setdefault(key, []).append((place, prepared))
        for group in groups.values():
            for (place, _), answer in zip(group, self._many([each for _, each in group]), strict=True):
                found[place] = answer
        return [each for each in found if each is not None]

    def _attempt(self, body: Recommend) -> _Prepared | Problem:
        try:
            return self._prepare(body)
        except Problem as problem:
            return problem
        except TowerkitError as error:
            return problem_of(error, [(str(self.run.path), f"the model '{self.name}'")])

    def _prepare(self, body: Recommend) -> _Prepared:
        live = self.ranking("recommend")
        prepared = _Prepared(body, live)
        if body.allow is not None or body.deny is not None or body.where is not None:
            choice = live.choice(body.allow, body.deny, body.where)
            prepared.allowed, prepared.notes = choice.allowed, [*choice.notes]
        if body.rules is not None and body.rules.in_stock is not None:
            stock = live.in_stock(body.rules.in_stock)
            prepared.allowed = stock if prepared.allowed is None else prepared.allowed & stock
        if body.query is not None:
            self._by_key(prepared, str(body.query))
        elif body.features is not None:
            self._by_features(prepared, body.features)
        else:
            self._by_history(prepared, body.history or [])
        return prepared

    def _by_key(self, prepared: _Prepared, key: str) -> None:
        live, row = prepared.live, prepared.live.query_rows.get(key, 0)
        prepared.row = row
        online = self.users is not None and key in self.users
        prepared.cold = row == 0 and not online
        if row:
            prepared.seen = _seen(live.model.seen, row)
        if isinstance(live.model, Retriever):
            vector = self.users.vector(live, key) if online and self.users is not None else None
            prepared.vector = live.model.query_vectors[row] if vector is None else vector
        if online and self.users is not None:
            prepared.seen = np.union1d(prepared.seen, self.users.seen(live, key))
        if prepared.cold:
            known = len(live.query_rows)
            prepared.notes.append(
                f"The query is not among the {known:,} known ones: the answer is the one for a stranger."
            )

    def _by_features(self, prepared: _Prepared, row: Mapping[str, Any]) -> None:
        _live, model = prepared.live, prepared.live.model
        if prepared.body.model_fields_set & {"history"}:
            raise Problem(422, "A history of a raw row is its column 'history'.", "history beside features", "")
        table = self.table([row], model.query_entity)
        asked = asking.by_rows(model, table)
        prepared.cold, prepared.notes = bool(asked.cold[0]), [*prepared.notes, *asked.notes]
        prepared.seen = asked.seen.indices.astype(np.int64)
        if asked.allow is not None or asked.deny is not None:
            raise Problem(422, "allow and deny stand beside the row.", "a column of it", "Put them into the request.")
        prepared.ranker, prepared.table = cast(Ranker, asked.ranker), table  # no index was handed over

    def _by_history(self, prepared: _Prepared, history: Sequence[Any]) -> None:
        live, model = prepared.live, prepared.live.model
        if not isinstance(model, Retriever) or not model.takes_history:
            raise Problem(
                422,
                f"The queries of the model '{self.name}' do not follow from what they met.",
                "a history",
                "Ask with query or features, or train with update: {kind: one_backprop} or a query tower {kind: history}.",
            )
        rows = live.rows_of_candidates(history, "history")
        prepared.vector = model.vector_of_history(rows)
        prepared.seen, prepared.met = np.unique(rows) - 1, rows.tolist()

    def _many(self, group: Sequence[_Prepared]) -> list[Answer]:
        """The answers of requests that differ in the query only, in one pass over the candidates."""
        live = group[0].live
        depth = min(max(each.body.k for each in group), len(live.keys))
        seen = [each.seen if each.body.exclude_seen else _NONE for each in group]
        if self.index is not None:
            vectors = np.stack([each.vector for each in group if each.vector is not None])
            hits = self.index.search(vectors, depth, allowed=self._of_index(live, group[0].allowed), exclude=seen)
        else:
            ranker, rows = _rankable(live, group)
            hits = ranker.rank(rows, depth, exclude=_excluded(seen, len(live.keys)), allowed=group[0].allowed)
        answers: list[Answer] = []
        for each, places, scores in zip(group, hits.rows, hits.scores.tolist(), strict=True):
            kept = places[: each.body.k]
            shown = [Placed(place, score) for place, score in zip(kept.tolist(), scores, strict=False) if place >= 0]
            answers.append(self.guarded(lambda each=each, shown=shown: self._told(each, shown)))
        return answers

    def _of_index(self, live: Live, allowed: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
        """A mask as long as the index, which may have rows of candidates that the model does not have yet."""
        assert self.index is not None
        spare = self.index.num_rows - len(live.keys)
        if allowed is None and not spare:
            return None
        mask = np.ones(len(live.keys), bool) if allowed is None else allowed
        return np.pad(mask, (0, spare))

    def install(self, live: Live) -> None:
        """Serve other candidates from now on.

        Args:
            live: The model with them; candidates that were there keep their places.
        """
        if self.index is not None and self.live is not None:
            new, old = live.retriever("an index has them"), self.live.retriever("an index has them")
            changed = np.ones(len(live.keys), bool)
            known = len(self.live.keys)
            changed[:known] = (new.candidate_vectors[1 : known + 1] != old.candidate_vectors[1:]).any(axis=1)
            places = np.flatnonzero(changed)
            if len(places):
                keys = new.candidate.keys.take(pa.array(places)).to_pylist()
                self.index.upsert(keys, new.candidate_vectors[places + 1])
        self.live = live

    def _one(self, each: _Prepared) -> dict[str, Any]:
        """The answer to a request that has a ranker of its own, or rules that need all scores."""
        ranker, rows = (each.ranker, np.zeros(1, np.int64)) if each.ranker is not None else _rankable(each.live, [each])
        assert ranker is not None
        seen = each.seen if each.body.exclude_seen else _NONE
        if each.body.rules is None or not needs_all_scores(each.body.rules):
            hits = ranker.rank(
                rows,
                min(each.body.k, ranker.num_candidates),
                exclude=_excluded([seen], ranker.num_candidates),
                allowed=each.allowed,
            )
            pairs = zip(hits.rows[0].tolist(), hits.scores[0].tolist(), strict=True)
            return self._told(each, [Placed(place, score) for place, score in pairs if place >= 0])
        scores = np.array(ranker.scores(rows)[0], np.float32)
        allowed = np.ones(len(scores), bool) if each.allowed is None else each.allowed.copy()
        allowed[seen] = False
        allowed &= scores > -np.inf
        ties = candidate_tie_order(len(scores))
        return self._told(each, placed(each.live, each.body.rules, scores, allowed, ties, each.body.k))

    def _told(self, each: _Prepared, shown: Sequence[Placed]) -> dict[str, Any]:
        live, notes = each.live, list(each.notes)
        titles = live.titles
        items = []
        for rank, one in enumerate(shown, start=1):
            item = {"item": live.keys[one.place], "rank": rank, "score": one.score}
            if titles is not None:
                item["title"] = titles[one.place]
            items.append(item)
        if len(shown) < each.body.k:
            notes.append(
                f"Fewer than the {each.body.k:,} answers asked for: {len(shown):,} of the {len(live.keys):,} candidates are left."
            )
        if each.body.why and shown:
            places = np.array([one.place for one in shown], np.int64)
            model = live.retriever("'why' needs them")
            shares = shares_of(model, self._asker(each), places, live.keys)
            for item, share, one in zip(items, shares, shown, strict=True):
                item["why"] = share | {"rules": one.rules}
        return self.stamped({"items": items, "cold": each.cold, "notes": notes})

    def _asker(self, each: _Prepared) -> Asker:
        """The query of a request as its towers see it."""
        live, model = each.live, each.live.retriever("'why' needs them")
        if each.met is not None:
            codes = given_events([model.candidate_codes[np.array(each.met)]]) if model.reads_history else None
            return self._with_means(model, row_of(model, 0), codes, each.met)
        if each.table is not None:
            table = with_stored_columns(
                model.query,
                model.encoder.columns(model.query_entity),
                keyed(model.query, model.query_entity, each.table),
            )
            if "history" in table.data.column_names and model.takes_history:
                met = live.rows_of_candidates(values_of(table.data, "history")[0].as_py() or [], "history").tolist()
                codes = given_events([model.candidate_codes[np.array(met, np.int64)]]) if model.reads_history else None
                return self._with_means(model, table, codes, met)
            row = int(model.query.rows(values_of(table.data, model.query.key))[0])
            return Asker(parts_of(model, table, _stored(model, row), None), _stored(model, row))
        user = None if self.users is None else self.users.user(str(each.body.query))
        if user is None or self.users is None:
            events = _stored(model, each.row)
            return Asker(parts_of(model, row_of(model, each.row), events, None), events)
        weights = [(live.candidate_rows[item], weight) for item, weight in self.users.weights(user)]
        return Asker(self.users.parts(live, user), history_of(live, user), weights)

    @staticmethod
    def _with_means(model: Retriever, table: Table, events: Events | None, met: Sequence[int]) -> Asker:
        ids = None
        if model.queries_average_candidates and met:
            ids = model.candidate_vectors[list(met)].mean(axis=0, dtype=np.float64).astype(np.float32)
        averaged = [(row, 1.0 / len(met)) for row in met] if ids is not None else []
        return Asker(parts_of(model, table, events, ids), events, averaged)

    # The other questions --------------------------------------------------------------------------------------------

    def similar(self, body: Similar) -> Answer:
        """The candidates most like a candidate, or the queries most like a query."""
        return self.guarded(lambda: self._similar(body))

    def _similar(self, body: Similar) -> dict[str, Any]:
        live = self.ranking("compare")
        model = live.retriever("likeness is measured by vectors")
        if body.item is not None:
            row = int(live.rows_of_candidates([body.item], "item")[0])
            ranker, vectors, keys = live.likeness, model.candidate_vectors, live.keys
            choice = live.choice(body.allow, body.deny, body.where)
        else:
            row = live.query_rows.get(str(body.query), 0)
            if not row:
                known = f"There are {len(live.query_rows):,} known queries."
                raise Problem(422, known, repr(body.query), "Ask for one of them.")
            ranker, vectors, choice = live.query_likeness, model.query_vectors, asking.Choice()
            keys = self._query_keys
        hits = ranker.with_queries(vectors[row : row + 1]).rank(
            np.zeros(1, np.int64),
            min(body.k, ranker.num_candidates),
            exclude=_excluded([np.array([row - 1])], ranker.num_candidates),
            allowed=choice.allowed,
        )
        pairs = [(p, s) for p, s in zip(hits.rows[0].tolist(), hits.scores[0].tolist(), strict=True) if p >= 0]
        items: list[dict[str, Any]] = [
            {"item": keys[p], "rank": rank, "score": s} for rank, (p, s) in enumerate(pairs, start=1)
        ]
        if body.item is not None and live.titles is not None:
            for item, (place, _) in zip(items, pairs, strict=True):
                item["title"] = live.titles[place]
        return self.stamped({"items": items, "notes": [*choice.notes]})

    @cached_property
    def _query_keys(self) -> list[Any]:
        return list(self.ranking("compare").query_rows)

    def score(self, body: Score) -> Answer:
        """The score of each pair; online queries as they are now."""
        return self.guarded(lambda: self._score(body))

    def _score(self, body: Score) -> dict[str, Any]:
        live = self.ranking("score pairs")
        entities = live.model.query_entity, live.model.candidate_entity
        table = pa.table(
            {
                entities[0]: [str(pair.query) for pair in body.pairs],
                entities[1]: [str(pair.item) for pair in body.pairs],
            }
        )
        found = asking.pair_scores(live.model, Table(table, "the request"))
        scores, cold = found.column("score").to_pylist(), found.column("cold").to_pylist()
        if self.users is not None and isinstance(live.model, Retriever):
            for place, pair in enumerate(body.pairs):
                vector = self.users.vector(live, str(pair.query))
                row = live.candidate_rows.get(str(pair.item), 0)
                if vector is not None:
                    ranker = VectorRanker(
                        vector[None], live.model.candidate_vectors[row : row + 1], live.model.model.match.similarity
                    )
                    scores[place], cold[place] = float(ranker.scores(np.zeros(1, np.int64))[0, 0]), row == 0
        pairs = zip(body.pairs, scores, cold, strict=True)
        told = [
            {"query": pair.query, "item": pair.item, "score": score, "cold": is_cold} for pair, score, is_cold in pairs
        ]
        return self.stamped({"scores": told})

    def predict(self, body: Predict) -> Answer:
        """The tasks of raw rows."""
        return self.guarded(lambda: self._predict(body))

    def _predict(self, body: Predict) -> dict[str, Any]:
        if not self.run.tasks:
            raise Problem(
                422, f"The model '{self.name}' ranks, and predicts no task.", "", "Use /v1/recommend or /v1/score."
            )
        answers = self.run.predict(self.table(body.rows, None).data)
        return self.stamped({"rows": answers.to_pylist(), "notes": asking.notes_of(answers)})

    def embed(self, body: Embed) -> Answer:
        """Vectors of raw rows."""
        return self.guarded(lambda: self._embed(body))

    def _embed(self, body: Embed) -> dict[str, Any]:
        model = self.run.model if self.live is None else self.live.model
        if isinstance(model, Retriever):
            if body.side is None:
                raise Problem(422, "A two_tower has vectors of two sides.", "no side", "Say side: query or candidate.")
            entity = model.query_entity if body.side == "query" else model.candidate_entity
            found = asking.embedded(model, body.side, self.table(body.rows, entity))
        elif isinstance(model, TaskPredictor):
            if body.side is not None:
                raise Problem(422, "A tower_model has no sides.", body.side, "Leave side out.")
            found = asking.embedded_rows(model, self.table(body.rows, None))
        else:
            raise Problem(422, f"A {self.run.kind} has no vectors.", "", "Ask a two_tower or a tower_model.")
        return self.stamped({"vectors": found.column("vector").to_pylist(), "space": self.run.space})

    def table(self, rows: Sequence[Mapping[str, Any]], entity: str | None) -> Table:
        """Raw rows of a request; they name no file of this machine.

        Raises:
            Problem: If a row has a column that towers read pictures or sounds from.
        """
        for name in {name for row in rows for name in row}:
            if name in self._media:
                raise Problem(
                    422,
                    "Pictures and sounds do not come with a request.",
                    name,
                    "Leave the column out, or ask with a key.",
                )
        return table_of_rows(self.run, rows, entity)

    @cached_property
    def _media(self) -> set[str]:
        """The columns that hold pictures or sounds, of whatever entity and member."""
        return set(_media_columns(self.run.model))

    def with_items(self, rows: Sequence[Mapping[str, Any]]) -> Live:
        """The model with new candidates; see :meth:`Live.with_items`."""
        return self.ranking("have candidates").with_items(rows)


_NONE = np.empty(0, np.int64)


def version_of(run: Run) -> str:
    """Sixteen digits that two Runs share only if all their files do.

    Args:
        run: A verified Run.
    """
    return content_hash({name: file.sha256 for name, file in run.manifest.files.items()})[:16]


def engines_of(name: str, run: Run, index: Path | None = None) -> list[Engine]:
    """A Run as it is served: of a joint one each ranking, as ``name.ranking``.

    Args:
        name: What it is called.
        run: A verified Run.
        index: The folder of an index of its candidates; None ranks all of them.

    Raises:
        RunError: If the index is not one of these candidates.
    """
    if isinstance(run.model, JointRetriever):
        if index is not None:
            raise RunError(f"An index holds one sort of candidates, and {run.path} is a joint model. Serve it without.")
        return [Engine.load(f"{name}.{ranking.lower()}", run.ranking(ranking)) for ranking in run.rankings]
    return [Engine.load(name, run, index)]


def _index_of(run: Run, live: Live | None, folder: Path) -> Index:
    """An index whose rows are the candidates of a model, in their order.

    Raises:
        RunError: If it is none.
    """
    if live is None or not isinstance(live.model, Retriever):
        raise RunError(f"An index holds vectors of candidates, and {run.path} is a {run.kind}. Serve it without.")
    index = open_index(folder, space=run.space)
    keys = live.model.candidate.keys.to_pylist()
    if index.num_rows != len(keys) or (index.rows_of(keys) != np.arange(len(keys))).any():
        raise RunError(
            f"An index holds the candidates of its Run, here {len(keys):,}; received {folder} with {len(index):,} others. "
            f"Build it: towerkit index {run.path} --out {folder}."
        )
    return index


def _rankable(live: Live, group: Sequence[_Prepared]) -> tuple[Ranker, NDArray[np.int64]]:
    """A ranker for some requests, and the row of each."""
    if isinstance(live.ranker, VectorRanker):
        vectors = np.stack([each.vector for each in group if each.vector is not None])
        return live.ranker.with_queries(vectors), np.arange(len(group))
    return live.ranker, np.array([each.row for each in group], np.int64)


def _seen(seen: csr_array, row: int) -> NDArray[np.int64]:
    start, stop = seen.indptr[row - 1], seen.indptr[row]
    return np.asarray(seen.indices[start:stop], np.int64)


def _excluded(seen: Sequence[NDArray[np.int64]], num_candidates: int) -> csr_array | None:
    """``[queries, candidates]`` of places."""
    if not any(len(places) for places in seen):
        return None
    starts = np.concatenate([[0], np.cumsum([len(places) for places in seen])])
    columns = np.concatenate(seen)
    return csr_array((np.ones(len(columns), np.float32), columns, starts), shape=(len(seen), num_candidates))


def _stored(model: Retriever, row: int) -> Events | None:
    """What a query met in training, as row 1."""
    if model.events is None:
        return None
    start, stop = (int(model.events.starts[row]), int(model.events.starts[row + 1])) if row else (0, 0)
    times = None if model.events.times is None else model.events.times[start:stop]
    starts = np.array([0, 0, stop - start])
    return replace(model.events, starts=starts, codes=model.events.codes[start:stop], times=times)


def _media_columns(model: Any) -> list[str]:
    members = getattr(model, "members", None)
    if members is not None:
        return [name for member in members.values() for name in _media_columns(member)]
    encoder = getattr(model, "encoder", None) or getattr(getattr(model, "predictor", None), "encoder", None)
    if encoder is None:
        return []
    fitted = [each for features in encoder.features.values() for each in features]
    return [each.spec.column for each in fitted if isinstance(each.spec, FileSpec)]

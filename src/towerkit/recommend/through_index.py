"""A Run's candidates in an index, and its questions answered by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.core.errors import RunError, SpecError
from towerkit.core.random import generator
from towerkit.features.encoded import Catalogue
from towerkit.index.contract import Index
from towerkit.index.filling import Fill, alone
from towerkit.index.hits import Hits
from towerkit.index.keyed import KeyedVectors
from towerkit.index.specs import AnySpec, ExactIndexSpec
from towerkit.index.stored import StoredIndex, keyed_vectors
from towerkit.index.trials import Trial, menu, pick, try_all
from towerkit.index.vectors import VectorRanker
from towerkit.models.answer import Retriever
from towerkit.recommend.asked import Asked
from towerkit.trained import RankingModel


@dataclass(frozen=True)
class Built:
    """An index of a Run's candidates, the spec it was built by, and what was measured on the way."""

    index: StoredIndex
    spec: AnySpec
    measured: Mapping[str, Any]
    """``k``, ``queries``, ``threads`` and ``trials``, in plain data; ``picked`` is the place of the one that was taken."""
    trials: Sequence[Trial] = ()


def indexed(
    model: RankingModel,
    space: str | None,
    specs: Sequence[AnySpec] = (),
    *,
    recall: float | None = None,
    k: int = 20,
    queries: int = 1000,
    fill: Fill = alone,
    tell: Callable[[str], None] = lambda text: None,
) -> Built:
    """Build an index of the candidates; approximate ones are measured with queries of the Run.

    Args:
        model: A two-tower.
        space: Its embedding-space id.
        specs: What to build, or to choose among; the sorts of :func:`towerkit.index.trials.menu` where there is none and a recall
            is wanted, else an exact index.
        recall: The share of the exact hits that must be found: the fastest index that does is taken.
        k: Hits that recall looks at.
        queries: Known queries to measure with, drawn without a favorite.
        fill: Puts the vectors into an index of faiss.
        tell: Told what is being built.

    Raises:
        RunError: If the model has no vectors.
        SpecError: If several indexes are given and no recall, an index cannot be built, or none finds enough.
    """
    retriever = with_vectors(model)
    stored = vectors_of_candidates(retriever)
    if recall is None and len(specs) > 1:
        raise SpecError(
            f"{len(specs)} indexes are named and nothing to choose by; say what share of the best hits it must find: --recall 0.98."
        )
    chosen = list(specs) or (menu(len(stored), stored.measure.dim) if recall is not None else [ExactIndexSpec()])
    if recall is None and isinstance(chosen[0], ExactIndexSpec):
        return Built(chosen[0].build(stored, space), chosen[0], {})
    asked = drawn_queries(retriever, queries)
    tried = try_all(stored, asked, chosen, k=k, recall=recall, fill=fill, tell=tell)
    if recall is None:
        taken = next(tried)
        trials = [taken.trial]
    else:
        trials, taken = pick(tried, recall)
    taken.index.space = space
    measured = {
        "k": k,
        "queries": len(asked),
        "recall": recall,
        "picked": trials.index(taken.trial),
        "trials": [trial.as_dict() for trial in trials],
    }
    return Built(taken.index, taken.spec, measured, trials)


def with_vectors(model: RankingModel) -> Retriever:
    """The model, if its candidates are vectors.

    Raises:
        RunError: If they are not.
    """
    if isinstance(model, Retriever):
        return model
    raise RunError(
        "This Run scores pairs, or blends several rankings, and an index holds one vector per candidate. Index a two_tower; a "
        "ranker may then order what it finds."
    )


def vectors_of_candidates(model: Retriever) -> KeyedVectors:
    """The candidates of the catalogue as an index has them: row ``r`` is catalogue row ``r + 1``.

    Args:
        model: A two-tower.
    """
    return keyed_vectors(model.candidate.keys.to_pylist(), model.candidate_vectors[1:], model.model.match.similarity)


def drawn_queries(model: Retriever, count: int) -> NDArray[np.float32]:
    """``[count or fewer, dim]`` vectors of known queries, always the same.

    Args:
        model: A two-tower.
        count: How many.
    """
    rows = generator(0, "queries of an index").permutation(len(model.query.keys))[:count]
    return np.asarray(model.query_vectors[1:][np.sort(rows)])


def by_index(asked: Asked, index: Index, candidate: Catalogue) -> Asked:
    """The same question, answered by an index.

    Args:
        asked: To a two-tower.
        index: Of its space.
        candidate: Its catalogue: keys of the index that are not in it are no answers here, and a note says so.

    Raises:
        RunError: If the question is not one of vectors.
    """
    if not isinstance(asked.ranker, VectorRanker):
        raise RunError("This question is not one of vectors, and an index answers no other. Ask without an index.")
    ranker = IndexRanker(asked.ranker, index, candidate)
    notes = (
        *asked.notes,
        f"{ranker.strangers:,} candidates of the index are not in this Run's catalogue, and left out.",
    )
    return replace(asked, ranker=ranker, notes=notes if ranker.strangers else asked.notes)


class IndexRanker:
    """Ranks the candidates of a catalogue by an index of them.

    Args:
        queries: Has the vectors of the queries.
        index: Holds those of the candidates.
        candidate: The catalogue.
    """

    def __init__(self, queries: VectorRanker, index: Index, candidate: Catalogue) -> None:
        self._queries, self._index, self.num_candidates = queries, index, len(candidate.keys)
        self.exact = index.exact
        rows = index.rows_of(candidate.keys.to_pylist())
        self._row = rows
        self._place = np.full(index.num_rows, -1, np.int64)
        held = np.flatnonzero(rows >= 0)
        self._place[rows[held]] = held
        self.strangers = len(index) - len(held)

    def rank(
        self,
        queries: NDArray[np.int64],
        k: int,
        *,
        exclude: csr_array | None = None,
        allowed: NDArray[np.bool_] | None = None,
    ) -> Hits:
        """The best candidates of each query row; see :meth:`towerkit.index.ranker.Ranker.rank`.

        Args:
            queries: ``[queries]`` rows.
            k: How many.
            exclude: ``[queries, candidates]``; every stored entry is excluded.
            allowed: ``[candidates]``.

        Returns:
            The hits, in rows of the catalogue, from 0.
        """
        mask = None
        if allowed is not None or self.strangers:
            mask = self._place >= 0
            if allowed is not None:
                mask[mask] = allowed[self._place[mask]]
        lists = None
        if exclude is not None:
            taken = csr_array(exclude)
            lists = [self._row[each] for each in np.split(taken.indices, taken.indptr[1:-1])] if len(queries) else []
        hits = self._index.search(self._queries.vectors_of(queries), k, allowed=mask, exclude=lists)
        return replace(hits, rows=np.where(hits.rows >= 0, self._place[hits.rows], -1))

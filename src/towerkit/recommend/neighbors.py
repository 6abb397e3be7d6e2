"""Candidates like a candidate, queries like a query: by the vectors of one side alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_array

from towerkit.index.vectors import Similarity, VectorRanker
from towerkit.models.answer import Retriever
from towerkit.recommend.answers import kept, ranks, titles_of
from towerkit.recommend.choice import Choice
from towerkit.recommend.keys import key_column, known_places
from towerkit.recommend.notes import with_notes

Which = Literal["query", "candidate"]
_OURS = ("similar_to", "rank", "title", "score")


def similar(model: Retriever, which: Which, keys: Sequence[Any], k: int, choice: Choice) -> pa.Table:
    """The keys of one side whose vectors are most like that of a given one, which is left out itself.

    The measure is the cosine; under a match by distance, the negative squared distance. A dot product would put long vectors
    first, which popular candidates have.

    Args:
        model: Whose vectors.
        which: The side.
        keys: Known keys of that side.
        k: How many for each.
        choice: Which candidates may be answers.

    Returns:
        Columns ``similar_to``, ``rank``, the key, its title where there is one, and ``score``.

    Raises:
        DataError: If a key is unknown.
    """
    catalogue = model.candidate if which == "candidate" else model.query
    entity = model.candidate_entity if which == "candidate" else model.query_entity
    vectors = model.candidate_vectors if which == "candidate" else model.query_vectors
    places = known_places(catalogue, keys, "The question", "candidates" if which == "candidate" else "queries")
    measure: Similarity = "euclidean" if model.model.match.similarity == "euclidean" else "cosine"
    ranker = VectorRanker(vectors[places], vectors[1:], measure)
    itself = csr_array(
        (np.ones(len(places), np.float32), (np.arange(len(places)), places - 1)),
        shape=(len(places), len(catalogue.keys)),
    )
    most = min(k, ranker.num_candidates)
    hits = ranker.rank(np.arange(len(places)), most, exclude=itself, allowed=choice.allowed)
    keep, owner = kept(hits.rows)
    found = pa.array(hits.rows.ravel()[keep])
    columns: dict[str, Any] = {
        "similar_to": catalogue.keys.take(pa.array(places - 1)).take(pa.array(owner)),
        "rank": ranks(hits.rows)[keep],
        key_column(entity, _OURS): catalogue.keys.take(found),
        **titles_of(catalogue, model.titles.get(entity), found),
        "score": hits.scores.ravel()[keep],
    }
    notes = list(choice.notes)
    if (hits.counts < k).any():
        others = f"there are {len(catalogue.keys) - 1:,} others"
        notes.append(f"Fewer than the {k:,} answers asked for: {'; '.join([others, *choice.reasons])}.")
    return with_notes(pa.table(columns), notes)

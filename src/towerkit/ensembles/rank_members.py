"""Members that rank: a two-tower, a ranker, BM25 on the texts of both tables, or a baseline of pairs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.artifact.arrow import load_table, save_table
from towerkit.artifact.models import load_retriever, save_retriever
from towerkit.artifact.rankers import load_pair_scorer, save_pair_scorer
from towerkit.baselines.bm25 import BM25, BM25Spec
from towerkit.baselines.words import WordIndex
from towerkit.core.errors import RunError, SpecError, listed
from towerkit.core.spec import parse
from towerkit.data.table import Table, values_of
from towerkit.ensembles.pair_members import AnyPairsSpec, load_pairs
from towerkit.features.encoded import Catalogue
from towerkit.index.pairs import PairRanker, without_unknown
from towerkit.index.ranker import Ranker
from towerkit.index.vectors import VectorRanker
from towerkit.models.answer import Retriever
from towerkit.models.pair_scorer import PairScorer
from towerkit.models.ranker import RankerSpec
from towerkit.storage.documents import read_document
from towerkit.storage.hashes import write_json
from towerkit.storage.migrations import FORMAT_VERSION
from towerkit.storage.tensors import load_tensors, save_tensors


class RankMember(Protocol):
    """A fitted ranker of one catalogue. Row 0 of its queries is the unknown one, column 0 the unknown candidate."""

    @property
    def ranker(self) -> Ranker:
        """``[queries + 1, candidates + 1]``."""

    @property
    def query_columns(self) -> tuple[str, ...]:
        """What it reads of raw query rows."""

    @property
    def candidate_columns(self) -> tuple[str, ...]:
        """What it reads of raw candidate rows."""

    def of_queries(self, table: Table) -> Ranker:
        """``[rows, candidates + 1]`` for raw query rows, among them the key column."""

    def of_candidates(self, table: Table) -> Ranker:
        """``[queries + 1, rows]`` for raw candidate rows, among them the key column."""

    def save(self, folder: Path) -> None:
        """Write everything that :func:`load_rank_member` needs."""


@dataclass(frozen=True, eq=False)
class TowersMember:
    """A trained two-tower."""

    retriever: Retriever

    @cached_property
    def ranker(self) -> VectorRanker:
        """The similarity of all vectors."""
        own = self.retriever
        return VectorRanker(own.query_vectors, own.candidate_vectors, own.model.match.similarity)

    @property
    def query_columns(self) -> tuple[str, ...]:
        """Of the query side's towers."""
        return self.retriever.encoder.columns(self.retriever.query_entity)

    @property
    def candidate_columns(self) -> tuple[str, ...]:
        """Of the candidate side's towers."""
        return self.retriever.encoder.columns(self.retriever.candidate_entity)

    def of_queries(self, table: Table) -> VectorRanker:
        """The vectors of raw query rows against those of the catalogue."""
        model = self.retriever.model
        return self.ranker.with_queries(self.retriever.vectors_of(model.query, model.query_entity, table)[1:])

    def of_candidates(self, table: Table) -> VectorRanker:
        """The vectors of the known queries against those of raw candidate rows."""
        own, model = self.retriever, self.retriever.model
        vectors = own.vectors_of(model.candidate, model.candidate_entity, table)[1:]
        return VectorRanker(own.query_vectors, vectors, model.match.similarity)

    def save(self, folder: Path) -> None:
        """Write the two-tower as a Run of its own has it."""
        save_retriever(folder, self.retriever)


@dataclass(frozen=True, eq=False)
class PairsMember:
    """A trained ranker."""

    scorer: PairScorer

    @cached_property
    def ranker(self) -> PairRanker:
        """The scores of all pairs."""
        return PairRanker(self.scorer.model, self.scorer.query_parts, self.scorer.candidate_parts)

    @property
    def query_columns(self) -> tuple[str, ...]:
        """Of the towers that read queries."""
        return self.scorer.query_columns

    @property
    def candidate_columns(self) -> tuple[str, ...]:
        """Of the towers that read candidates."""
        return self.scorer.candidate_columns

    def of_queries(self, table: Table) -> PairRanker:
        """Raw query rows with the candidates of the catalogue."""
        parts = self.scorer.parts_of_rows(self.scorer.query_entity, table)
        return self.ranker.with_queries(without_unknown(parts))

    def of_candidates(self, table: Table) -> PairRanker:
        """The known queries with raw candidate rows."""
        parts = self.scorer.parts_of_rows(self.scorer.candidate_entity, table)
        return self.ranker.with_candidates(without_unknown(parts))

    def save(self, folder: Path) -> None:
        """Write the ranker as a Run of its own has it."""
        save_pair_scorer(folder, self.scorer)


@dataclass(frozen=True, eq=False)
class WordsMember:
    """BM25 with the words of the catalogue, and the texts of the known queries."""

    spec: BM25Spec
    """With the columns that it found."""
    index: WordIndex
    query: Catalogue

    @cached_property
    def ranker(self) -> BM25:
        """The words of all queries against those of all candidates; the unknown ones have none."""
        queries = self.index.counts_of(self.query.table, self.query_columns)
        return BM25(self.index, queries, k1=self.spec.k1, b=self.spec.b).with_candidates(self.index.counts)

    @property
    def query_columns(self) -> tuple[str, ...]:
        """The text columns."""
        return self.spec.query or ()

    @property
    def candidate_columns(self) -> tuple[str, ...]:
        """The text columns."""
        return self.spec.candidate or ()

    def of_queries(self, table: Table) -> BM25:
        """The texts of raw query rows against those of the catalogue."""
        return self.ranker.with_queries(csr_array(self.index.counts_of(table, self.query_columns)[1:]))

    def of_candidates(self, table: Table) -> BM25:
        """The texts of the known queries against those of raw candidate rows."""
        return self.ranker.with_candidates(csr_array(self.index.counts_of(table, self.candidate_columns)[1:]))

    def save(self, folder: Path) -> None:
        """Write the words of the candidates and their counts; the texts stand in the catalogues of the fusion."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "model.json", {"spec": self.spec.model_dump(mode="json")})
        save_table(folder / "words.arrow", pa.table({"word": self.index.words}))
        counts = self.index.counts
        save_tensors(
            folder / "counts.safetensors",
            {
                "counts": counts.data.astype(np.int32),
                "words": counts.indices.astype(np.int32),
                "starts": counts.indptr.astype(np.int64),
            },
        )


def fit_words(spec: BM25Spec, query: Catalogue, candidate: Catalogue) -> WordsMember:
    """Count the words of both catalogues.

    Args:
        spec: Columns and settings.
        query: What is known of the queries.
        candidate: What is known of the candidates.

    Raises:
        SpecError: If a side has no text.
    """
    own, others = spec.columns(query, candidate)
    for catalogue, columns in ((query, own), (candidate, others)):
        if not columns:
            raise SpecError(
                f"A member bm25 compares texts, and the table of '{catalogue.key}' has no column of texts. Name one in "
                "the member's query or candidate, or remove the member."
            )
    index = WordIndex.of(candidate.table, others, spec.prefix)
    resolved = spec.model_copy(update={"query": own, "candidate": others})
    return WordsMember(resolved, index, query)


def load_rank_member(
    folder: Path,
    spec: Any,
    query: Catalogue,
    candidate: Catalogue,
    seen: csr_array,
    version: int = FORMAT_VERSION,
) -> RankMember:
    """Read a member of this spec from its folder.

    Args:
        folder: Its files.
        spec: What it was fitted from.
        query: What the fusion knows of the queries.
        candidate: What it knows of the candidates.
        seen: ``[queries, candidates]`` the trained pairs.
        version: The format of its Run.

    Raises:
        RunError: If a file is missing, damaged, or does not fit the catalogues.
    """
    if isinstance(spec, AnyPairsSpec):
        return load_pairs(folder, spec, seen, query, candidate)
    if not isinstance(spec, BM25Spec):
        model = load_pair_scorer(folder, version) if isinstance(spec, RankerSpec) else load_retriever(folder, version)
        for name, own, other in (("query", model.query, query), ("candidate", model.candidate, candidate)):
            if not own.keys.equals(other.keys):
                raise _unfit(folder / f"{name}.arrow", "it has other keys")
        return PairsMember(model) if isinstance(model, PairScorer) else TowersMember(model)
    resolved = parse(
        BM25Spec, read_document(folder / "model.json", version, ("spec",))["spec"], str(folder / "model.json")
    )
    words = values_of(load_table(folder / "words.arrow"), "word")
    if words.type != pa.string() or words.null_count or len(words.unique()) < len(words):
        raise _unfit(folder / "words.arrow", "the words are not distinct texts")
    for side, catalogue, columns in (("queries", query, resolved.query), ("candidates", candidate, resolved.candidate)):
        missing = [name for name in columns or () if name not in catalogue.table.data.column_names]
        if missing:
            raise _unfit(folder / "model.json", f"it reads {listed(missing)} of the {side}, which are not there")
    counts = _counts(folder / "counts.safetensors", (len(candidate.keys) + 1, len(words)))
    return WordsMember(resolved, WordIndex(words, counts, resolved.prefix), query)


def stored_matrix(
    path: Path, starts: NDArray[Any], places: NDArray[Any], values: NDArray[Any], shape: tuple[int, int]
) -> csr_array:
    """A sparse matrix from a file, checked by us: a place beyond it would be read from outside the array.

    Args:
        path: The file, for messages.
        starts: ``[rows + 1]`` where each row begins.
        places: ``[entries]`` columns.
        values: ``[entries]``.
        shape: Rows and columns.

    Raises:
        RunError: If the parts make no such matrix.
    """
    whole = (starts.dtype, places.dtype) == (np.dtype(np.int64), np.dtype(np.int32)) and starts.shape == (shape[0] + 1,)
    if not whole or not places.ndim == values.ndim == 1 or not len(places) == len(values) == starts[-1]:
        raise _unfit(path, f"its arrays make no matrix of {shape[0]:,} x {shape[1]:,}")
    if starts[0] != 0 or (np.diff(starts) < 0).any() or ((places < 0) | (places >= shape[1])).any():
        raise _unfit(path, f"a place lies outside the {shape[0]:,} x {shape[1]:,} matrix")
    return csr_array((values, places, starts), shape=shape)


def _counts(path: Path, shape: tuple[int, int]) -> csr_array:
    tensors = load_tensors(path)
    if tensors.keys() != {"starts", "words", "counts"}:
        raise _unfit(path, f"it holds {listed(tensors)} in place of starts, words and counts")
    values = tensors["counts"]
    if values.dtype != np.int32 or (len(values) and values.min() < 1):
        raise _unfit(path, "a count must be a whole number of at least 1")
    return stored_matrix(path, tensors["starts"], tensors["words"], values, shape)


def _unfit(path: Path, reason: str) -> RunError:
    return RunError(f"{path} does not fit the fusion's catalogues ({reason}); train the Run again.")

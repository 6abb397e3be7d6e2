"""The BM25 baseline.

Invariants:
- scores equal bm25s (its ``lucene`` form) to 1e-6 on random texts and settings, and a reference of a few lines;
- words are runs of letters and digits of any language in lower case; a missing text, a text of unknown words and the unknown
  query score 0 everywhere; texts of several columns are read as one;
- an answer depends neither on the order of the rows nor on how many queries are scored at a time; equal texts tie;
- as a baseline it reads the text columns of both tables, is left out with its reason where there are none, and a column that
  does not exist is refused before training.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towerkit.api import read
from towerkit.baselines import bm25 as module
from towerkit.baselines.base import Interactions
from towerkit.baselines.bm25 import BM25, BM25Spec
from towerkit.baselines.words import WordIndex, text_columns, words_of
from towerkit.core.errors import DataError, SpecError
from towerkit.core.spec import parse
from towerkit.data.table import Table
from towerkit.experiment import train_and_evaluate
from towerkit.features.encoded import Catalogue
from towerkit.spec import ModelingSpec
from towerkit.training.loop import Silent

WORDS = [f"w{number}" for number in range(30)]
texts = st.lists(st.lists(st.sampled_from(WORDS), max_size=15).map(" ".join), min_size=1, max_size=12)


def table(*values: str | None) -> Table:
    return Table(pa.table({"text": pa.array(values, pa.string())}), "texts", 0)


def ranker_of(documents: list[str], queries: list[str], **given_settings: float) -> BM25:
    index = WordIndex.of(table(*documents), ["text"])
    return BM25(index, index.counts_of(table(*queries), ["text"]), **given_settings)


def scores_of(documents: list[str], queries: list[str], **given_settings: float) -> np.ndarray:
    return ranker_of(documents, queries, **given_settings).scores(np.arange(1, len(queries) + 1))


def reference(documents: list[str], queries: list[str], k1: float, b: float) -> np.ndarray:
    split = [document.split() for document in documents]
    mean = sum(map(len, split)) / len(split) or 1.0
    found = np.zeros((len(queries), len(documents)))
    for row, query in enumerate(queries):
        for word in query.split():
            having = sum(word in document for document in split)
            for column, document in enumerate(split):
                if times := Counter(document)[word]:
                    rarity = math.log(1 + (len(split) - having + 0.5) / (having + 0.5))
                    found[row, column] += rarity * times / (times + k1 * (1 - b + b * len(document) / mean))
    return found


@settings(max_examples=60, deadline=None)
@given(texts, texts, st.floats(0, 3), st.floats(0, 1))
def test_equals_the_formula_written_out(documents: list[str], queries: list[str], k1: float, b: float) -> None:
    wanted = reference(documents, queries, k1, b)
    np.testing.assert_allclose(scores_of(documents, queries, k1=k1, b=b), wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("k1", "b"), [(1.5, 0.75), (0.9, 0.4), (2.0, 1.0)])
def test_equals_bm25s(k1: float, b: float) -> None:
    bm25s = pytest.importorskip("bm25s")
    draw = np.random.default_rng(0)
    documents = [" ".join(draw.choice(WORDS, draw.integers(1, 60))) for _ in range(200)]
    queries = [" ".join(draw.choice(WORDS, draw.integers(1, 8))) for _ in range(40)]
    oracle = bm25s.BM25(method="lucene", k1=k1, b=b, dtype="float64")
    oracle.index([document.split() for document in documents], show_progress=False)
    wanted = np.stack([oracle.get_scores(query.split()) for query in queries])
    np.testing.assert_allclose(scores_of(documents, queries, k1=k1, b=b), wanted, rtol=1e-6, atol=1e-6)
    assert wanted.std() > 0.1, "the oracle must say something"


def test_a_factor_less_is_another_score() -> None:
    """Control: the comparison sees the setting that is forgotten."""
    documents, queries = ["a a b c c c", "a b", "c"], ["a c"]
    assert not np.allclose(scores_of(documents, queries, b=0.0), reference(documents, queries, 1.5, 0.75), rtol=1e-3)


def test_words() -> None:
    assert words_of("L'Été, naïve_2 Ärger; 漢字 don't") == ["l", "été", "naïve_2", "ärger", "漢字", "don", "t"]
    assert words_of("Experimental experiments", prefix=6) == ["experi", "experi"]
    assert words_of("!?…") == []


def test_no_text_and_unknown_words_score_nothing() -> None:
    index = WordIndex.of(table("red wool", None, "blue"), ["text"])
    assert index.words.to_pylist() == ["blue", "red", "wool"]
    assert index.counts.toarray().tolist() == [[0, 0, 0], [0, 1, 1], [0, 0, 0], [1, 0, 0]]
    counts = index.counts_of(table(None, "green green", "wool, green WOOL"), ["text"])
    assert counts.toarray().tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 2]]
    scores = BM25(index, counts).scores(np.arange(4))
    assert not scores[:3].any() and scores[3].argmax() == 0 and (scores[3] > 0).sum() == 1


def test_a_catalogue_without_any_word() -> None:
    assert not scores_of(["", "?"], ["red"]).any()


def test_columns_are_read_as_one_text() -> None:
    both = Table(pa.table({"title": ["red", None], "text": ["wool", "blue red"]}), "documents", 0)
    one = WordIndex.of(both, ["title", "text"])
    assert (
        one.counts.toarray().tolist() == WordIndex.of(table("red wool", "blue red"), ["text"]).counts.toarray().tolist()
    )


@settings(max_examples=30, deadline=None)
@given(texts, texts, st.integers(0, 2**32))
def test_neither_the_order_nor_the_chunk_matters(documents: list[str], queries: list[str], seed: int) -> None:
    whole = scores_of(documents, queries)
    order = np.random.default_rng(seed).permutation(len(documents))
    turned = scores_of([documents[place] for place in order], queries)
    np.testing.assert_array_equal(whole[:, order], turned)
    ranker = ranker_of(documents, queries)
    alone = np.concatenate([ranker.scores(np.array([row])) for row in range(1, len(queries) + 1)])
    np.testing.assert_array_equal(whole, alone)
    np.testing.assert_array_equal(*scores_of([documents[0], *documents[:1]], queries).T)


def test_more_queries_than_are_scored_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    documents, queries = ["a b", "b c", "c c d"], ["a", "b", "c", "d", "a c"]
    whole = scores_of(documents, queries)
    monkeypatch.setattr(module, "_PRODUCT_ROWS", 2)
    np.testing.assert_array_equal(scores_of(documents, queries), whole)


def test_refusals() -> None:
    with pytest.raises(SpecError, match=r"received k1 -1\.0 and b 0\.75"):
        ranker_of(["a"], ["a"], k1=-1.0)
    with pytest.raises(SpecError, match=r"received k1 1\.5 and b 1\.5"):
        ranker_of(["a"], ["a"], b=1.5)
    with pytest.raises(DataError, match=r"in \[0, 2\); received 2 at position 0"):
        ranker_of(["a"], ["a"]).scores(np.array([2]))
    with pytest.raises(DataError, match="Lists and records"):
        WordIndex.of(Table(pa.table({"text": [["a"]]}), "lists", 0), ["text"])


def search(baselines: list[object], *, with_texts: bool = True) -> tuple[ModelingSpec, object]:
    """Ten documents, each about a word of its own, and queries that ask for one."""
    number = np.arange(60)
    pairs = pa.table({"query": [f"q{n}" for n in number], "doc": [f"d{n % 10}" for n in number]})
    filler = ["some words that all of them have", "more of the same kind of words here"]
    asked = pa.table(
        {"query": [f"q{n}" for n in number], "claim": [f"query {n} for topic{n % 10} please" for n in number]}
    )
    told = pa.table({"doc": [f"d{n}" for n in range(10)], "body": [f"topic{n} and {filler[n % 2]}" for n in range(10)]})
    model = {"kind": "two_tower", "query": {"kind": "id", "dim": 4}, "candidate": {"kind": "id", "dim": 4}}
    evaluation = {"k": [1], "baselines": baselines}
    spec = parse(ModelingSpec, {"model": model, "training": {"epochs": 1}, "evaluation": evaluation})
    entities = {"query": asked, "doc": told} if with_texts else {}
    split = {"kind": "random", "validation": 0.1, "test": 0.3}
    return spec, read(pairs, query="query", candidate="doc", entities=entities, split=split)


def test_as_a_baseline_it_reads_the_texts_of_both_tables() -> None:
    columns = {"kind": "bm25", "query": ["claim"], "candidate": ["body"], "k1": 1.2}
    for asked in ("bm25", columns):
        outcome = train_and_evaluate(*search([asked, "popularity"]), Silent())  # type: ignore[arg-type]
        assert outcome.baselines["bm25"].metrics["hit_rate@1"].value == 1.0
        assert outcome.baselines["popularity"].metrics["hit_rate@1"].value < 0.5


def test_left_out_without_texts_and_refused_with_a_wrong_column() -> None:
    outcome = train_and_evaluate(*search(["bm25", "popularity"], with_texts=False), Silent())  # type: ignore[arg-type]
    reason = "compares texts, and the table of 'query' has no column of texts"
    assert outcome.evaluation.protocol["baselines_left_out"] == {"bm25": reason}
    assert list(outcome.baselines) == ["popularity"]
    with pytest.raises(DataError, match="'bodi'.*'body'"):
        train_and_evaluate(*search([{"kind": "bm25", "candidate": ["bodi"]}]), Silent())  # type: ignore[arg-type]
    with pytest.raises(DataError, match="'claim' of 'query', which has no table"):
        train_and_evaluate(*search([{"kind": "bm25", "query": ["claim"]}], with_texts=False), Silent())  # type: ignore[arg-type]
    assert (
        BM25Spec().obstacle(Interactions(WordIndex.of(table("a"), ["text"]).counts))
        == "compares texts, and here are none"
    )


def test_short_queries_are_texts_all_the_same() -> None:
    """A search of a few words looks like a category to whoever guesses types."""
    keys = pa.array(["q1", "q2"])
    rows = Table(pa.table({"query": keys, "text": ["cat", "dog"], "city": ["x", "y"]}), "queries", 0)
    assert text_columns(Catalogue("query", keys, 2, rows)) == ("text",)

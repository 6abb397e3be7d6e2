"""A gate over rankers.

Pinned: weights are positive and sum to one for each query, and the mixture is what a few lines compute; the gradient that the
search follows is that of its loss; where one member knows one half of the queries and the other the rest, the gate finds which, and
the ranking is better than with one mixture for all; a strong penalty leaves one mixture; a gate that does not help queries that it
did not learn from is not kept; it comes back from a Run as it was; damaged ones are refused by name.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import check_grad
from scipy.sparse import csr_array
from tests.ensembles.test_rank_fusion import DOCUMENTS, dataset, figure, spec_of, tables

from towerkit.api import fit
from towerkit.core.errors import RunError
from towerkit.ensembles import gate as gates
from towerkit.ensembles.gate import Gate, Gated, fit_gate, signals_of
from towerkit.ensembles.rank_files import load_rank_fusion, save_rank_fusion
from towerkit.ensembles.rank_fusion import RankFusion
from towerkit.evaluation.compare import compare
from towerkit.experiment import Outcome, train_and_evaluate
from towerkit.training.progress import Silent

QUERIES, CANDIDATES = 60, 30


def drawn(seed: int, members: int = 2) -> Gate:
    draw = np.random.default_rng(seed)
    return Gate(
        draw.normal(size=members + 1),
        draw.uniform(0.5, 2, members + 1),
        draw.uniform(0.1, 2, members + 1),
        draw.normal(size=(members, members + 1)),
        draw.normal(size=members),
    )


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), members=st.integers(1, 4))
def test_the_mixture_is_that_of_a_few_lines(seed: int, members: int) -> None:
    draw, gate = np.random.default_rng(seed), drawn(seed, members)
    known = [draw.normal(size=(5, CANDIDATES)).astype(np.float32) for _ in range(members)]
    counts = np.array([0, 3, 1, 0, 9, 40])
    queries = np.array([5, 0, 1, 4, 4])
    found = Gated(gate, counts).combined(known, known, queries)
    for row, query in enumerate(queries):
        standard = [(each[row] - each[row].mean(dtype=np.float64)) / each[row].std(dtype=np.float64) for each in known]
        told = np.array([np.log1p(counts[query]), *(np.log1p(each.max()) for each in standard)])
        raised = np.exp(gate.start + gate.slopes @ np.clip((told - gate.center) / gate.scale, -gate.reach, gate.reach))
        weights = raised / raised.sum()
        assert weights.sum() == pytest.approx(1) and (weights > 0).all()
        np.testing.assert_allclose(found[row], np.tensordot(weights, standard, axes=1), rtol=1e-6, atol=1e-9)


def halves() -> tuple[list[NDArray[np.float32]], NDArray[np.float64], csr_array, csr_array]:
    """Two members, of which one is right for queries with many events and the other for those with few."""
    draw = np.random.default_rng(0)
    right = draw.integers(0, CANDIDATES, QUERIES)
    counts = np.where(np.arange(QUERIES) % 2 == 0, 40, 2)
    scores = [draw.normal(size=(QUERIES, CANDIDATES)).astype(np.float32) for _ in range(2)]
    for query in range(QUERIES):
        scores[query % 2][query, right[query]] += 4.0
    positives = csr_array((np.ones(QUERIES), (np.arange(QUERIES), right)), shape=(QUERIES, CANDIDATES))
    signals = np.column_stack([np.log1p(counts), np.zeros((QUERIES, 2))])
    return scores, signals, positives, csr_array((QUERIES, CANDIDATES))


def test_it_finds_who_knows_which_queries() -> None:
    weights = (gate := fit_gate(*halves(), start=[0.5, 0.5], l2=1e-4)).weights(halves()[1])
    assert weights[::2, 0].min() > 0.9 and weights[1::2, 1].min() > 0.9
    assert np.isfinite(gate.slopes).all() and (gate.scale > 0).all()
    alike = fit_gate(*halves(), start=[0.5, 0.5], l2=1e4).weights(halves()[1])
    np.testing.assert_allclose(alike, np.broadcast_to(alike[0], alike.shape), atol=1e-3)


def test_the_gradient_is_that_of_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def kept(loss: Any, begun: NDArray[np.float64], **_: Any) -> Any:
        seen.update(loss=loss, begun=begun)
        raise StopIteration

    monkeypatch.setattr(gates, "minimize", kept)
    scores, signals, positives, _ = halves()
    closed = csr_array((np.ones(3), ([0, 1, 2], [5, 6, 7])), shape=positives.shape)
    closed -= closed.multiply(positives)
    with pytest.raises(StopIteration):
        fit_gate(scores, signals, positives, csr_array(closed), [0.3, 0.7], 0.05)
    place = seen["begun"] + np.random.default_rng(1).normal(size=len(seen["begun"])) * 0.3
    assert check_grad(lambda at: seen["loss"](at)[0], lambda at: seen["loss"](at)[1], place) < 1e-5


def test_signals_tell_events_and_peaks() -> None:
    flat = np.ones((2, 4), np.float32)
    peak = np.array([[0, 0, 0, 4], [1, 2, 3, 4]], np.float32)
    found = signals_of([flat, peak], np.array([0, 7]))
    np.testing.assert_allclose(found[:, 0], np.log([1, 8]))
    np.testing.assert_allclose(found[:, 1], 0)
    assert found[0, 2] > found[1, 2] > 0


@cache
def outcome_of(combine: str) -> Outcome:
    """Of queries with few events, which mean what they say, and queries with many, whose words mislead."""
    draw = np.random.default_rng(0)
    pairs, asks = [], []
    for query in range(160):
        by_words, kind = query % 2 == 0, query % 6
        topics = draw.choice(DOCUMENTS // 5, 2, replace=False)
        told = [document for document in range(DOCUMENTS) if document // 5 in topics]
        liked = [document for document in range(DOCUMENTS) if document % 6 == kind]
        asks.append(f"please find topic{topics[0]} and topic{topics[1]}")
        pairs += [(f"q{query}", f"d{document}") for document in draw.permutation(told)[: 4 if by_words else 0]]
        pairs += [(f"q{query}", f"d{document}") for document in draw.permutation(liked)[: 0 if by_words else 10]]
    query, document = zip(*pairs, strict=True)
    queries = pa.table({"query": [f"q{number}" for number in range(160)], "asks": asks})
    data = dataset(pa.table({"query": query, "doc": document}), queries=queries, documents=tables()[2])
    return train_and_evaluate(spec_of({"kind": combine}, training={"refit": False}), data, Silent())


def test_it_ranks_better_than_one_mixture_for_all() -> None:
    gated, plain = outcome_of("gate"), outcome_of("weighted")
    assert isinstance(gated.model, RankFusion) and gated.model.gate is not None
    assert compare(plain.evaluation, gated.evaluation)["ndcg@5"].low > 0
    assert gated.model.weights == plain.model.weights  # type: ignore[union-attr]
    best = max(figure(gated.baselines[name]) for name in ("member vectors", "member words"))
    assert figure(gated.evaluation) > best + 0.1


def test_one_that_does_not_help_is_not_kept() -> None:
    members = {"a": {"kind": "bm25", "query": ["asks"], "candidate": ["says"]}}
    twice = spec_of({"kind": "gate"}, members | {"b": members["a"]})
    model = fit(twice, dataset()).model
    assert isinstance(model, RankFusion) and model.gate is None


def test_it_comes_back_and_is_checked(tmp_path: Path) -> None:
    model = outcome_of("gate").model
    assert isinstance(model, RankFusion) and model.gate is not None
    save_rank_fusion(tmp_path, model)
    again = load_rank_fusion(tmp_path)
    asked = np.arange(20)
    np.testing.assert_array_equal(again.ranker.scores(asked), model.ranker.scores(asked))
    kept = json.loads((tmp_path / "model.json").read_text())
    for damage, told in (
        ({"start": [0.0]}, "its numbers are not those of 2 members"),
        ({"scale": [1.0, 0.0, 1.0]}, "a scale is not above 0"),
        ({"reach": [1.0, -1.0, 1.0]}, "a scale is not above 0, or a reach below"),
        ({"more": 1}, "it needs 'center'"),
    ):
        (tmp_path / "model.json").write_text(json.dumps(kept | {"gate": kept["gate"] | damage}))
        with pytest.raises(RunError, match=rf"model\.json: its gate cannot be used: {told}"):
            load_rank_fusion(tmp_path)
    with pytest.raises(ValueError, match="a number is not finite"):
        Gate.of(kept["gate"] | {"start": [0.0, float("inf")]}, 2)

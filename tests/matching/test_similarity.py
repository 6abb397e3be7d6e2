"""Similarities.

Invariants:
- dot, cosine and negative squared Euclidean distance equal their float64 definitions;
- a drawn candidate scores as it would as a positive, in value and gradient, also when it is drawn for many queries;
- vectors of zeros, and vectors whose length is far from one, have finite scores.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from towerkit.matching.similarity import Match, SimilarityName

NAMES: list[SimilarityName] = ["dot", "cosine", "euclidean"]
names = pytest.mark.parametrize("name", NAMES)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reference(name: SimilarityName, query: np.ndarray, candidate: np.ndarray) -> float:  # type: ignore[type-arg]
    if name == "euclidean":
        return -float(((query - candidate) ** 2).sum())
    lengths = np.linalg.norm(query) * np.linalg.norm(candidate) if name == "cosine" else 1.0
    return float((query * candidate).sum() / lengths)


@names
def test_pairs_equal_the_definition(name: SimilarityName) -> None:
    match, query, candidate = Match(name), normal(6, 4), normal(6, 4, seed=1) * 3
    found = match.pairs(match.prepare(query), match.prepare(candidate))
    expected = [reference(name, query[row].numpy(), candidate[row].numpy()) for row in range(6)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


@names
def test_drawn_scores_are_those_of_pairs(name: SimilarityName) -> None:
    match, index = Match(name), torch.tensor([[0, 2, 2], [1, 0, 4], [2, 2, 2]])
    gradients, scores = [], []
    for one_by_one in (False, True):
        query, candidates = normal(3, 4).requires_grad_(), normal(5, 4, seed=1).requires_grad_()
        seen, known = match.prepare(query), match.prepare(candidates)
        if one_by_one:
            columns = [match.pairs(seen, known[index[:, place]]) for place in range(3)]
            found = torch.stack(columns, dim=1)
        else:
            found = match.drawn(seen, known, index)
        (found * normal(3, 3, seed=2)).sum().backward()
        scores.append(found.detach())
        gradients.append((query.grad, candidates.grad))
    torch.testing.assert_close(scores[0], scores[1])
    torch.testing.assert_close(gradients[0], gradients[1])
    assert gradients[0][1] is not None
    assert gradients[0][1][3].tolist() == [0.0] * 4  # never drawn


@names
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e15])
def test_any_length_has_finite_scores(name: SimilarityName, size: float) -> None:
    match = Match(name)
    vectors = (torch.ones(2, 3) * size).requires_grad_()
    prepared = match.prepare(vectors)
    scores = match.pairs(prepared, prepared)
    scores.sum().backward()
    assert bool(scores.isfinite().all())
    assert vectors.grad is not None and bool(vectors.grad.isfinite().all())


def test_only_the_cosine_changes_vectors() -> None:
    vectors = normal(4, 3) * 5
    assert Match("dot").prepare(vectors) is vectors
    assert Match("euclidean").prepare(vectors) is vectors
    torch.testing.assert_close(Match("cosine").prepare(vectors).norm(dim=1), torch.ones(4, dtype=torch.float64))

"""Do the vectors of a two-tower use their space? Rank, lengths, alignment and uniformity.

Reference: Roy and Vetterli, EUSIPCO 2007 (effective rank); Wang and Isola, ICML 2020 (alignment and uniformity).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from towerkit.core.random import generator
from towerkit.doctor.finding import Finding
from towerkit.models.answer import Retriever

Floats = NDArray[np.float64]
_ROWS, _PAIRS = 5_000, 20_000
_LEAST_RANK, _MOST_SPREAD, _LEAST_UNIFORM, _LEAST_CLOSER = 0.1, 1.0, -0.5, 0.1


def vector_findings(model: Retriever, where: str = "") -> list[Finding]:
    """The vectors of both sides, as the match sees them.

    Args:
        model: A trained two-tower.
        where: Behind the name of each check, where a model has several rankings.
    """
    sides = {"query": model.query_vectors[1:], "candidate": model.candidate_vectors[1:]}
    popularity = np.bincount(model.seen.indices, minlength=model.seen.shape[1])
    found = []
    for side, vectors in sides.items():
        drawn = _drawn(vectors, side)
        if len(drawn) < 2:
            continue
        found += [_rank(drawn, f"{side}{where}"), _uniformity(drawn, f"{side}{where}")]
    if model.model.match.similarity == "dot" and len(sides["candidate"]) > 2:
        found.append(_lengths(sides["candidate"].astype(np.float64), popularity, where))
    return [*found, *_alignment(model, where)]


def effective_rank(vectors: NDArray[np.floating]) -> float:
    """How many directions vectors really use: the exponential of the entropy of their singular values, around their mean.

    Args:
        vectors: ``[rows, dim]``.

    Example:
        >>> round(effective_rank(np.eye(4) * 2.0), 3), effective_rank(np.ones((3, 2)))
        (3.0, 0.0)
    """
    centered = np.asarray(vectors, np.float64) - np.mean(vectors, axis=0, dtype=np.float64)
    values = np.linalg.svd(centered, compute_uv=False)
    if values.sum() <= 1e-12:
        return 0.0
    shares = values[values > 1e-12 * values[0]] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def uniformity(vectors: NDArray[np.floating], seed: int = 0) -> float:
    """How evenly directions cover the sphere: the log of the mean of ``exp(-2 |x - y|²)`` over pairs; 0 where all are the same.

    Args:
        vectors: ``[rows, dim]``; their lengths do not count.
        seed: Draws the pairs.

    Example:
        >>> uniformity(np.ones((5, 2)))
        0.0
    """
    unit = _unit(vectors)
    pairs = generator(seed, "doctor", "uniformity").integers(0, len(unit), (_PAIRS, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    apart = ((unit[pairs[:, 0]] - unit[pairs[:, 1]]) ** 2).sum(axis=1)
    return float(np.log(np.exp(-2.0 * apart).mean()))


def _rank(vectors: Floats, side: str) -> Finding:
    found, most = effective_rank(vectors), min(vectors.shape[1], len(vectors) - 1)
    step = ""
    if found < _LEAST_RANK * most:
        step = (
            f"most of its {vectors.shape[1]} numbers say the same: a smaller dim would do, or the side has collapsed (a "
            "lower learning rate, more negatives; loss: {kind: directau} asks for spread)"
        )
    return Finding(
        f"rank of {side} vectors",
        f"{found:.1f} effective directions of {most}",
        f"at least {_LEAST_RANK:.0%}",
        step,
        {"effective_rank": found, "of": float(most)},
    )


def _uniformity(vectors: Floats, side: str) -> Finding:
    found = uniformity(vectors)
    step = (
        ""
        if found < _LEAST_UNIFORM
        else "directions are nearly the same for all: see the rank, and what the towers read"
    )
    return Finding(
        f"uniformity of {side} vectors",
        f"{found:.2f}",
        f"below {_LEAST_UNIFORM}; 0 is one direction for all, about -4 the most even one",
        step,
        {"uniformity": found},
    )


def _lengths(vectors: Floats, popularity: NDArray[np.int64], where: str) -> Finding:
    lengths = np.linalg.norm(vectors, axis=1)
    spread = float(lengths.std() / max(lengths.mean(), 1e-12))
    follows = (
        float(spearmanr(lengths, popularity).statistic) if lengths.std() > 0 and popularity.std() > 0 else float("nan")
    )
    step = ""
    if spread > _MOST_SPREAD:
        step = "a few long vectors win every dot product: use match: {kind: cosine}, or training.optimizer.weight_decay"
    return Finding(
        f"lengths of candidate vectors{where}",
        f"they spread by {spread:.0%} of their mean; rank correlation with popularity {follows:+.2f}",
        f"a spread below {_MOST_SPREAD:.0%}",
        step,
        {"spread": spread, "follows_popularity": follows},
    )


def _alignment(model: Retriever, where: str) -> list[Finding]:
    """How near the vectors of training pairs are, beside those of pairs at random."""
    seen = model.seen
    if not seen.nnz:
        return []
    draw = generator(0, "doctor", "alignment")
    entries = np.sort(draw.permutation(seen.nnz)[:_PAIRS])
    queries = np.searchsorted(seen.indptr, entries, side="right") - 1
    query, candidate = _unit(model.query_vectors[1:]), _unit(model.candidate_vectors[1:])
    others = draw.integers(0, seen.shape[1], len(entries))
    near, random = (
        float(((query[queries] - candidate[rows]) ** 2).sum(axis=1).mean()) for rows in (seen.indices[entries], others)
    )
    step = ""
    if near > (1.0 - _LEAST_CLOSER) * random:
        step = (
            "training pairs are hardly nearer than any: the model has learned little; train longer, or look at its loss"
        )
    measured = (
        f"squared distance {near:.2f} of training pairs, {random:.2f} of pairs at random (directions; 2 is unrelated)"
    )
    normal = f"training pairs are at least {_LEAST_CLOSER:.0%} nearer"
    return [Finding(f"alignment{where}", measured, normal, step, {"pairs": near, "random": random})]


def _drawn(vectors: NDArray[np.floating], side: str) -> Floats:
    rows = np.sort(generator(0, "doctor", side).permutation(len(vectors))[:_ROWS])
    return np.asarray(vectors[rows], np.float64)


def _unit(vectors: NDArray[np.floating]) -> Floats:
    values = np.asarray(vectors, np.float64)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)

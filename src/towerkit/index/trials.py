"""Several indexes of the same vectors, measured beside each other: how much they find, how fast, and in how much memory.

Recall is the share of the exact hits that an index finds, the mean over the queries. An index with a setting of effort (nodes of a
graph, lists visited) is built once and measured at growing effort, until it finds what is wanted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from towerkit.core.errors import SpecError
from towerkit.index.contract import Floats
from towerkit.index.exact import ExactIndex
from towerkit.index.faiss_index import FaissIndex, native_bytes, set_effort
from towerkit.index.filling import Fill, alone
from towerkit.index.hits import Hits
from towerkit.index.keyed import KeyedVectors
from towerkit.index.specs import AnySpec, ExactIndexSpec, FaissIndexSpec
from towerkit.index.stored import StoredIndex

BATCH = 64
"""Queries of a batch whose time is taken."""
_EFFORTS = (16, 32, 64, 128, 256, 512, 1024)
_SINGLE = 200
"""Queries that are timed one by one."""
_WHOLE_GRID = 200_000
"""Candidates up to which every sort is built when nothing else is said; above, building takes minutes each."""


@dataclass(frozen=True)
class Trial:
    """One index as it was measured."""

    kind: str
    factory: str
    """Of faiss, or what Milvus calls its type; empty for an exact one."""
    dim: int
    """Width of the vectors that it searches."""
    dtype: str
    """Of the numbers that it searches."""
    effort: int | None
    """Nodes that the search of a graph keeps, or lists that it visits; None where there is no such setting."""
    recall: float
    """Share of the exact hits found, the mean over the queries."""
    single_s: float
    """Median seconds of one query."""
    p99_s: float
    """The slowest of a hundred single queries."""
    batch_s: float
    """Seconds for each query in batches of 64, the median batch."""
    bytes: int
    """What is searched, in memory; float32 vectors to score hits with stand beside an approximate one, mapped from a file."""
    build_s: float
    """Seconds to train and fill it."""

    @property
    def name(self) -> str:
        """What to call it in a line."""
        return f"{self.kind} {self.factory} of width {self.dim}" if self.factory else self.kind

    def as_dict(self) -> dict[str, Any]:
        """In plain data."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Tried:
    """An index that was built and measured."""

    trial: Trial
    spec: AnySpec
    index: StoredIndex


def menu(num_candidates: int, dim: int) -> list[ExactIndexSpec | FaissIndexSpec]:
    """What is tried where nobody names a sort: type x width x float32, float16 and int8.

    Args:
        num_candidates: A large catalogue gets fewer sorts.
        dim: Width of the vectors.
    """
    lists = 2 ** int(np.clip(np.round(np.log2(4 * np.sqrt(max(num_candidates, 1)))), 2, 16))
    lists = min(lists, max(num_candidates // 39, 1))  # faiss wants 39 vectors or more to learn a list from
    found: list[ExactIndexSpec | FaissIndexSpec] = [ExactIndexSpec()]
    widths = [None, dim // 2] if dim >= 16 and num_candidates <= _WHOLE_GRID else [None]
    for width in widths:
        few = 4 if width else 1
        for graph, refine in (("HNSW32", few), ("HNSW32_SQfp16", few), ("HNSW32_SQ8", 2 * few)):
            found.append(FaissIndexSpec(factory=graph, dim=width, refine=refine))
        for code, refine in (("Flat", few), ("SQfp16", few), ("SQ8", 2 * few)):
            found.append(FaissIndexSpec(factory=f"IVF{lists},{code}", dim=width, refine=refine))
    if dim % 4 == 0 and num_candidates >= 10_000:
        found.append(FaissIndexSpec(factory=f"IVF{lists},PQ{dim // 4}", refine=16))
    if num_candidates <= _WHOLE_GRID:
        return found
    large = ("HNSW32", "HNSW32_SQ8", f"IVF{lists},SQ8")
    return [each for each in found if isinstance(each, ExactIndexSpec) or each.factory in large]


def try_all(
    stored: KeyedVectors,
    queries: Floats,
    specs: Sequence[AnySpec],
    *,
    k: int,
    recall: float | None = None,
    fill: Fill = alone,
    tell: Callable[[str], None] = lambda text: None,
) -> Iterator[Tried]:
    """Build and measure several indexes, one after the other.

    Args:
        stored: Keys and vectors.
        queries: ``[queries, dim]`` raw ones, such as will be asked.
        specs: What to build; one that names its effort is measured at that alone.
        k: Hits that recall looks at.
        recall: What is wanted: effort does not grow beyond it. None for each index as its spec says.
        fill: Puts the vectors into an index of faiss.
        tell: Told what is being built.

    Yields:
        What was measured, with the index, which the next measurement may set to another effort.

    Raises:
        SpecError: If an index cannot be built, or there is nothing to measure with.
    """
    if not len(stored) or not len(queries):
        raise SpecError(f"Recall is measured with queries on candidates; there are {len(queries)} and {len(stored)}.")
    truth = ExactIndex(stored).search(queries, k)
    for place, spec in enumerate(specs):
        tell(f"{place + 1} of {len(specs)}: {name_of(spec)}")
        started = time.perf_counter()
        index = spec.build(stored, fill=fill) if isinstance(spec, FaissIndexSpec) else spec.build(stored)
        build_s = time.perf_counter() - started
        for own in _at_growing_effort(index, spec) if recall is not None else [spec]:
            trial = measured(index, own, queries, truth, k, build_s)
            yield Tried(trial, own, index)
            if recall is not None and trial.recall >= recall:
                break


def measured(index: StoredIndex, spec: AnySpec, queries: Floats, truth: Hits, k: int, build_s: float) -> Trial:
    """Measure one index.

    Args:
        index: As it is.
        spec: What it is.
        queries: ``[queries, dim]``.
        truth: The exact hits.
        k: Hits that recall looks at.
        build_s: How long it took to build.
    """
    hits = index.search(queries, k)  # also loads what is loaded once
    found = recall_of(hits, truth)
    single = [_seconds(index, queries[place : place + 1], k) for place in range(min(_SINGLE, len(queries)))]
    starts = range(0, max(len(queries) - BATCH, 0) + 1, BATCH)
    batches = [_seconds(index, queries[start : start + BATCH], k) for start in starts]
    return Trial(
        **_facts(spec, index),
        recall=found,
        single_s=float(np.median(single)),
        p99_s=float(np.quantile(single, 0.99)),
        batch_s=float(np.median(batches)) / min(BATCH, len(queries)),
        build_s=build_s,
    )


def _facts(spec: AnySpec, index: StoredIndex) -> dict[str, Any]:
    """What an index is, as a trial has it."""
    found = {"kind": spec.kind, "factory": "", "dim": index.dim, "dtype": "float32", "effort": None}
    found["bytes"] = index.stored.vectors.nbytes
    if isinstance(spec, ExactIndexSpec):
        return found
    found["effort"] = spec.ef_search or spec.nprobe
    if not (isinstance(spec, FaissIndexSpec) and isinstance(index, FaissIndex)):
        return found | {"factory": getattr(spec, "index_type", "")}
    width, size = spec.dim or index.dim, native_bytes(index.native)
    return found | {"factory": spec.factory, "dim": width, "dtype": _dtype(spec.factory), "bytes": size}


def recall_of(hits: Hits, truth: Hits) -> float:
    """The share of the exact hits that were found, the mean over the queries that have any.

    Args:
        hits: Of an index.
        truth: The exact ones.

    Example:
        >>> two, three = np.array([[4, 7, -1]]), np.array([[4, 7, 9]])
        >>> recall_of(Hits(two, np.zeros((1, 3)), np.array([2])), Hits(three, np.zeros((1, 3)), np.array([3])))
        0.6666666666666666
    """
    shares = [
        np.isin(true[:count], own).mean()
        for true, own, count in zip(truth.rows, hits.rows, truth.counts, strict=True)
        if count
    ]
    return float(np.mean(shares)) if shares else 1.0


def pick(tried: Iterable[Tried], recall: float) -> tuple[list[Trial], Tried]:
    """The fastest index, one query at a time, of those that find enough; the exact one unless another takes half its time.

    Args:
        tried: What is measured, one after the other: only the best one so far is kept.
        recall: What is wanted.

    Returns:
        All that was measured, and the one that is taken, set to its effort.

    Raises:
        SpecError: If none finds enough; names the one that finds most.
    """
    trials: list[Trial] = []
    best: Tried | None = None
    for each in tried:
        trials.append(each.trial)
        if each.trial.recall >= recall and (best is None or _cost(each) < _cost(best)):
            best = each
    if best is None:
        most = max(trials, key=lambda trial: trial.recall)
        raise SpecError(
            f"No index that was tried reaches a recall of {recall:g}; {most.name} comes nearest with {most.recall:.4f}. Ask for "
            "less, name other factories, raise refine, or take --kind exact."
        )
    if isinstance(best.spec, FaissIndexSpec) and isinstance(best.index, FaissIndex):
        set_effort(best.index.native, best.spec.factory, ef_search=best.spec.ef_search, nprobe=best.spec.nprobe)
    return trials, best


def _cost(tried: Tried) -> float:
    """What counts when one is picked: an index that may miss something must be worth it."""
    return tried.trial.single_s * (0.5 if tried.index.exact else 1.0)


def name_of(spec: AnySpec) -> str:
    """What to call an index in a line.

    Example:
        >>> name_of(FaissIndexSpec(factory="HNSW32", dim=16))
        'faiss HNSW32 of width 16'
    """
    if isinstance(spec, FaissIndexSpec):
        return f"faiss {spec.factory}{f' of width {spec.dim}' if spec.dim else ''}"
    return spec.kind if isinstance(spec, ExactIndexSpec) else f"{spec.kind} {spec.index_type}"


def _at_growing_effort(index: StoredIndex, spec: AnySpec) -> Iterator[AnySpec]:
    """The spec at each effort, the index set to it; once where its effort is given or it has none."""
    if not (isinstance(spec, FaissIndexSpec) and isinstance(index, FaissIndex)) or spec.ef_search or spec.nprobe:
        yield spec
        return
    setting = "ef_search" if "HNSW" in spec.factory else "nprobe" if "IVF" in spec.factory else None
    if setting is None:
        yield spec
        return
    most = getattr(index.native, "nlist", _EFFORTS[-1])
    for effort in (1, 2, 4, 8, *_EFFORTS) if setting == "nprobe" else _EFFORTS:
        set_effort(index.native, spec.factory, **{setting: min(effort, most)})
        yield spec.model_copy(update={setting: min(effort, most)})
        if effort >= most:
            return


def _dtype(factory: str) -> str:
    for code, dtype in (("SQfp16", "float16"), ("SQ8", "int8"), ("PQ", "codes")):
        if code in factory:
            return dtype
    return "float32"


def _seconds(index: StoredIndex, queries: Floats, k: int) -> float:
    started = time.perf_counter()
    index.search(queries, k)
    return time.perf_counter() - started

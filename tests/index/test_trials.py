"""Indexes measured beside each other.

- recall is the share of the exact hits, 1 of an exact index, and less of a graph that hardly searches;
- effort grows until enough is found, and no further; what names its effort is measured at it alone;
- the fastest that finds enough is picked, the exact one unless another takes half its time; else the nearest one is named;
- the menu crosses sorts, widths and number types, and every entry builds.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

from towerkit.core.errors import SpecError
from towerkit.index.exact import ExactIndex
from towerkit.index.keyed import KeyedVectors
from towerkit.index.specs import AnySpec, ExactIndexSpec, FaissIndexSpec
from towerkit.index.stored import keyed_vectors
from towerkit.index.trials import Trial, Tried, menu, pick, try_all

needs_faiss = pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="needs towerkit[ann]")


@pytest.fixture(scope="module")
def stored() -> KeyedVectors:
    return keyed_vectors(list(range(2000)), np.random.default_rng(0).normal(size=(2000, 16)), "cosine")


QUERIES = np.random.default_rng(1).normal(size=(40, 16)).astype(np.float32)


def tried(name: str, recall: float, single_s: float) -> Tried:
    """A measurement as it might be."""
    numbers = {"recall": recall, "single_s": single_s, "p99_s": 1.0, "batch_s": 1.0, "bytes": 1, "build_s": 1.0}
    trial = Trial(kind="faiss", factory=name, dim=4, dtype="float32", effort=None, **numbers)  # type: ignore[arg-type]
    spec: AnySpec = ExactIndexSpec() if name == "" else FaissIndexSpec(factory=name)
    return Tried(trial, spec, ExactIndex.of([1], np.ones((1, 4)), "dot") if name == "" else _approximate())


def _approximate() -> ExactIndex:
    index = ExactIndex.of([1], np.ones((1, 4)), "dot")
    vars(index)["exact"] = False
    return index


def test_the_fastest_that_finds_enough_is_picked() -> None:
    measured = [tried("", 1.0, 10.0), tried("A", 0.97, 1.0), tried("B", 0.99, 4.0), tried("C", 0.98, 4.5)]
    trials, best = pick(iter(measured), 0.98)
    assert (best.trial.factory, len(trials)) == ("B", 4)
    measured[2] = replace(measured[2], trial=replace(measured[2].trial, single_s=6.0))
    measured[3] = replace(measured[3], trial=replace(measured[3].trial, single_s=5.5))
    assert pick(iter(measured), 0.98)[1].trial.factory == ""
    with pytest.raises(SpecError, match=r"a recall of 0.999; faiss B of width 4 comes nearest with 0.9900"):
        pick(iter(measured[1:]), 0.999)


@needs_faiss
def test_effort_grows_until_enough_is_found(stored: KeyedVectors) -> None:
    found = list(try_all(stored, QUERIES, [FaissIndexSpec(factory="IVF32,Flat")], k=10, recall=0.9))
    recalls, efforts = [each.trial.recall for each in found], [each.trial.effort for each in found]
    assert efforts == [1, 2, 4, 8, 16, 32][: len(efforts)]
    assert recalls == sorted(recalls)
    assert all(recall < 0.9 for recall in recalls[:-1])
    assert recalls[-1] >= 0.9 > recalls[0] > 0.1
    fixed = FaissIndexSpec(factory="IVF32,Flat", nprobe=2)
    alone = list(try_all(stored, QUERIES, [fixed], k=10, recall=0.9))
    assert [(each.spec, each.trial.recall) for each in alone] == [(fixed, recalls[1])]


@needs_faiss
def test_an_exact_index_finds_everything_and_fewer_bits_take_less(stored: KeyedVectors) -> None:
    specs = [ExactIndexSpec(), *(FaissIndexSpec(factory=name) for name in ("Flat", "SQfp16", "SQ8"))]
    exact, full, half, byte = (each.trial for each in try_all(stored, QUERIES, specs, k=10))
    assert exact.recall == 1.0
    assert exact.bytes == 2000 * 16 * 4
    assert full.bytes > half.bytes > byte.bytes
    assert [each.dtype for each in (full, half, byte)] == ["float32", "float16", "int8"]
    assert min(exact.single_s, exact.p99_s, exact.batch_s, full.build_s) > 0


@needs_faiss
def test_every_entry_of_the_menu_builds(stored: KeyedVectors) -> None:
    entries = menu(len(stored), 16)
    assert {entry.dim for entry in entries if isinstance(entry, FaissIndexSpec)} == {None, 8}
    assert len(entries) == 13
    for entry in entries:
        assert len(entry.build(stored)) == 2000
    assert [getattr(each, "factory", "exact") for each in menu(10**6, 64)] == [
        "exact",
        "HNSW32",
        "HNSW32_SQ8",
        "IVF4096,SQ8",
    ]


def test_nothing_can_be_measured_without_queries(stored: KeyedVectors) -> None:
    with pytest.raises(SpecError, match="there are 0 and 2000"):
        list(try_all(stored, QUERIES[:0], [ExactIndexSpec()], k=3))

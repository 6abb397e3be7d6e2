"""What each query met, in a Run.

Invariants: events come back bit for bit, with and without times; a file whose places, codes or times do not fit the catalogues
is refused; a Run whose model reads histories is refused without the file; shared vectors are stored once.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import towerkit as tk
from towerkit.artifact.events import load_events, save_events
from towerkit.artifact.models import load_retriever, save_retriever
from towerkit.core.errors import RunError
from towerkit.features.history import Events
from towerkit.models.answer import Retriever
from towerkit.storage.tensors import load_tensors, save_tensors

EVENTS = Events(np.array([0, 0, 2, 2, 3]), np.array([4, 1, 5], np.int32), np.array([1.5, 2.0, 0.5]))


@pytest.mark.parametrize("times", [EVENTS.times, None])
def test_events_come_back(tmp_path: Path, times: np.ndarray | None) -> None:
    save_events(tmp_path / "h.safetensors", Events(EVENTS.starts, EVENTS.codes, times))
    again = load_events(tmp_path / "h.safetensors", 3, 6)
    np.testing.assert_array_equal(again.starts, EVENTS.starts)
    np.testing.assert_array_equal(again.codes, EVENTS.codes)
    assert again.codes.dtype == np.int32
    assert again.is_dated and (again.times is None) == (times is None)
    if times is not None:
        np.testing.assert_array_equal(again.times, times)


def test_events_of_one_moment_may_stand_together(tmp_path: Path) -> None:
    save_events(tmp_path / "h.safetensors", Events(EVENTS.starts, EVENTS.codes, np.array([2.0, 2.0, 0.5])))
    times = load_events(tmp_path / "h.safetensors", 3, 6).times
    assert times is not None and times.tolist() == [2.0, 2.0, 0.5]


DAMAGE = {
    "a code beyond the table": {"codes": np.array([4, 1, 6], np.int32)},
    "the unknown code": {"codes": np.array([4, 0, 5], np.int32)},
    "fewer codes": {"codes": np.array([4, 1], np.int32)},
    "places that fall": {"starts": np.array([0, 0, 2, 1, 3])},
    "places that begin before the first": {"starts": np.array([-1, 0, 2, 2, 3])},
    "another number of queries": {"starts": np.array([0, 0, 2, 3])},
    "events of nobody": {"starts": np.array([0, 1, 2, 2, 3])},
    "fewer times": {"times": np.array([1.0, 2.0])},
    "times that fall within a query": {"times": np.array([2.0, 1.5, 0.5])},
    "a time that is none": {"times": np.array([1.5, np.nan, 0.5])},
    "a table of codes": {"codes": np.array([[4, 1, 5]], np.int32)},
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "h.safetensors"
    save_events(path, EVENTS)
    save_tensors(path, {**load_tensors(path), **DAMAGE[damage]})
    with pytest.raises(RunError, match=r"h\.safetensors does not fit the catalogues of 3 queries and 5 candidates"):
        load_events(path, 3, 6)
    save_tensors(path, {"starts": EVENTS.starts})
    with pytest.raises(RunError, match="does not fit"):
        load_events(path, 3, 6)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Retriever:
    data = tk.read("builtin:shop-small/purchases", query="user_id", candidate="product_id", time="time")
    sides = {"query": {"kind": "history", "dim": 4}, "candidate": {"kind": "id", "dim": 4}}
    run = tk.fit(
        {"model": {"kind": "two_tower", **sides}, "training": {"epochs": 1}},
        data,
        run=tmp_path_factory.mktemp("r") / "run",
    )
    assert isinstance(run.model, Retriever)
    return run.model


def test_a_retriever_with_histories_comes_back(model: Retriever, tmp_path: Path) -> None:
    save_retriever(tmp_path, model)
    again = load_retriever(tmp_path)
    assert np.array_equal(again.query_vectors, model.query_vectors)
    assert np.std(again.query_vectors, axis=0).min() > 0
    for one, other in zip(model.model.state_dict().items(), again.model.state_dict().items(), strict=True):
        assert one[0] == other[0] and torch.equal(one[1], other[1])
    candidates = model.model.candidate.id_towers()["id"].table
    stored = (tmp_path / "weights.safetensors").stat().st_size
    assert stored < 1.5 * candidates.numel() * 4 + 1024, "the shared table is stored once"
    (tmp_path / "history.safetensors").unlink()
    with pytest.raises(RunError, match=r"history\.safetensors"):
        load_retriever(tmp_path)

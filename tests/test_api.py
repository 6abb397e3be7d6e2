"""The Python door.

Pinned: the three ways to call ``fit``; ``read`` takes data frames of any make and answers the same for each; roles that
do not belong are refused by name; kinds of event weigh as a column of weights does, and every setting that chooses rows
trains; the positive class that a head names is the one that predictions give; a Run goes to a fresh folder unless one is
named, and that goes with the process; nothing global is touched.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import towerkit as tk
from towerkit.doctor import examine
from towerkit.training.progress import Silent

DRAW = np.random.default_rng(0)
EVENTS: dict[str, list[Any]] = {
    "user": [f"u{n}" for n in DRAW.integers(0, 20, 200)],
    "item": [f"i{n}" for n in DRAW.integers(0, 15, 200)],
    "ts": list(range(200)),
}
ROLES = {"query": "user", "candidate": "item"}
ID = {"kind": "id", "dim": 4}
SPEC: dict[str, Any] = {
    "model": {"kind": "two_tower", "query": ID, "candidate": ID},
    "training": {"epochs": 1},
    "evaluation": {"k": [5]},
}


class Told(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def epoch(self, record: Mapping[str, Any], *, stage: str, epochs: int, is_best: bool) -> None:
        """One epoch."""
        self.stages.append(stage)


def test_a_spec_file_with_paths_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["user,item", *(f"{u},{i}" for u, i in zip(EVENTS["user"], EVENTS["item"], strict=True))]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "events.csv").write_text("\n".join(lines) + "\n")
    data = {"examples": {"path": "data/events.csv", **ROLES}}
    (tmp_path / "spec.yaml").write_text(json.dumps({"data": data, **SPEC}))
    monkeypatch.chdir("/")
    run = tk.fit(tmp_path / "spec.yaml", run=tmp_path / "run")
    assert run.path == tmp_path / "run" and run.spec["data"]["examples"]["path"] == "data/events.csv"


def test_a_spec_and_a_data_set() -> None:
    data = tk.read(EVENTS, **ROLES)
    by_mapping = tk.fit(SPEC, data)
    by_object = tk.fit(tk.ModelingSpec.model_validate(SPEC), data)
    assert by_mapping.evaluate().as_dict() == by_object.evaluate().as_dict()
    assert by_mapping.path != by_object.path, "each gets a folder of its own"


def test_nothing_temporary_outlives_the_process(tmp_path: Path) -> None:
    code = f"import towerkit as tk; print(tk.fit({SPEC!r}, tk.read({EVENTS!r}, **{ROLES!r})).path.is_dir())"
    command = [sys.executable, "-c", code]
    place = {**os.environ, "TMPDIR": str(tmp_path)}
    assert subprocess.run(command, env=place, capture_output=True, text=True, check=True).stdout == "True\n"
    assert not list(tmp_path.glob("towerkit-*"))


def test_a_table_of_pairs_with_default_settings() -> None:
    told = Told()
    run = tk.fit(EVENTS, query="user", candidate="item", time="ts", progress=told)
    assert run.kind == "two_tower" and run.spec["model"]["query"]["dim"] == 64
    assert run.evaluate().protocol["split"]["kind"] == "time"
    assert set(told.stages) == {"train", "refit"}


def test_frames_of_any_make_give_the_same_data_set() -> None:
    pandas, polars, duckdb = (pytest.importorskip(name) for name in ("pandas", "polars", "duckdb"))
    frame = pandas.DataFrame(EVENTS)
    relation = duckdb.sql("select * from frame")
    records = [dict(zip(EVENTS, row, strict=True)) for row in zip(*EVENTS.values(), strict=True)]
    found = [tk.read(table, **ROLES) for table in (EVENTS, frame, polars.DataFrame(EVENTS), relation, records)]
    for data in found:
        assert data.examples.data.to_pydict() == EVENTS
        assert np.array_equal(data.parts.test, found[0].parts.test)


def test_entities_as_tables_and_with_key_and_title() -> None:
    items = {"code": [f"i{n}" for n in range(15)], "name": [f"Item {n}" for n in range(15)]}
    data = tk.read(EVENTS, **ROLES, entities={"item": {"table": items, "key": "code", "title": "name"}})
    assert data.entities["item"].key == "code" and data.entities["item"].title == "name"
    plain = tk.read(EVENTS, **ROLES, entities={"user": {"user": [f"u{n}" for n in range(20)], "age": list(range(20))}})
    assert plain.entities["user"].key == "user" and plain.entities["user"].title is None
    assert tk.fit(SPEC, data).recommend("u1", k=1).column_names == ["query", "rank", "item", "title", "score", "cold"]


@pytest.mark.parametrize(
    ("roles", "split", "kind"),
    [
        ({**ROLES, "time": "ts"}, None, "time"),
        (ROLES, None, "per_query"),
        ({}, None, "random"),
        ({**ROLES, "time": "ts"}, {"kind": "random"}, "random"),
    ],
)
def test_the_split_follows_the_roles(roles: dict[str, str], split: dict[str, Any] | None, kind: str) -> None:
    data = tk.read(EVENTS, split=split, **roles)  # type: ignore[arg-type]
    assert data.split["kind"] == kind and all(data.parts.sizes().values())


def test_a_test_table_of_its_own() -> None:
    data = tk.read(EVENTS, test={"user": ["u1", "new"], "item": ["i3", "i4"], "ts": [300, 301]}, **ROLES)
    assert data.parts.test.tolist() == [200, 201] and data.split["test"] == "given"
    protocol = tk.fit(SPEC, data).evaluate().protocol
    assert protocol["part"] == "test" and protocol["unknown_queries"] == 1


@pytest.mark.parametrize(
    ("arguments", "roles", "message"),
    [
        ((EVENTS,), {}, "fit needs a spec, or a table with the names of its columns.* Received dict"),
        ((EVENTS,), {"query": "user", "candidates": "item"}, "no argument 'candidates'; did you mean 'candidate'"),
        ((SPEC, None), {}, "The spec says nothing of data"),
        ((SPEC, None), {"query": "user"}, "'query' belongs to a table of pairs, and a spec was given"),
        (("events.csv",), {}, "fit needs a spec.* Received str"),
        (("none.yaml",), {}, r"The spec file none\.yaml does not exist"),
        (({"model": {"kind": "two_towr"}},), {}, "the spec: model: unknown kind 'two_towr'; did you mean 'two_tower'"),
    ],
)
def test_calls_that_cannot_be_meant(arguments: tuple[Any, ...], roles: dict[str, str], message: str) -> None:
    with pytest.raises(tk.SpecError, match=message):
        tk.fit(*arguments, **roles)


def test_a_bad_split_is_refused_in_the_words_of_the_spec() -> None:
    with pytest.raises(tk.SpecError, match="read: split: unknown kind 'rnd'; did you mean 'random'"):
        tk.read(EVENTS, split={"kind": "rnd"})


def test_reading_training_and_answering_touch_nothing_global() -> None:
    before = random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002 - watched
    tk.fit(SPEC, tk.read(EVENTS, **ROLES)).recommend("u1")
    assert before == (random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist())  # noqa: NPY002


def test_the_seed_decides() -> None:
    data = tk.read(EVENTS, **ROLES)
    figures = [
        tk.fit({**SPEC, "training": {"epochs": 1, "seed": seed}}, data).recommend("u1").column("score").to_pylist()
        for seed in (3, 3, 4)
    ]
    assert figures[0] == figures[1] != figures[2]


def test_every_public_name_is_there() -> None:
    for name in tk.__all__:
        assert getattr(tk, name) is not None
    assert sorted(tk.__all__) == dir(tk)
    with pytest.raises(AttributeError, match="no attribute 'fit_'"):
        tk.fit_


def test_events_weigh_as_a_column_of_weights_does() -> None:
    kinds = ["view" if n % 3 else "buy" for n in range(200)]
    columns = {**EVENTS, "kind": kinds, "w": [1.0 if kind == "view" else 4.0 for kind in kinds]}
    by_event = tk.read(columns, **ROLES, event={"column": "kind", "weights": {"view": 1, "buy": 4}})
    by_weight, by_none = tk.read(columns, **ROLES, weight="w"), tk.read(columns, **ROLES)
    runs = [tk.fit(SPEC, data) for data in (by_event, by_weight, by_none)]
    first, second, third = ((run.path / "model" / "weights.safetensors").read_bytes() for run in runs)
    assert first == second != third


def test_every_setting_of_the_rows_trains() -> None:
    columns = {**EVENTS, "stars": [n % 5 + 1 for n in range(200)]}
    settings: dict[str, Any] = {
        "time": "ts",
        "positive": "stars >= 2",
        "decay": {"half_life": 50},
        "duplicates": "count",
        "min_count": {"query": 2},
        "k_core": 2,
        "split": {"kind": "leave_last"},
    }
    run = tk.fit(columns, **ROLES, **settings)
    split = run.evaluation.protocol["split"]
    assert split["left_out"] == {"not_positive": 40}
    assert set(split["learned"]["removed"]) == {"duplicates", "min_count", "k_core"}
    assert "leave_last does not cut" in split["warnings"][0]
    assert run.evaluation.protocol["queries"] <= 20


def test_a_rule_of_positives_is_refused_for_predictions() -> None:
    table = {"kind": "table", "columns": ["ts"], "dim": 4}
    spec = {
        "model": {"kind": "tower_model", "towers": {"t": table}, "heads": {"s": {"kind": "ordinal", "column": "stars"}}}
    }
    data = tk.read({**EVENTS, "stars": [n % 5 + 1 for n in range(200)]}, **ROLES, positive="stars >= 2")
    with pytest.raises(
        tk.SpecError, match=r"says which rows are pairs of a two_tower, .* tower_model: .*\"stars >= 2\""
    ):
        tk.fit(spec, data)


@pytest.mark.parametrize("named", ["Ja", "Nein"])
def test_the_positive_class_is_what_a_prediction_gives(named: str) -> None:
    columns = {"x": [float(n % 10) for n in range(200)], "y": ["Ja" if n % 10 >= 5 else "Nein" for n in range(200)]}
    head = {"kind": "binary", "column": "y", "positive": named}
    model = {
        "kind": "tower_model",
        "towers": {"t": {"kind": "table", "columns": ["x"], "dim": 8}},
        "heads": {"y": head},
    }
    run = tk.fit({"model": model, "training": {"epochs": 20, "batch_size": 16}}, tk.read(columns))
    answers = run.predict({"x": [9.0, 0.0]})
    assert answers.column("y").to_pylist() == ["Ja", "Nein"]
    (probability,) = [name for name in answers.column_names if name != "y"]
    high, low = answers.column(probability).to_pylist()
    assert (high > 0.9 > 0.1 > low) if named == "Ja" else (high < 0.1 < 0.9 < low)
    assert run.evaluation.protocol["tasks"]["y"]["positive"] == named
    assert run.evaluation.protocol["repeats"] == 20  # every x stands in training
    notes = examine(str(run.path))["notes"]
    assert any(f"the positive class of 'y' is '{named}'" in note for note in notes)

"""Which baselines a ranking is compared with.

Invariants:
- by default popularity and item-kNN, and recent popularity where the data has a time; a spec may choose, by name or with settings;
- every baseline ranks the same queries as the model, with the settings that were given;
- one that is too large is left out, and the model's protocol and the printed line say why; one that needs a time is
  refused before training where there is none;
- last times belong to their pairs: the result equals one that is made from the raw rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import csr_array

from towerkit.api import read
from towerkit.baselines.base import Interactions
from towerkit.baselines.ranking import last_times, ranking_baselines
from towerkit.core.errors import SpecError
from towerkit.core.spec import parse
from towerkit.evaluation.result import protocol_line
from towerkit.experiment import Outcome, train_and_evaluate
from towerkit.measurable import held_out_part
from towerkit.models.answer import Retriever
from towerkit.spec import ModelingSpec
from towerkit.training.loop import Silent

ALL = ["popularity", "recent_popularity", "item_knn", "ease", "ials"]
ID = {"kind": "id", "dim": 4}


def table(*, missing: float = 0.0) -> pa.Table:
    draw = np.random.default_rng(0)
    users, items = draw.integers(0, 30, 500), draw.integers(0, 20, 500)
    when = draw.permutation(500).astype(float)
    mask = draw.random(500) < missing
    return pa.table(
        {
            "user": [f"u{n}" for n in users],
            "item": [f"i{n}" for n in items],
            "when": pa.array(when, mask=mask),
        }
    )


def spec_of(baselines: Any = None) -> ModelingSpec:
    model = {"kind": "two_tower", "query": ID, "candidate": ID}
    evaluation = {"k": [5]} if baselines is None else {"k": [5], "baselines": baselines}
    return parse(ModelingSpec, {"model": model, "training": {"epochs": 1}, "evaluation": evaluation})


def dataset_of(*, time: bool = True, missing: float = 0.0) -> Any:
    roles = {"query": "user", "candidate": "item", **({"time": "when"} if time else {})}
    split = {"kind": "per_query", "validation": 0.1, "test": 0.2}
    return read(table(missing=missing), split=split, **roles)


def outcome(baselines: Any = None, *, time: bool = True, missing: float = 0.0) -> Outcome:
    return train_and_evaluate(spec_of(baselines), dataset_of(time=time, missing=missing), Silent())


def test_the_default_follows_the_data() -> None:
    assert list(outcome().baselines) == ["popularity", "recent_popularity", "item_knn"]
    assert list(outcome(time=False).baselines) == ["popularity", "item_knn"]


def test_a_spec_chooses_by_name_or_with_settings() -> None:
    chosen = outcome([*ALL[:3], {"kind": "ease", "l2": 7}, {"kind": "ials", "dim": 3, "epochs": 2}])
    assert list(chosen.baselines) == ALL
    other = outcome(["ease", {"kind": "ials", "dim": 3, "epochs": 1}])
    for name in ("ease", "ials"):
        assert other.baselines[name].metrics["ndcg@5"].value != chosen.baselines[name].metrics["ndcg@5"].value
    keys = chosen.evaluation.details["ranking"].column("query")
    for evaluation in chosen.baselines.values():
        assert evaluation.details["ranking"].column("query").equals(keys)
    assert "baselines_left_out" not in chosen.evaluation.protocol


def test_a_large_one_is_left_out_with_the_reason() -> None:
    # 20 candidates in one block: 4 bytes x 20 x 40.
    found = outcome(["popularity", {"kind": "ease", "memory_gb": 1e-6}])
    reason = "needs 0.0 GB for the 20 x 20 matrix of its candidates in float32, and may use 1e-06 GB (memory_gb)"
    assert list(found.baselines) == ["popularity"]
    assert found.evaluation.protocol["baselines_left_out"] == {"ease": reason}
    assert f"the baseline ease is left out: it {reason}" in protocol_line(found.evaluation.protocol)


def test_times_that_are_all_missing_are_a_reason_and_no_time_column_is_an_error() -> None:
    found = outcome(missing=1.1)
    assert found.evaluation.protocol["baselines_left_out"] == {
        "recent_popularity": "needs times, and no training pair has one"
    }
    with pytest.raises(SpecError, match="'recent_popularity' needs a time, and .* has no time column"):
        outcome(ALL, time=False)


def test_last_times_belong_to_their_pairs() -> None:
    dataset = dataset_of(missing=0.3)
    model = train_and_evaluate(spec_of(), dataset, Silent()).model
    assert isinstance(model, Retriever)
    learned = held_out_part(dataset)[2].parts.train
    times = last_times(model, dataset, learned)
    assert times is not None
    expected: dict[tuple[str, str], float] = {}
    for row in dataset.examples.data.take(learned).to_pylist():
        pair, when = (row["user"], row["item"]), np.nan if row["when"] is None else row["when"]
        expected[pair] = float(np.fmax(expected.get(pair, np.nan), when))
    owner = np.repeat(np.arange(model.seen.shape[0]), np.diff(model.seen.indptr))
    users, items = model.query.keys.to_pylist(), model.candidate.keys.to_pylist()
    found = {(users[q], items[c]): t for q, c, t in zip(owner, model.seen.indices, times, strict=True)}
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[pair], expected[pair], equal_nan=True) for pair in expected)
    assert np.isnan(times).any() and np.isfinite(times).any()


def test_bad_choices_are_refused() -> None:
    with pytest.raises(SpecError, match=r"evaluation\.baselines.*'ease' stands more often"):
        spec_of(["ease", {"kind": "ease", "l2": 3}])
    with pytest.raises(SpecError, match=r"evaluation\.baselines\.0: unknown kind 'eas'; did you mean 'ease'\?"):
        spec_of(["eas"])
    with pytest.raises(SpecError, match="needs 1 or more entries"):
        spec_of([])
    towers = {"table": {"kind": "table", "columns": ["when"]}}
    model = {"kind": "tower_model", "towers": towers, "heads": {"item": {"kind": "multiclass", "column": "item"}}}
    with pytest.raises(
        SpecError, match=r"'evaluation\.baselines' are those of rankings, but the model is a tower_model"
    ):
        parse(ModelingSpec, {"model": model, "evaluation": {"baselines": ["popularity"]}})


def test_they_are_fitted_one_by_one() -> None:
    fitting = ranking_baselines(Interactions(csr_array(np.eye(3))))
    assert next(fitting)[0] == "popularity"
    assert [name for name, _ in fitting] == ["item_knn"]

"""Robustness to lost columns.

Pinned: a share of the rows loses the group's columns together and no other value changes; those lost at a smaller share are among
those at a larger one; permuted values are the same values; the figures at a share of 0 are those of an ordinary evaluation; a
column that the model does not need costs nothing, one that it lives by costs everything, and in a late fusion only that
member's part; groups are towers, members, and members within members; what is no group, no share, or a label is refused.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towerkit import cli
from towerkit.api import fit, read
from towerkit.core.errors import DataError, RunError, SpecError
from towerkit.data.table import Table
from towerkit.evaluation.robustness import damaged
from towerkit.run import Run
from towerkit.trained import column_groups

UP = {"kind": "binary", "column": "up"}
TRAINING = {"epochs": 8, "batch_size": 32, "optimizer": {"kind": "adam", "lr": 0.05}}
FOREST = {"kind": "random_forest", "n_estimators": 15, "min_samples_leaf": 8, "max_features": 1.0}


def rows(seed: int, count: int = 300) -> pa.Table:
    """The answer is in a; b has a faint copy of it, c has nothing."""
    draw = np.random.default_rng(seed)
    a, c = draw.normal(size=(2, count))
    b = a + 1.5 * draw.normal(size=count)
    words = np.where(c > 0, "red wool", "blue silk")
    return pa.table({"a": a, "b": b, "c": c, "words": words, "up": (a > 0).astype(int)})


def tower(column: str) -> dict[str, Any]:
    """A table tower of one column."""
    return {"kind": "table", "columns": [column], "layers": [], "dim": 4}


def forest(column: str) -> dict[str, Any]:
    """A member of one column."""
    return {"kind": "sklearn", "estimator": FOREST, "columns": [column], "task": UP}


EARLY = {"kind": "tower_model", "towers": {"good": tower("a"), "none": tower("c")}, "heads": {"up": UP}}
LATE = {"kind": "late_fusion", "members": {"good": forest("a"), "faint": forest("b")}, "combine": {"kind": "average"}}
HYBRID = {"kind": "late_fusion", "members": {"pair": EARLY, "group": LATE}, "combine": {"kind": "average"}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder, data = (
        tmp_path_factory.mktemp("runs"),
        read(rows(0), split={"kind": "random", "validation": 0.2, "test": 0.1}),
    )
    models = {"early": EARLY, "late": LATE, "hybrid": HYBRID}
    return {
        name: fit({"model": model, "training": TRAINING}, data, run=folder / name) for name, model in models.items()
    }


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**40))
def test_rows_lose_their_group_together_and_more_of_them_at_a_larger_share(
    count: int, one: float, other: float, seed: int
) -> None:
    table = Table(pa.table({"a": np.arange(count), "b": np.arange(count), "c": np.arange(count)}), "rows")
    small, large = (damaged(table, ["a", "b"], share, "blank", seed).data for share in sorted((one, other)))
    lost = [set(np.flatnonzero(each.column("a").is_null().to_numpy())) for each in (small, large)]
    assert [len(each) for each in lost] == [round(share * count) for share in sorted((one, other))]
    assert lost[0] <= lost[1]
    assert small.column("a").equals(small.column("b")) and small.column("c").equals(table.data.column("c"))
    mixed = damaged(table, ["a", "b"], max(one, other), "permute", seed).data
    assert sorted(mixed.column("a").to_pylist()) == list(range(count)), "the same values"
    assert mixed.column("a").equals(mixed.column("b")), "of one other row"
    stays = np.setdiff1d(np.arange(count), list(lost[1]))
    assert (mixed.column("a").to_numpy()[stays] == stays).all(), "the rows that lose it are those that go blank"


def test_the_groups_are_towers_members_and_those_within_them(runs: dict[str, Run]) -> None:
    assert column_groups(runs["early"].model) == {"good": ("a",), "none": ("c",)}  # type: ignore[arg-type]
    assert column_groups(runs["late"].model) == {"good": ("a",), "faint": ("b",)}  # type: ignore[arg-type]
    assert column_groups(runs["hybrid"].model) == {  # type: ignore[arg-type]
        "pair": ("a", "c"), "pair/good": ("a",), "pair/none": ("c",),
        "group": ("a", "b"), "group/good": ("a",), "group/faint": ("b",),
    }  # fmt: skip


def test_every_sort_of_tower_names_its_columns(tmp_path: Path) -> None:
    text = {"kind": "text", "columns": ["words"], "encoder": {"kind": "hashed_ngrams", "buckets": 64}, "dim": 4}
    several = {**tower("a"), "columns": ["a", {"column": "b", "as": "piecewise"}]}
    entity = {"kind": "id", "entity": "who", "dim": 4}
    model = {"kind": "tower_model", "towers": {"text": text, "several": several, "id": entity}, "heads": {"up": UP}}
    data = rows(0).append_column("who", pa.array([f"u{n % 9}" for n in range(300)]))
    run = fit({"model": model, "training": {"epochs": 1}}, read(data), run=tmp_path / "run")
    assert column_groups(run.model) == {"text": ("words",), "several": ("a", "b"), "id": ("who",)}  # type: ignore[arg-type]
    assert set(run.robustness(data, ["id"], shares=[1.0])) == {"id"}


@pytest.mark.parametrize("loss", ["blank", "permute"])
def test_what_a_model_lives_by_costs_everything_and_what_it_does_not_need_nothing(
    runs: dict[str, Run], loss: Any
) -> None:
    fresh = rows(1, 600)
    early = runs["early"].robustness(fresh, loss=loss)
    whole = runs["early"].evaluate(fresh).metrics
    assert early["good"].metrics[0] == whole == early["none"].metrics[0]
    falls = [each["auc"].value for each in early["good"].metrics]
    assert falls == sorted(falls, reverse=True) and falls[0] > 0.95 and abs(falls[-1] - 0.5) < 0.1
    assert min(each["auc"].value for each in early["none"].metrics) > 0.9
    late = runs["late"].robustness(fresh, ["good"], loss=loss)["good"]
    assert late.metrics[-1]["auc"].value > falls[-1] + 0.1, "the other member still knows something"


def test_what_is_no_group_no_share_or_a_label_is_refused(runs: dict[str, Run], tmp_path: Path) -> None:
    fresh = rows(1)
    with pytest.raises(
        SpecError, match=r"'god' is no tower and no member; did you mean 'good'\? There are 'good', 'none'"
    ):
        runs["early"].robustness(fresh, ["god"])
    with pytest.raises(SpecError, match="'up' is what the model predicts"):
        runs["early"].robustness(fresh, {"label": ["up", "a"]})
    with pytest.raises(SpecError, match=r"A share of rows lies in 0 to 1; received 1\.5"):
        runs["early"].robustness(fresh, ["good"], shares=[1.5])
    with pytest.raises(DataError, match="no column 'zz'"):
        runs["early"].robustness(fresh, {"x": ["zz"]})
    ids = {"kind": "two_tower", "query": {"kind": "id", "dim": 4}, "candidate": {"kind": "id", "dim": 4}}
    pairs = read(
        {"u": [f"u{n % 7}" for n in range(60)], "i": [f"i{n % 40}" for n in range(60)]}, query="u", candidate="i"
    )
    ranker = fit({"model": ids, "training": {"epochs": 1}}, pairs, run=tmp_path / "ranker")
    with pytest.raises(RunError, match="ranks; robustness to lost columns is measured of models that predict"):
        ranker.robustness(fresh)


def test_the_command(
    runs: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pa.parquet.write_table(rows(1), tmp_path / "fresh.parquet")

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["towerkit", "evaluate", str(runs["late"].path), *words])
        try:
            cli.main()
            status = 0
        except SystemExit as stop:
            status = int(stop.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    data = ("--data", str(tmp_path / "fresh.parquet"))
    status, out, _ = call(*data, "--without", "good", "--without", "both=a,b", "--loss", "permute", "--json")
    told = json.loads(out)["robustness"]
    assert status == 0 and told["both"]["columns"] == ["a", "b"] and told["good"]["loss"] == "permute"
    assert [each["share"] for each in told["good"]["curve"]] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert told["both"]["curve"][-1]["metrics"]["auc"]["value"] < told["good"]["curve"][-1]["metrics"]["auc"]["value"]
    status, out, _ = call(*data, "--without", "each")
    assert status == 0 and "auc, by the share of rows whose columns are gone" in out and "faint" in out
    assert call("--without", "good")[0] == 1

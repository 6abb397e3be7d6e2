"""A fusion chosen by nested validation (`towerkit.presets.fusions`, `backbone: {kind: auto}`).

Pinned here:
- the figure is 1 for the constant answer and the weighted mean of the tasks' losses, each kind as its head learns it, and a row
  without a label counts for the other tasks alone;
- the inner cut holds neither validation nor test rows, keeps groups whole and is later in time; test rows change nothing;
- by trials the same choice comes twice; of those that tie with the best the one with the fewest parameters is chosen;
- what is merged of trained models is what a late fusion of that spec, fitted by itself, answers; a head's threshold becomes
  the fusion's;
- the Run is an ordinary one: its spec names what was chosen and trains the same weights again; the table is kept, shown and in
  the card; a late fusion that was chosen is a Run of that kind;
- a budget stops between trainings, and what was left out is told with the reason; an interrupted choice goes on where it was, and
  one that was made is not made again;
- what cannot be chosen is refused: one tower, a member, a side of a two-tower, no validation rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from typer.testing import CliRunner

import towerkit as tk
from towerkit import experiment
from towerkit.cli import app
from towerkit.core.errors import DataError, RunError, SpecError
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset
from towerkit.ensembles.fit_late import fit_late_fusion, rows_of
from towerkit.ensembles.late_spec import LateFusionSpec
from towerkit.experiment import estimates_of
from towerkit.features.labels import Labels
from towerkit.models.answer import TaskPredictor
from towerkit.presets.fusion_table import FusionTable
from towerkit.presets.fusion_trials import Contest
from towerkit.presets.fusions import ChosenFusion, choose_fusion
from towerkit.presets.nested import nested
from towerkit.presets.relative_loss import relative_losses
from towerkit.run import Run
from towerkit.spec import ModelingSpec, plain
from towerkit.training.progress import Silent

CONCAT, GATED = {"kind": "concat"}, {"kind": "gated", "dim": 8}
TRAINING = {"epochs": 3, "batch_size": 32, "optimizer": {"kind": "adam", "lr": 0.02}}


def table(rows: int = 400, seed: int = 0) -> dict[str, list[Any]]:
    """Two columns of which one says whether it is liked, and nearly how often; some labels are missing."""
    draw = np.random.default_rng(seed)
    a, b = draw.normal(size=rows), draw.normal(size=rows)
    liked = draw.random(rows) < 1 / (1 + np.exp(-3 * a))
    visits = draw.poisson(np.exp(0.5 * a))
    return {
        "a": a.tolist(),
        "b": b.tolist(),
        "liked": [None if n % 17 == 0 else int(y) for n, y in enumerate(liked)],
        "visits": visits.tolist(),
        "group": [f"g{n % 25}" for n in range(rows)],
        "when": list(range(rows)),
    }


def spec_of(backbone: Mapping[str, Any], heads: Mapping[str, Any] | None = None, **parts: Any) -> ModelingSpec:
    towers = {name: {"kind": "table", "columns": [name], "layers": [8], "dim": 4} for name in ("a", "b")}
    heads = heads or {"liked": {"kind": "binary", "column": "liked"}}
    model = {"kind": "tower_model", "towers": towers, "backbone": {"kind": "auto", **backbone}, "heads": heads}
    return parse(ModelingSpec, {"model": model, "training": TRAINING, **parts})


@pytest.fixture(scope="module")
def data() -> Dataset:
    return tk.read(table())


BOTH = {"candidates": [CONCAT, GATED]}


@pytest.fixture(scope="module")
def chosen(data: Dataset) -> ChosenFusion:
    return choose_fusion(spec_of(BOTH), data, Silent())


def settled(found: FusionTable) -> list[dict[str, Any]]:
    """The table without what a clock says."""
    return [{k: v for k, v in vars(each).items() if k not in ("seconds", "ms_per_row")} for each in found.fusions]


def test_the_loss_is_that_of_the_heads_as_a_share_of_the_constant_one() -> None:
    tasks = {
        "kind": Labels("kind", "multiclass", ("x", "y", "z")),
        "tags": Labels("tags", "multilabel", ("p", "q")),
        "price": Labels.fit_numbers("price", pa.array([1.0, 3.0])),
        "visits": Labels.fit_counts("visits", pa.array([1, 3])),
    }
    truth: dict[str, Any] = {
        "kind": np.array([0, -1, 2]),
        "tags": np.array([[1, 0], [1, 1], [0, 0]]),
        "price": np.array([1.0, 3.0, np.nan]),
        "visits": np.array([0.0, 1.0, 4.0]),
    }
    constants = {
        "kind": np.array([0.5, 0.25, 0.25]), "tags": np.array([0.5, 0.25]), "price": np.array([2.0]), "visits": np.array([2.0]),
    }  # fmt: skip
    even = {name: np.tile(one, (3, 1)) for name, one in constants.items()}
    said = {
        "kind": np.array([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.2, 0.2, 0.6]]),
        "tags": np.array([[0.9, 0.2], [0.7, 0.6], [0.1, 0.3]]),
        "price": np.array([[1.5], [2.5], [9.0]]),
        "visits": np.array([[0.5], [1.0], [3.0]]),
    }
    shares = {"kind": 1.0, "tags": 2.0, "price": 1.0, "visits": 1.0}
    assert relative_losses(even, truth, constants, tasks, shares).mean() == pytest.approx(1.0)
    losses = {
        "kind": -np.log([0.8, 0.6]).mean() / -np.log([0.5, 0.25]).mean(),
        "tags": -np.log([0.9, 0.8, 0.7, 0.6, 0.9, 0.7]).mean() / -np.log([0.5, 0.75, 0.5, 0.25, 0.5, 0.75]).mean(),
        "price": 0.25,
        "visits": sum([0.5, 0.0, 4 * np.log(4 / 3) - 1]) / sum([2.0, np.log(1 / 2) - 1 + 2, 4 * np.log(2) - 2]),
    }
    wanted = (losses["kind"] + 2 * losses["tags"] + losses["price"] + losses["visits"]) / 5
    assert relative_losses(said, truth, constants, tasks, shares).mean() == pytest.approx(wanted)
    doubled = {name: np.concatenate([one, one[:1]]) for name, one in truth.items()}
    again = {name: np.concatenate([one, one[:1]]) for name, one in said.items()}
    by_rows = relative_losses(again, doubled, constants, tasks, shares).mean()
    by_weight = relative_losses(said, truth, constants, tasks, shares, np.array([2.0, 1.0, 1.0])).mean()
    assert by_weight == pytest.approx(by_rows)


@pytest.mark.parametrize(
    "split",
    [
        {"kind": "random", "validation": 0.2, "test": 0.2},
        {"kind": "grouped", "column": "group", "validation": 0.2, "test": 0.2},
        {"kind": "time", "validation": 0.2, "test": 0.2},
    ],
    ids=lambda split: str(split["kind"]),
)
def test_the_inner_cut_is_one_of_the_training_rows(split: dict[str, Any]) -> None:
    given = table()
    dataset = tk.read(given, time="when", split=split)
    inner, outer = nested(dataset, 0).parts, dataset.parts
    assert set(inner.train) | set(inner.validation) == set(outer.train) and not set(inner.train) & set(inner.validation)
    assert len(inner.test) == 0 and len(inner.validation) == pytest.approx(len(outer.train) / 4, rel=0.2)
    if split["kind"] == "grouped":
        groups = [{given["group"][row] for row in rows} for rows in (inner.train, inner.validation)]
        assert not groups[0] & groups[1]
    if split["kind"] == "time":
        assert max(inner.train) < min(inner.validation)


def test_a_training_part_that_cannot_be_cut_is_refused() -> None:
    few = {name: values[:6] for name, values in table().items()}
    dataset = tk.read(few, split={"kind": "random", "validation": 0.2, "test": 0.2})
    with pytest.raises(DataError, match=r"4 rows leave 3 and 1"):
        nested(dataset, 0)


def test_the_same_choice_comes_twice_and_test_rows_do_not_change_it(data: Dataset, chosen: ChosenFusion) -> None:
    given = table()
    for row in data.parts.test:
        given["a"][row], given["liked"][row] = 1e6, 1 - (given["liked"][row] or 0)
    other = replace(data, examples=replace(data.examples, data=pa.table(given)))
    again = choose_fusion(spec_of(BOTH), other, Silent())
    assert settled(again.table) == settled(chosen.table) and again.spec == chosen.spec
    assert [record["fusion"] for record in again.records] == ["concat", "a alone", "b alone", "gated", "late", "hybrid"]


def test_the_cheapest_of_those_that_tie_is_chosen(chosen: ChosenFusion) -> None:
    found = chosen.table
    assert [each.loss for each in found.fusions] == sorted(each.loss for each in found.fusions)
    assert found.best.behind == 0.0 and found.best.ties
    tied = {each.name: each.parameters for each in found.fusions if each.low <= 0.0}
    assert found.chosen == min(tied, key=lambda name: tied[name]) == "a alone"
    noise = next(each for each in found.fusions if each.name == "b alone")
    assert not noise.ties and noise.low > 0.0 and noise.loss > 0.9
    assert found.rows == {"train": 284, "epochs": 36, "compared": 40}


def test_what_is_merged_is_a_late_fusion_fitted_by_itself(data: Dataset, chosen: ChosenFusion) -> None:
    inner = nested(data, 0)
    spec = spec_of(BOTH)
    assert spec.model.kind == "tower_model"
    members = {
        name: {**plain(spec.model), "towers": {name: plain(spec.model.towers[name])}, "backbone": CONCAT}
        for name in ("a", "b")
    }
    late = parse(LateFusionSpec, {"members": members, "combine": {"kind": "weighted"}})
    fusion = fit_late_fusion(late, inner, spec.training.model_copy(update={"refit": False}), Silent())
    rows = data.parts.validation
    truth = {"liked": fusion.tasks["liked"].encode(data.labelled("liked", rows))}
    constants = {"liked": np.array(fusion.tasks["liked"].frequencies)}
    answers = fusion.predict(rows_of(data, rows))
    losses = relative_losses(answers, truth, constants, fusion.tasks, {"liked": 1.0})
    assert next(each.loss for each in chosen.table.fusions if each.name == "late") == pytest.approx(
        losses.mean(), rel=1e-9
    )


@pytest.fixture(scope="module")
def run(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tk.fit(spec_of(BOTH), data, run=tmp_path_factory.mktemp("run") / "run")


def weights(run: Run) -> dict[str, torch.Tensor]:
    assert isinstance(run.model, TaskPredictor)
    return run.model.model.state_dict()


def test_the_run_names_what_was_chosen_and_trains_again(run: Run, data: Dataset, chosen: ChosenFusion) -> None:
    opened = Run.load(run.path)
    assert list(opened.spec["model"]["towers"]) == ["a"] and opened.spec["model"]["backbone"]["kind"] == "concat"
    assert opened.fusions is not None and settled(opened.fusions) == settled(chosen.table)
    again = tk.fit(parse(ModelingSpec, dict(opened.spec)), data)
    assert again.fusions is None
    assert all(torch.equal(tensor, weights(again)[name]) for name, tensor in weights(opened).items())
    lines = (run.path / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["stage"] for line in lines][:6] == ["search"] * 6
    assert opened.predict({"a": [1.0], "b": [0.0]}).num_rows == 1


def test_the_table_is_shown_and_stands_in_the_card(run: Run) -> None:
    shown = CliRunner().invoke(app, ["evaluate", str(run.path)])
    assert (
        "a alone" in shown.output and "ties chosen" in shown.output and "Compared on 40 validation rows" in shown.output
    )
    told = json.loads(CliRunner().invoke(app, ["evaluate", str(run.path), "--json"]).output)
    assert run.fusions is not None
    assert told["metrics"] and FusionTable.from_dict(run.fusions.as_dict()) == replace(
        run.fusions, fusions=tuple(run.fusions.fusions)
    )
    assert "## How the fusion was chosen" in (run.path / "card.md").read_text()


def test_a_late_fusion_that_was_chosen_is_one(
    data: Dataset, chosen: ChosenFusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(BOTH)
    assert spec.model.kind == "tower_model"
    members = {
        name: {**plain(spec.model), "towers": {name: plain(spec.model.towers[name])}, "backbone": CONCAT}
        for name in ("a", "b")
    }
    late = {"kind": "late_fusion", "members": members, "combine": {"kind": "weighted"}}
    other = ChosenFusion(parse(ModelingSpec, {**plain(spec), "model": late}), chosen.table, chosen.records)
    monkeypatch.setattr(experiment, "choose_fusion", lambda *_: other)
    run = tk.fit(spec, data, run=tmp_path / "run")
    assert run.kind == "late_fusion" and set(run.spec["model"]["members"]) == {"a", "b"}
    assert run.fusions is not None and run.predict({"a": [1.0], "b": [0.0]}).num_rows == 1


def test_budgets_end_between_trainings(data: Dataset) -> None:
    by_trials = choose_fusion(spec_of({**BOTH, "trials": 2}), data, Silent()).table
    assert {each.name for each in by_trials.fusions} == {"concat", "a alone"}
    assert by_trials.left_out["gated"] == "trials: 2 were spent."
    assert "'b alone' was not trained" in by_trials.left_out["late"]
    by_time = choose_fusion(spec_of({**BOTH, "budget": "0.001s"}), data, Silent()).table
    assert [each.name for each in by_time.fusions] == ["concat"]
    assert by_time.left_out["a alone"] == "the budget of 0.001s was spent."


def test_what_the_spec_does_not_allow_late_is_left_out_with_its_reason(data: Dataset) -> None:
    heads = {"liked": {"kind": "binary", "column": "liked"}, "visits": {"kind": "count", "column": "visits"}}
    found = choose_fusion(
        spec_of({"candidates": [CONCAT]}, heads, balance={"kind": "uncertainty"}), data, Silent()
    ).table
    assert "balance" in found.left_out["late"] and "late_fusion" in found.left_out["hybrid"]
    assert choose_fusion(spec_of({"candidates": [CONCAT], "late": False}), data, Silent()).table.left_out == {}


def test_a_threshold_of_a_head_becomes_one_of_the_late_fusion(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    merged: dict[str, Any] = {}
    monkeypatch.setattr(Contest, "merge", lambda _, name, way, model, members: merged.update({name: plain(model)}))
    heads = {
        "liked": {"kind": "binary", "column": "liked", "threshold": {"choose": "f1"}, "calibration": "temperature"}
    }
    assert choose_fusion(spec_of({"candidates": [CONCAT]}, heads), data, Silent()).table.left_out == {}
    assert merged.keys() == {"late", "hybrid"}
    for model in merged.values():
        assert model["decide"] == {"liked": {"threshold": {"choose": "f1"}, "calibration": "none"}}
        own = [member["heads"]["liked"] for member in model["members"].values()]
        assert {(head["threshold"], head["calibration"]) for head in own} == {(0.5, "temperature")}


class Interrupts(Silent):
    """Ends everything at some epoch."""

    def __init__(self, after: int) -> None:
        self.left = after

    def epoch(self, record: Mapping[str, Any], *, stage: str, epochs: int, is_best: bool) -> None:
        """Count down."""
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [6, 20])
def test_an_interrupted_choice_goes_on(data: Dataset, run: Run, tmp_path: Path, after: int) -> None:
    """While it is made, and after it: 18 epochs and lines come before the final training."""
    with pytest.raises(KeyboardInterrupt):
        tk.fit(spec_of(BOTH), data, run=tmp_path / "run", resume=False, progress=Interrupts(after))
    assert (tmp_path / "run.checkpoint" / "fusion.json").exists() == (after == 20)
    found = tk.fit(spec_of(BOTH), data, run=tmp_path / "run", resume=True)
    assert found.fusions is not None and run.fusions is not None
    assert settled(found.fusions) == settled(run.fusions)
    assert all(torch.equal(tensor, weights(run)[name]) for name, tensor in weights(found).items())


def test_a_choice_that_was_made_is_kept_and_belongs_to_its_training(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        tk.fit(spec_of(BOTH), data, run=tmp_path / "run", resume=False, progress=Interrupts(20))
    with pytest.raises(RunError, match="another"):
        tk.fit(spec_of({"candidates": [CONCAT]}), data, run=tmp_path / "run", resume=True)
    monkeypatch.setattr(experiment, "choose_fusion", lambda *_: pytest.fail("chosen again"))
    assert tk.fit(spec_of(BOTH), data, run=tmp_path / "run", resume=True).fusions is not None


def test_what_cannot_be_chosen_is_refused(data: Dataset) -> None:
    tower = {"kind": "table", "columns": ["a"]}
    one = {
        "kind": "tower_model",
        "towers": {"a": tower},
        "backbone": {"kind": "auto"},
        "heads": plain(spec_of({}).model)["heads"],
    }
    with pytest.raises(SpecError, match=r"there is one, 'a'"):
        parse(ModelingSpec, {"model": one})
    member = {**plain(spec_of({}).model)}
    with pytest.raises(SpecError, match=r"'first' is a member"):
        parse(
            ModelingSpec,
            {"model": {"kind": "late_fusion", "members": {"first": member, "second": {**one, "backbone": CONCAT}}}},
        )
    side = {"towers": {"a": tower, "id": {"kind": "id"}}, "backbone": {"kind": "auto"}}
    with pytest.raises(SpecError, match=r"unknown kind 'auto'"):
        parse(ModelingSpec, {"model": {"kind": "two_tower", "query": side, "candidate": {"kind": "id"}}})
    with pytest.raises(SpecError, match=r"twice"):
        spec_of({"candidates": [CONCAT, CONCAT]})
    with pytest.raises(SpecError, match=r"received 'soon'"):
        spec_of({"budget": "soon"})
    none_held = tk.read(table(), split={"kind": "random", "validation": 0.0, "test": 0.2})
    with pytest.raises(SpecError, match=r"the split holds none out"):
        tk.fit(spec_of(BOTH), none_held)


def test_what_it_would_need_is_told_for_each(data: Dataset) -> None:
    assert set(estimates_of(spec_of(BOTH), data)) == {"concat", "a alone", "b alone", "gated"}

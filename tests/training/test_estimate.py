"""Estimates before a training.

Invariants:
- parameters, bytes and steps are those of the training that follows; time and memory are measured and positive;
- nothing is written, no global state moves, and a training afterwards is what it would have been;
- on the command line ``--dry-run`` needs no Run folder, and ``--json`` gives one object.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from towerkit import cli
from towerkit.experiment import estimates_of
from towerkit.testing.faults import CASES, digests, read_case, train_case


@pytest.mark.parametrize("name", list(CASES))
def test_it_is_what_the_training_has(name: str, tmp_path: Path) -> None:
    spec, data = read_case(CASES[name])
    before = digests(train_case(spec, data, tmp_path / "before", every=0))
    found = estimates_of(spec, data)["model"]
    steps: list[int] = []
    no_refit = spec.model_copy(update={"training": spec.training.model_copy(update={"refit": False})})
    trained = train_case(no_refit, data, tmp_path / "run", every=0, each=steps.append)
    weights = trained.model.state_dict()
    assert sum(found.parameters.values()) == sum(tensor.numel() for tensor in weights.values())
    assert found.weight_bytes == sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    slots = trained.prepared.state.optimizer.state().values()
    assert found.optimizer_bytes == sum(tensor.numel() * tensor.element_size() for tensor in slots)
    assert found.steps_per_epoch * found.epochs == len(steps)
    assert found.batch_bytes > 1000 and found.step_s > 0
    assert found.total_s == pytest.approx(found.step_s * len(steps))
    assert found.peak_memory_bytes is None or found.peak_memory_bytes > found.weight_bytes
    assert digests(train_case(spec, data, tmp_path / "after", every=0)) == before


def test_the_parts_have_names() -> None:
    spec, data = read_case(CASES["tower_model, uncertainty"])
    parts = estimates_of(spec, data)["model"].parameters
    assert list(parts) == ["towers.table", "towers.text", "heads.rating", "heads.recommended"]
    spec, data = read_case(CASES["two_backprop, dropout, queue"])
    assert set(estimates_of(spec, data)["model"].parameters) == {
        "query.towers.id", "candidate.towers.id", "candidate.towers.table",
    }  # fmt: skip


def test_members_of_a_late_fusion() -> None:
    case = CASES["tower_model, uncertainty"]
    member = {**case["model"], "heads": {"recommended": {"kind": "binary", "column": "recommended"}}}
    model = {"kind": "late_fusion", "members": {"one": member, "two": member}, "combine": {"kind": "average"}}
    spec, data = read_case({"data": case["data"], "model": model})
    assert list(estimates_of(spec, data)) == ["member one", "member two"]


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    (tmp_path / "spec.json").write_text(json.dumps(CASES["one_backprop, debias"]))
    monkeypatch.chdir(tmp_path)
    for words in (["--json"], []):
        monkeypatch.setattr(sys, "argv", ["towerkit", "train", "spec.json", "--dry-run", *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out = capsys.readouterr().out
        assert not stop.value.code
        if words:
            assert json.loads(out)["model"]["epochs"] == 2
        else:
            assert "parameters of query.towers.id" in out and "ms (median of a few)" in out
    assert [path.name for path in tmp_path.iterdir()] == ["spec.json"]

"""Checkpoints.

Invariants:
- a training that stops after any step and goes on from its checkpoint ends with the same bits in weights, moments, queue,
  update, balance and history as one that never stopped; also when it goes on from an older step, and in the refit;
- with two threads too a training gives the same bits each time, at batches that are large enough to be shared;
- leaving out one piece of the state (the generator of dropout, the queue, the moments, the best weights, an update's
  counts, the position) is seen in those bits: the comparison can fail;
- a generation that is cut short or changed at any place is never loaded: the one before it is, and that is said;
- a checkpoint of another spec or other data is refused, and the message names what differs;
- two generations are kept, what a killed writer left goes, two processes cannot train in one folder;
- a finished training is not trained again; its epochs are told again when it goes on;
- the fingerprint of a table depends on its values alone, not on chunks or on what lies under a null.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from towerkit.core.errors import RunError
from towerkit.core.spec import parse
from towerkit.data.fingerprint import table_hash
from towerkit.ensembles.fit_late import fit_late_fusion
from towerkit.ensembles.late_spec import LateFusionSpec
from towerkit.experiment import checkpoints_of, recipe_of
from towerkit.objectives.retrieval import RetrievalObjective
from towerkit.spec import ExperimentSpec
from towerkit.storage.tensors import load_tensors
from towerkit.testing.faults import CASES, Observer, digests, read_case, train_case
from towerkit.training import checkpoint as module
from towerkit.training.checkpoint import Checkpoints
from towerkit.training.fit import fit_recipe, order_of
from towerkit.training.progress import Silent
from towerkit.training.state import LossError

SMALL = {name: {**case, "training": {**case["training"], "batch_size": 1000}} for name, case in CASES.items()}
cases = pytest.mark.parametrize("name", list(SMALL))


class Crash(Exception):
    """Stands in for the end of a process."""


def crash_after(step: int) -> Callable[[int], None]:
    def each(done: int) -> None:
        if done == step:
            raise Crash

    return each


def whole(name: str, folder: Path) -> tuple[dict[str, str], int]:
    spec, data = read_case(SMALL[name])
    steps: list[int] = []
    return digests(train_case(spec, data, folder / "whole", every=0, each=steps.append)), len(steps)


def stopped(name: str, run: Path, step: int, every: int | str = 1) -> tuple[ExperimentSpec, Any]:
    spec, data = read_case(SMALL[name])
    with pytest.raises(Crash):
        train_case(spec, data, run, every=every, each=crash_after(step))
    return spec, data


# --- the same bits ------------------------------------------------------------------------------------------------


@cases
def test_a_training_that_stopped_ends_with_the_same_bits(name: str, tmp_path: Path) -> None:
    expected, steps = whole(name, tmp_path)
    for step in sorted({2, steps // 2 + 1, steps}):
        spec, data = stopped(name, tmp_path / f"run-{step}", step)
        again: list[int] = []
        found = digests(train_case(spec, data, tmp_path / f"run-{step}", each=again.append))
        assert found == expected, step
        assert len(again) == steps - step + 1  # the step that crashed was not saved


def test_an_older_checkpoint_and_several_stops(tmp_path: Path) -> None:
    name = "two_backprop, dropout, queue"
    expected, _ = whole(name, tmp_path)
    run = tmp_path / "run"
    for step in (3, 3, 5):  # counted in each process anew
        spec, data = stopped(name, run, step, every=2)
    assert digests(train_case(spec, data, run, every="epoch")) == expected


@cases
def test_two_threads_give_the_same_bits_each_time(name: str, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert whole(name, tmp_path / "one")[0] == whole(name, tmp_path / "two")[0]
    finally:
        torch.set_num_threads(threads)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_real_kill_after_each_step() -> None:
    script = Path(__file__).parents[1] / "faults" / "kill_each_step.py"
    command = [sys.executable, str(script), "--threads", "1", "2", "--every", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\n") == 1 + 2 * len(CASES), done.stdout


FORGOTTEN = {
    "the generator of dropout": ("two_backprop, dropout, queue", "torch.generator", "model"),
    "the moments": ("two_backprop, dropout, queue", "optimizer.0.first", "model"),
    "the queue": ("two_backprop, dropout, queue", "objective.negatives.2.vectors", "model"),
    "the counts of one-backprop": ("one_backprop, debias", "update.met", "model"),
    "the generator of absent towers": ("tower_model, absent towers, experts, pcgrad", "torch.generator", "model"),
    "the learned balance": ("tower_model, uncertainty", "balancer.learned.0", "balancer"),
    "the step": ("one_backprop, debias", "torch.step", "model"),
}


@pytest.mark.parametrize("piece", list(FORGOTTEN))
def test_a_forgotten_piece_is_seen(piece: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, tensor, part = FORGOTTEN[piece]
    expected, steps = whole(name, tmp_path)
    spec, data = stopped(name, tmp_path / "run", steps)  # in the refit, whose weights are the ones that stay

    def forgetful(path: Path) -> dict[str, Any]:
        tensors = load_tensors(path)
        assert tensor in tensors
        if tensor == "torch.generator":
            tensors[tensor] = torch.Generator().manual_seed(5).get_state().numpy()
        else:
            tensors[tensor] = np.zeros_like(tensors[tensor])
        return tensors

    monkeypatch.setattr(module, "load_tensors", forgetful)
    assert digests(train_case(spec, data, tmp_path / "run"))[part] != expected[part]


def test_a_forgotten_position_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "one_backprop, debias"
    expected, steps = whole(name, tmp_path)
    spec, data = stopped(name, tmp_path / "run", steps)
    original = module._read

    def forgetful(*arguments: Any) -> Any:
        saved = original(*arguments)
        saved.stretch.batches = 0
        return saved

    monkeypatch.setattr(module, "_read", forgetful)
    assert digests(train_case(spec, data, tmp_path / "run"))["model"] != expected["model"]


# --- damage -------------------------------------------------------------------------------------------------------


def test_a_damaged_generation_is_never_loaded(tmp_path: Path) -> None:
    name = "one_backprop, debias"
    expected, _ = whole(name, tmp_path)
    spec, data = stopped(name, tmp_path / "run", 4)
    newest = sorted((tmp_path / "run.checkpoint").glob("0*"))[-1]
    draw = random.Random(3)
    for number, file in enumerate(sorted(newest.iterdir()) * 4):
        copy = tmp_path / f"copy-{number}"
        shutil.copytree(tmp_path / "run.checkpoint", copy / "run.checkpoint")
        target = copy / "run.checkpoint" / newest.name / file.name
        data_bytes = file.read_bytes()
        place = draw.randrange(len(data_bytes))
        if number % 2:
            target.write_bytes(data_bytes[:place])
        else:
            target.write_bytes(data_bytes[:place] + bytes([data_bytes[place] ^ 4]) + data_bytes[place + 1 :])
        told: list[str] = []
        saved = checkpoints_of(copy / "run", spec, data, say=told.append).load()
        assert saved is not None
        assert int(saved.folder.name) == int(newest.name) - 1
        assert len(told) == 1 and str(copy) in told[0] and "is not whole and is left out" in told[0]
    assert digests(train_case(spec, data, copy / "run")) == expected  # from the one before it


def test_a_writer_that_dies_leaves_the_generation_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "one_backprop, debias"
    spec, data = stopped(name, tmp_path / "run", 3)
    folder = tmp_path / "run.checkpoint"
    before = {path.name for path in folder.glob("0*")}
    draft = folder / f".000000009.tmp-{os.getpid()}-0123456789abcdef"
    draft.mkdir()
    (draft / "state.safetensors").write_bytes(b"half")
    shutil.copytree(folder / max(before), folder / "000000008")
    (folder / "000000008" / "manifest.json").unlink()  # what a rename that came before its content would leave
    told: list[str] = []
    saved = checkpoints_of(tmp_path / "run", spec, data, say=told.append).load()
    assert saved is not None and saved.folder.name == max(before)
    assert "manifest.json" in told[0]
    train_case(spec, data, tmp_path / "run")
    assert not draft.exists()
    assert len(list(folder.glob("0*"))) == 2


def test_no_whole_generation_begins_anew(tmp_path: Path) -> None:
    name = "one_backprop, debias"
    expected, steps = whole(name, tmp_path)
    spec, data = stopped(name, tmp_path / "run", 3)
    for folder in (tmp_path / "run.checkpoint").glob("0*"):
        (folder / "state.json").write_bytes(b"{}")
    again: list[int] = []
    assert digests(train_case(spec, data, tmp_path / "run", each=again.append)) == expected
    assert len(again) == steps


# --- another training ---------------------------------------------------------------------------------------------


def test_another_spec_is_refused(tmp_path: Path) -> None:
    name = "one_backprop, debias"
    spec, data = stopped(name, tmp_path / "run", 3)
    changed = parse(ExperimentSpec, {**SMALL[name], "update": {"kind": "one_backprop", "beta": 0.8, "debias": True}})
    with pytest.raises(RunError, match=r"run.checkpoint.* update\.beta was 0\.9 and is 0\.8\. Give the spec"):
        train_case(changed, data, tmp_path / "run")
    slower = spec.training.optimizer.model_copy(update={"lr": 0.5})
    changed = spec.model_copy(update={"training": spec.training.model_copy(update={"optimizer": slower, "seed": 1})})
    with pytest.raises(RunError, match=r"training\.optimizer\.lr was 0\.02 and is 0\.5; training\.seed was 0 and is 1"):
        train_case(changed, data, tmp_path / "run")


def test_other_data_are_refused(tmp_path: Path) -> None:
    spec, data = stopped("one_backprop, debias", tmp_path / "run", 3)
    shifted = data.examples.data.set_column(3, "quantity", pa.array(range(data.examples.data.num_rows)))
    other = type(data)(**{**vars(data), "examples": type(data.examples)(shifted, data.examples.name)})
    with pytest.raises(RunError, match="the table builtin:shop-small/purchases is another one"):
        train_case(spec, other, tmp_path / "run")
    parts = type(data.parts)(data.parts.train[:-1], data.parts.validation, data.parts.test)
    with pytest.raises(RunError, match="the train part of the split is another one"):
        train_case(spec, data.with_parts(parts), tmp_path / "run")


def test_what_may_differ(tmp_path: Path) -> None:
    spec, data = stopped("one_backprop, debias", tmp_path / "run", 3)
    path = spec.data.examples.model_copy(update={"path": "elsewhere.csv"})
    moved = spec.model_copy(update={"data": spec.data.model_copy(update={"examples": path})})
    assert checkpoints_of(tmp_path / "run", moved, data).load() is not None


def test_another_number_of_threads_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, data = stopped("one_backprop, debias", tmp_path / "run", 3)
    told: list[str] = []
    monkeypatch.setattr(module.torch, "get_num_threads", lambda: 7)
    assert checkpoints_of(tmp_path / "run", spec, data, say=told.append).load() is not None
    assert "threads was" in told[0] and "is 7" in told[0]


# --- the folder ---------------------------------------------------------------------------------------------------


def test_one_process_at_a_time(tmp_path: Path) -> None:
    spec, data = read_case(SMALL["one_backprop, debias"])
    first = checkpoints_of(tmp_path / "run", spec, data)
    with (
        first.held(),
        pytest.raises(RunError, match=str(os.getpid())),
        checkpoints_of(tmp_path / "run", spec, data).held(),
    ):
        raise AssertionError("two may not hold it")


def test_every_epoch_unless_it_takes_too_long(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "run.checkpoint", {"spec": {}, "data": {}}, every="epoch")
    saved: list[int] = []
    checkpoints.save = lambda *_: saved.append(1)  # type: ignore[method-assign,assignment]
    checkpoints.after_step(None, None)  # type: ignore[arg-type]
    assert saved == []
    checkpoints.after_epoch(None, None)  # type: ignore[arg-type]
    assert len(saved) == 1
    checkpoints._saved_at, checkpoints._cost = module.time.perf_counter(), 10.0
    checkpoints.after_epoch(None, None)  # type: ignore[arg-type]
    assert len(saved) == 1
    checkpoints._saved_at -= 200.0
    checkpoints.after_epoch(None, None)  # type: ignore[arg-type]
    assert len(saved) == 2


class Epochs(Silent):
    """What was told of epochs."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int, bool]] = []

    def epoch(self, record: Mapping[str, Any], *, stage: str, epochs: int, is_best: bool) -> None:
        self.told.append((stage, record["epoch"], is_best))


def test_a_finished_training_is_told_and_not_repeated(tmp_path: Path) -> None:
    spec, data = read_case(SMALL["tower_model, uncertainty"])
    first, second = Epochs(), Epochs()
    found = []
    for progress in (first, second):
        checkpoints = checkpoints_of(tmp_path / "run", spec, data)
        found.append(digests(fit_recipe(recipe_of(spec, data), data, spec.training, progress, checkpoints)))
    assert found[0] == found[1]
    assert first.told == second.told
    assert [stage for stage, *_ in first.told][-1] == "refit" and first.told[0] == ("train", 1, True)


def test_members_of_a_late_fusion_are_found_again(tmp_path: Path) -> None:
    liked = {"liked": {"kind": "binary", "column": "recommended"}}
    member = {
        "kind": "tower_model",
        "towers": {"text": {"kind": "text", "columns": ["text"], "dim": 4}},
        "heads": liked,
    }
    other = {**member, "towers": {"table": {"kind": "table", "columns": ["age"], "dim": 4}}}
    fusion = {
        "kind": "late_fusion",
        "members": {"text": member, "table": other},
        "combine": {"kind": "stack", "folds": 2},
    }
    spec, data = read_case(
        {
            "data": CASES["tower_model, uncertainty"]["data"],
            "model": fusion,
            "training": {"epochs": 1, "batch_size": 200},
        }
    )
    assert isinstance(spec.model, LateFusionSpec)

    def fit(run: str, each: Callable[[int], None]) -> Any:
        checkpoints = checkpoints_of(tmp_path / run, spec, data)
        return fit_late_fusion(spec.model, data, spec.training, Observer(each), checkpoints)

    steps: list[int] = []
    expected = fit("whole", steps.append).predict(data.examples)["liked"]
    with pytest.raises(Crash):
        fit("run", crash_after(len(steps) - 2))
    again: list[int] = []
    assert np.array_equal(fit("run", again.append).predict(data.examples)["liked"], expected)
    assert len(again) < len(steps) / 2


# --- a loss that is no number -------------------------------------------------------------------------------------


def test_a_bad_loss_leaves_the_state_before_it_and_the_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, data = read_case(SMALL["two_backprop, dropout, queue"])
    original, seen = RetrievalObjective.__call__, []

    def broken(self: Any, model: Any, batch: Any) -> Any:
        terms = original(self, model, batch)
        if len(seen) == 4:
            terms = {name: term * float("nan") for name, term in terms.items()}
        seen.append(terms)
        return terms

    monkeypatch.setattr(RetrievalObjective, "__call__", broken)
    with pytest.raises(
        LossError, match=r"at step 4 it is nan .*run\.failed; its batch\.json names the 1,000 examples"
    ) as told:
        train_case(spec, data, tmp_path / "run", every=1)
    about = json.loads((tmp_path / "run.failed" / "batch.json").read_text())
    order = order_of(data.parts.train, spec.training, 1)[:]  # three batches in the first epoch
    assert about["rows"] == (order[1000:2000] + 1).tolist()
    assert (about["epoch"], about["step"], about["stage"]) == (2, 4, "train")
    assert str(data.examples.where(int(order[1000]))) in str(told.value)
    kept = load_tensors(tmp_path / "run.failed" / "state.safetensors")
    newest = sorted((tmp_path / "run.checkpoint").glob("0*"))[-1]  # after step 4, hence before the step that failed
    before = load_tensors(newest / "state.safetensors")
    assert kept.keys() == before.keys()
    differ = [name for name in before if not np.array_equal(kept[name], before[name])]
    assert differ == ["objective.effective"]  # the epoch's figures have seen the bad gradients; all else is as before


# --- fingerprints -------------------------------------------------------------------------------------------------

values = st.one_of(
    st.lists(st.one_of(st.none(), st.integers(-5, 5)), max_size=12).map(lambda v: pa.array(v, pa.int64())),
    st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=12).map(lambda v: pa.array(v, pa.string())),
    st.lists(st.one_of(st.none(), st.booleans()), max_size=12).map(lambda v: pa.array(v, pa.bool_())),
    st.lists(st.one_of(st.none(), st.lists(st.one_of(st.none(), st.floats(width=32)), max_size=3)), max_size=8).map(
        lambda v: pa.array(v, pa.list_(pa.float32()))
    ),
)


@settings(max_examples=60, deadline=None)
@given(values, st.integers(0, 12), values)
def test_a_fingerprint_is_of_the_values(first: pa.Array, cut: int, second: pa.Array) -> None:
    table = pa.table({"a": first})
    cut = min(cut, len(first))
    pieces = pa.concat_tables([table.slice(0, cut), table.slice(cut)])
    assert table_hash(pieces) == table_hash(table)
    same = first.type == second.type and repr(first.to_pylist()) == repr(second.to_pylist())
    assert (table_hash(pa.table({"a": second})) == table_hash(table)) == same


def test_what_lies_under_a_null_does_not_count() -> None:
    mask = pa.array([True, False, True]).buffers()[1]
    first, second = (
        pa.Array.from_buffers(pa.int64(), 3, [mask, pa.py_buffer(np.array([1, hidden, 3]).tobytes())])
        for hidden in (7, 8)
    )
    assert first.to_pylist() == second.to_pylist() == [1, None, 3]
    assert table_hash(pa.table({"a": first})) == table_hash(pa.table({"a": second}))
    assert table_hash(pa.table({"b": first})) != table_hash(pa.table({"a": first}))


@pytest.mark.parametrize(
    "array",
    [
        pa.array(["a", None], pa.large_string()),
        pa.array(["a", "b", "a"]).dictionary_encode(),
        pa.array([{"x": 1, "y": None}, None]),
        pa.array([b"\x00", b""]),
        pa.array([1, 2], pa.timestamp("us")),
        pa.array([None, None]),
    ],
    ids=str,
)
def test_fingerprints_of_other_types(array: pa.Array) -> None:
    table = pa.table({"a": array})
    assert table_hash(table) == table_hash(pa.concat_tables([table.slice(0, 1), table.slice(1)]))
    assert table_hash(table) != table_hash(table.slice(1))

"""The folder of checkpoints, on a training of two numbers.

Invariants:
- what is saved is loaded: tensors bit for bit, the stretch with every field, NaN and infinity too;
- it is saved when it is due and not else; a signal saves and stops, and the message says where and how to go on;
- two generations are kept, the newest by number; one that is not whole is left out and named;
- what does not fit (another spec, another model, other threads) is said with both values;
- a folder that cannot be made, listed or read is a RunError.
"""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from towerkit._version import __version__
from towerkit.core.errors import RunError
from towerkit.core.spec import parse
from towerkit.objectives.balance import UncertaintyBalance
from towerkit.training import checkpoint as module
from towerkit.training.checkpoint import Checkpoints, check_identity, checkpoint_folder, differences
from towerkit.training.loop import History, Stretch
from towerkit.training.signals import StopSignals, TrainingStopped
from towerkit.training.snapshot import restore, snapshot
from towerkit.training.spec import TrainingSpec
from towerkit.training.state import TrainState
from towerkit.training.steps import ANY_NUMBER

IDENTITY = {"spec": {"model": {"dim": 2}}, "data": {"the table a": "1"}}


class Counts:
    """An objective and an update that hold one number each."""

    def __init__(self) -> None:
        self.value = torch.zeros(1)

    def state(self) -> Mapping[str, Tensor]:
        return {"value": self.value}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self.value = tensors["value"]


def state_of(numbers: tuple[float, float] = (0.0, 0.0), step: int = 0, *, update: bool = True) -> TrainState:
    model = nn.utils.skip_init(nn.Linear, 1, 1)  # draws nothing
    with torch.no_grad():
        model.weight.fill_(numbers[0])
        model.bias.fill_(numbers[1])
    optimizer = parse(TrainingSpec, {"optimizer": {"kind": "adam"}}).optimizer.build(list(model.parameters()), 10)
    parts: list[Any] = [Counts(), Counts()]
    state = TrainState(model, parts[0], UncertaintyBalance({"a": 1.0}), parts[1] if update else None, optimizer)
    state.step = step
    return state


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


anything = st.floats(allow_nan=True, allow_infinity=True)
histories = st.builds(
    History,
    st.lists(st.fixed_dictionaries({"epoch": st.integers(1, 9), "loss": anything}), max_size=3),
    st.integers(0, 9),
    st.none() | anything,
    st.floats(0, 1e6),
)
stretches = st.builds(
    Stretch,
    st.sampled_from(["train", "refit"]),
    histories,
    st.none() | st.just({"weight": torch.ones(2)}),
    st.integers(0, 99),
    anything,
    st.integers(0, 99),
    st.booleans(),
    st.none() | histories,
)


@settings(max_examples=40, deadline=None)
@given(stretches, st.tuples(*[st.floats(width=32)] * 2), st.integers(0, 10**6), st.booleans())
def test_what_is_saved_is_loaded(
    tmp_path_factory: pytest.TempPathFactory,
    stretch: Stretch,
    numbers: tuple[float, float],
    step: int,
    update: bool,
) -> None:
    checkpoints = Checkpoints(tmp_path_factory.mktemp("t") / "run.checkpoint", IDENTITY)
    state = state_of(numbers, step, update=update)
    expected = {name: tensor.clone() for name, tensor in snapshot(state).items()}
    checkpoints.save(state, stretch)
    saved = checkpoints.load()
    assert saved is not None
    assert repr(saved.stretch) == repr(stretch)
    again = state_of(update=update)
    saved.restore(again)
    found = snapshot(again)
    assert found.keys() == expected.keys()
    assert ("update.value" in found) == update
    for name, tensor in found.items():
        assert tensor.dtype == expected[name].dtype
        assert tensor.numpy().tobytes() == expected[name].numpy().tobytes(), name
    assert again.step == step


def test_every_part_is_in_a_snapshot_and_comes_back() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.set_state(torch.Generator().manual_seed(5).get_state())
        tensors = {name: tensor.clone() for name, tensor in snapshot(state_of((1.0, 2.0), 7)).items()}
        draw = torch.rand(3)
        for name in ("objective.value", "update.value", "balancer.learned.0"):
            tensors[name] += 3.0
        again = state_of()
        restore(again, tensors, "there")
        assert torch.equal(torch.rand(3), draw)
    assert (again.model.weight.item(), again.model.bias.item(), again.step) == (1.0, 2.0, 7)
    found = snapshot(again)
    assert {found[name].item() for name in ("objective.value", "update.value", "balancer.learned.0")} == {3.0}
    parts = {"model", "optimizer", "balancer", "objective", "update", "torch"}
    assert {name.partition(".")[0] for name in found} == parts


class Sum:
    """A balancer that learns nothing and is no module."""

    def backward(self, terms: Mapping[str, Tensor]) -> float:
        return float(sum(terms.values()))

    def parameters(self) -> Iterator[nn.Parameter]:
        return iter(())


def test_a_balancer_that_is_no_module_has_nothing_to_save() -> None:
    state, again = state_of((1.0, 2.0), 7), state_of()
    state.balancer, again.balancer = Sum(), Sum()
    tensors = {name: tensor.clone() for name, tensor in snapshot(state).items()}
    assert not any(name.startswith("balancer.") for name in tensors)
    restore(again, tensors, "there")
    assert (again.model.weight.item(), again.model.bias.item(), again.step) == (1.0, 2.0, 7)


@pytest.mark.parametrize("damage", ["missing", "shape", "step", "generator"])
def test_tensors_that_do_not_fit_are_refused(damage: str) -> None:
    tensors = {name: tensor.clone() for name, tensor in snapshot(state_of()).items()}
    if damage == "missing":
        del tensors["model.weight"]
    elif damage == "shape":
        tensors["model.weight"] = torch.zeros(3, 3)
    elif damage == "step":
        del tensors["torch.step"]
    else:
        tensors["torch.generator"] = torch.zeros(3, dtype=torch.uint8)
    told = {"missing": "weight", "shape": r"torch.Size\(\[3, 3\]\)", "step": "torch.step", "generator": ""}[damage]
    with pytest.raises(RunError, match=rf"(?s)there does not fit the model .*{told}.*without --resume"):
        restore(state_of(), tensors, "there")


def test_two_generations_are_kept_and_the_newest_is_loaded(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "run.checkpoint", IDENTITY)
    assert not checkpoints.exists
    assert checkpoints.load() is None
    for step in range(1, 12):
        checkpoints.save(state_of(step=step), Stretch())
        saved = checkpoints.load()
        assert saved is not None and saved.tensors["torch.step"].item() == step
        assert names(checkpoints.folder) == [f"{number:09d}" for number in range(max(1, step - 1), step + 1)]
    assert checkpoints.exists
    (checkpoints.folder / "notes").mkdir()
    (checkpoints.folder / "000000099").write_text("a file is no generation")
    for number in (11, 12):
        saved = checkpoints.load()
        assert saved is not None and saved.folder.name == f"{number:09d}"
        checkpoints.save(state_of(), Stretch())
    checkpoints.remove()
    assert names(tmp_path) == []
    checkpoints.remove()  # nothing to remove


def test_what_a_killed_writer_left_is_no_checkpoint(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "run.checkpoint", IDENTITY)
    half = checkpoints.folder / ".000000001.tmp-1-0123456789abcdef"
    half.mkdir(parents=True)
    (half / "state.json").write_text("{}")
    assert not checkpoints.exists
    assert checkpoints.newest is None
    checkpoints.part("fusion.0").save(state_of(), Stretch())
    assert checkpoints.exists
    assert checkpoints.newest is None
    checkpoints.save(state_of(), Stretch())
    checkpoints.save(state_of(), Stretch())
    assert checkpoints.newest == checkpoints.folder / "000000002"


def test_what_killed_writers_left_goes(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "run.checkpoint", IDENTITY)
    checkpoints.save(state_of(), Stretch())
    (checkpoints.folder / ".000000007.tmp-1-0123456789abcdef").mkdir()
    (checkpoints.folder / ".000000001.lock").write_text("{}")
    (checkpoints.folder / "history.jsonl").write_text("")
    checkpoints.save(state_of(), Stretch())
    assert names(checkpoints.folder) == ["000000001", "000000002", "history.jsonl"]


def test_a_generation_that_is_not_whole_is_left_out_and_named(tmp_path: Path) -> None:
    told: list[str] = []
    checkpoints = Checkpoints(tmp_path / "run.checkpoint", IDENTITY, say=told.append)
    checkpoints.save(state_of(step=1), Stretch())
    checkpoints.save(state_of(step=2), Stretch())
    newest = checkpoints.folder / "000000002"
    (newest / "state.json").write_text("{}")
    saved = checkpoints.load()
    assert saved is not None and saved.tensors["torch.step"].item() == 1
    assert len(told) == 1
    assert told[0].startswith(
        f"The checkpoint {newest} is not whole and is left out: {newest}/state.json: was cut short"
    )


def test_when_it_is_saved(tmp_path: Path) -> None:
    def saved_at(every: Any, kind: str) -> list[int]:
        checkpoints = Checkpoints(tmp_path, IDENTITY, every=every)
        found: list[int] = []
        checkpoints.save = lambda state, stretch: found.append(state.step)  # type: ignore[method-assign]
        for step in range(1, 8):
            getattr(checkpoints, kind)(state_of(step=step), Stretch())
        return found

    assert saved_at(3, "after_step") == [3, 6]
    assert saved_at(1, "after_step") == [1, 2, 3, 4, 5, 6, 7]
    assert saved_at(0, "after_step") == saved_at("epoch", "after_step") == []
    assert saved_at(3, "after_epoch") == saved_at(0, "after_epoch") == []
    assert saved_at("epoch", "after_epoch") == [1, 2, 3, 4, 5, 6, 7]  # in no time, so each is due


def test_steps_are_taken_together_up_to_the_next_one_that_is_saved_after(tmp_path: Path) -> None:
    every_three = Checkpoints(tmp_path, IDENTITY, every=3)
    assert [every_three.steps_left(state_of(step=step)) for step in (0, 1, 2, 3, 7)] == [3, 2, 1, 3, 2]
    for every in (0, "epoch"):
        assert Checkpoints(tmp_path, IDENTITY, every=every).steps_left(state_of(step=5)) == ANY_NUMBER


def test_writing_takes_a_twentieth_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    checkpoints = Checkpoints(tmp_path / "run.checkpoint", IDENTITY)
    write, writes = module.write_state, []

    def slow(*arguments: Any) -> None:
        clock[0] += 1.0
        writes.append(clock[0])
        write(*arguments)

    monkeypatch.setattr(module, "write_state", slow)
    for passed in (0.0, 19.9, 0.1, 19.0, 1.0):
        clock[0] += passed
        checkpoints.after_epoch(state_of(), Stretch())
    assert writes == [101.0, 122.0, 143.0]


@pytest.mark.parametrize("kind", ["after_step", "after_epoch"])
@pytest.mark.parametrize("batches", [0, 5])
def test_a_signal_saves_and_stops(tmp_path: Path, kind: str, batches: int) -> None:
    stop = StopSignals()
    checkpoints = Checkpoints(tmp_path / "run.checkpoint", IDENTITY, every=0, stop=stop)
    stretch = Stretch("refit", History([{"epoch": 1}], 1, 0.5, 2.0), None, batches)
    getattr(checkpoints, kind)(state_of(step=1234), stretch)
    assert not checkpoints.exists
    with checkpoints.listening():
        os.kill(os.getpid(), signal.SIGTERM)
    epoch = 2 if batches else 1
    message = rf"in epoch {epoch} \(refit\), after step 1,234; the state is in {checkpoints.folder}\. .*--resume"
    with pytest.raises(TrainingStopped, match=message) as stopped:
        getattr(checkpoints, kind)(state_of(step=1234), stretch)
    assert stopped.value.status == 128 + signal.SIGTERM
    assert checkpoints.exists


def test_a_finished_training_needs_no_best_weights(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "run.checkpoint", IDENTITY, every=0)
    checkpoints.finish(state_of(), Stretch(best_weights={"weight": torch.ones(1)}))
    saved = checkpoints.load()
    assert saved is not None and saved.stretch.finished and saved.stretch.best_weights is None


def test_a_failure_is_kept_with_the_generator_before_the_step(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "run.checkpoint", IDENTITY)
    (tmp_path / "run.failed").mkdir()
    (tmp_path / "run.failed" / "old").write_text("")
    with checkpoints.listening():
        before = torch.default_generator.get_state()
        torch.rand(5)  # the step that fails
        folder = checkpoints.save_failure(state_of(step=3), Stretch(), {"rows": [1, 2]})
    assert folder == tmp_path / "run.failed"
    assert json.loads((folder / "batch.json").read_text()) == {"rows": [1, 2]}
    assert names(folder) == ["batch.json", "history.jsonl", "manifest.json", "state.json", "state.safetensors"]
    assert torch.equal(torch.from_numpy(module.load_tensors(folder / "state.safetensors")["torch.generator"]), before)


def test_a_failure_needs_no_older_one(tmp_path: Path) -> None:
    folder = Checkpoints(tmp_path / "run.checkpoint", IDENTITY).save_failure(state_of(), Stretch(), {"rows": []})
    assert names(tmp_path) == [folder.name] == ["run.failed"]


def test_what_was_loaded_cannot_be_changed(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "run.checkpoint", IDENTITY)
    checkpoints.save(state_of(), Stretch())
    saved = checkpoints.load()
    assert saved is not None
    with pytest.raises(FrozenInstanceError):
        saved.folder = tmp_path  # type: ignore[misc]


def test_a_folder_is_held_before_it_is_there(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "deep" / "down" / "run.checkpoint", IDENTITY)
    with checkpoints.held():
        assert names(tmp_path / "deep" / "down") == [".run.checkpoint.lock"]
        with pytest.raises(RunError, match=r"being written by process"), checkpoints.held():
            pass
    assert names(tmp_path / "deep" / "down") == []


def test_a_part_is_inside_and_shares_the_rest(tmp_path: Path) -> None:
    told: list[str] = []
    stop = StopSignals()
    whole = Checkpoints(tmp_path / "run.checkpoint", IDENTITY, every=3, stop=stop, say=told.append)
    part = whole.part("member")
    assert (part.folder, part.identity, part.every, part.stop) == (whole.folder / "member", IDENTITY, 3, stop)
    part.save(state_of(), Stretch())
    assert whole.exists and whole.load() is None


def test_another_training_is_refused_with_both_values(tmp_path: Path) -> None:
    Checkpoints(tmp_path / "c", IDENTITY).save(state_of(), Stretch())
    other = {"spec": {"model": {"dim": 3}}, "data": {"the table a": "2", "the split": "1"}}
    message = (
        r"000000001 belongs to another training: model\.dim was 2 and is 3; the split is another one; the table a is"
    )
    with pytest.raises(RunError, match=message):
        Checkpoints(tmp_path / "c", other).load()
    with pytest.raises(RunError, match=r"another training: the table a is another one\."):
        Checkpoints(tmp_path / "c", {**other, "spec": IDENTITY["spec"], "data": {}}).load()
    check_identity(IDENTITY, IDENTITY, tmp_path)


def test_differences_name_five_and_count_the_rest() -> None:
    was: dict[str, Any] = {str(number): number for number in range(8)} | {"gone": [1], "same": None}
    now: dict[str, Any] = {str(number): -number for number in range(8)} | {"same": None}
    told = differences(was, now)
    assert told.startswith("1 was 1 and is -1; 2 was 2 and is -2; ") and told.endswith("5 was 5 and is -5 (and 3 more)")
    assert differences(was, now, limit=8).endswith("gone was [1] and is not there")
    assert differences({"a": 1}, {"a": {"b": "x"}}) == 'a was 1 and is not there; a.b was not there and is "x"'
    assert differences(was, was) == ""
    five = differences({}, {str(number): 0 for number in range(5)})
    assert five.endswith("4 was not there and is 0") and five.count(";") == 4


def test_what_else_the_bits_depend_on_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    checkpoints = Checkpoints(tmp_path / "c", IDENTITY, say=told.append)
    checkpoints.save(state_of(), Stretch())
    assert checkpoints.load() is not None and told == []
    monkeypatch.setattr(module, "__version__", "9.9")
    threads = torch.get_num_threads()
    monkeypatch.setattr(module.torch, "get_num_threads", lambda: threads + 1)
    assert checkpoints.load() is not None
    assert told == [
        f"towerkit was {__version__} and is 9.9, threads was {threads} and is {threads + 1}: training goes on, but need not "
        "end with the bits of a training that never stopped."
    ]


def test_the_loss_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c", IDENTITY)
    checkpoints.save(state_of(), Stretch(loss=0.1 + 0.2, steps=3))
    saved = checkpoints.load()
    assert saved is not None and saved.stretch.loss == 0.1 + 0.2
    assert math.isclose(saved.stretch.mean_loss, 0.1)


def test_a_history_may_have_a_gibibyte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path / "c", IDENTITY)
    checkpoints.save(state_of(), Stretch())
    read, caps = module.read_bytes, []

    def noted(path: Path, max_bytes: int) -> bytes:
        caps.append(max_bytes)
        return read(path, max_bytes)

    monkeypatch.setattr(module, "read_bytes", noted)
    assert checkpoints.load() is not None
    assert caps == [1 << 30]


def test_a_folder_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    held = Checkpoints(tmp_path / "file" / "deep" / "run.checkpoint", IDENTITY).held()
    with pytest.raises(RunError, match=r"Cannot create the folder .*deep: Not a directory; check the free space"):
        held.__enter__()

    def refused(*arguments: object) -> Any:
        raise PermissionError(13, "Permission denied")

    checkpoints = Checkpoints(tmp_path / "run.checkpoint", IDENTITY)
    checkpoints.save(state_of(), Stretch())
    for patched in ("is_dir", "rglob"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, patched, refused)
            with pytest.raises(RunError, match=r"Cannot list the folder .*run\.checkpoint: Permission denied"):
                checkpoints.load() if patched == "is_dir" else checkpoints.exists
    with checkpoints.held():
        assert names(tmp_path) == [".run.checkpoint.lock", "file", "run.checkpoint"]


def test_where_it_is() -> None:
    assert checkpoint_folder(Path("a/b.c")) == Path("a/b.c.checkpoint")

"""The training step and the fit loop, on a small model whose validation is scripted.

Invariants:
- training stops after ``patience`` epochs without a better figure, and the weights of the best epoch are restored;
- NaN never counts as better; a tie is not better; both directions of a figure work;
- without validation all epochs run and the last weights stay;
- the model is in training mode in its batches, in evaluation mode in validation and afterwards;
- a loss that is not finite stops with the step and the terms, and the weights are those of the step before;
- the unknown row of an id tower is the mean of the others whenever validation looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from towerkit.core.errors import TrainingError
from towerkit.data.batch import Batch
from towerkit.objectives.balance import FixedBalance
from towerkit.objectives.base import Objective
from towerkit.towers import IdTower
from towerkit.training.loop import History, Selection, Stretch, fit_loop
from towerkit.training.optimizers import RowAdam
from towerkit.training.progress import Silent, Staged
from towerkit.training.state import TrainState, check_finite, seeded_torch, settle, train_step, weights_of

NAN = float("nan")
LOWER, HIGHER = Selection("loss", higher_is_better=False), Selection("ndcg@20", higher_is_better=True)


class Counter(nn.Module):
    """One number that every step moves by its own gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(()))
        self.modes: list[bool] = []


class Terms(Objective):
    """An objective that is one function."""

    def __init__(self, function: Callable[[Any, Batch], dict[str, Tensor]]) -> None:
        self.function = function

    def __call__(self, model: Any, batch: Batch) -> dict[str, Tensor]:
        return self.function(model, batch)


def state_of(losses: Mapping[int, float] | None = None) -> TrainState:
    """A model that moves down; the losses of some steps are replaced."""
    model = Counter()

    def objective(model: Counter, batch: Batch) -> dict[str, Tensor]:
        model.modes.append(model.training)
        planned = (losses or {}).get(state.step)
        return {"push": model.value * (1.0 if planned is None else planned), "other": model.value * 0.0 + 2.0}

    state = TrainState(
        model, Terms(objective), FixedBalance({"push": 1.0, "other": 0.5}), None, RowAdam([model.value], lr=0.1)
    )
    return state


def batches(epoch: int, done: int = 0) -> Iterator[Batch]:
    yield from [Batch(columns={}, index={"example": torch.arange(2)})] * (3 - done)


class Recorder(Silent):
    """What the loop told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int, int, bool]] = []

    def epoch(self, record: Mapping[str, Any], *, stage: str, epochs: int, is_best: bool) -> None:
        self.told.append((stage, record["epoch"], epochs, is_best))


def run(
    figures: list[float], *, selection: Selection = HIGHER, patience: int = 2
) -> tuple[History, TrainState, Recorder]:
    """Train with a scripted figure per epoch."""
    state, told, script = state_of(), Recorder(), iter(figures)

    def validate() -> dict[str, float]:
        state.model.modes.append(state.model.training)
        return {selection.metric: next(script), "weight": state.model.value.item()}

    found = fit_loop(
        state, batches, epochs=len(figures), validate=validate, selection=selection, patience=patience, progress=told
    )
    return found, state, told


# --- early stopping -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("figures", "every", "patience", "epochs", "validated", "best"),
    [
        ([0.1, 0.3, 0.2], 2, 9, 6, [2, 4, 6], 4),
        ([0.1, 0.3, 0.2], 3, 9, 7, [3, 6, 7], 6),
        ([0.3, 0.2, 0.1, 0.9], 2, 2, 9, [2, 4, 6], 2),
        ([0.3], 5, 1, 3, [3], 3),
    ],
)
def test_validation_every_few_epochs_and_at_the_last(
    figures: list[float], every: int, patience: int, epochs: int, validated: list[int], best: int
) -> None:
    state, script = state_of(), iter(figures)
    history = fit_loop(
        state,
        batches,
        epochs=epochs,
        validate=lambda: {HIGHER.metric: next(script), "weight": state.model.value.item()},
        selection=HIGHER,
        patience=patience,
        validate_every=every,
        progress=Silent(),
    )
    assert [r["epoch"] for r in history.records if f"validation/{HIGHER.metric}" in r] == validated
    assert (history.best_epoch, len(history.records)) == (best, validated[-1])
    assert state.model.value.item() == history.records[best - 1]["validation/weight"]


@pytest.mark.parametrize(
    ("figures", "patience", "best", "ran"),
    [
        ([0.1, 0.3, 0.2, 0.2, 0.9], 2, 2, 4),
        ([0.1, 0.3, 0.2, 0.2, 0.9], 3, 5, 5),
        ([0.5, 0.4, 0.9, 0.1, 0.1], 1, 1, 2),
        ([0.5, 0.5, 0.5, 0.5], 2, 1, 3),
        ([NAN, 0.1, NAN, NAN, 0.7], 2, 2, 4),
        ([NAN, NAN, NAN, NAN], 2, 2, 2),
        ([0.1, 0.2, 0.3], 1, 3, 3),
    ],
)
def test_patience(figures: list[float], patience: int, best: int, ran: int) -> None:
    history, state, told = run(figures, patience=patience)
    assert (history.best_epoch, len(history.records), state.step) == (best, ran, 3 * ran)
    weights = [record["validation/weight"] for record in history.records]
    assert len(set(weights)) == ran
    assert state.model.value.item() == weights[best - 1]  # the best weights are back
    assert [epoch for _, epoch, _, _ in told.told] == list(range(1, ran + 1))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0.1, 0.2, 0.3, NAN]), min_size=1, max_size=8),
    st.integers(1, 4),
    st.sampled_from([LOWER, HIGHER]),
)
def test_patience_equals_a_loop(figures: list[float], patience: int, selection: Selection) -> None:
    best_epoch, best, ran = 0, None, 0
    for epoch, figure in enumerate(figures, start=1):
        ran = epoch
        sign = 1 if selection.higher_is_better else -1
        if figure == figure and (best is None or sign * figure > sign * best):
            best_epoch, best = epoch, figure
        if epoch >= best_epoch + patience:
            break
    history, state, told = run(figures, selection=selection, patience=patience)
    assert (len(history.records), history.best_epoch, history.best) == (ran, best_epoch or ran, best)
    assert [is_best for *_, is_best in told.told].count(True) == len(
        {epoch for epoch in range(1, ran + 1) if improves(figures[:epoch], selection)}
    )
    assert state.model.value.item() == history.records[history.best_epoch - 1]["validation/weight"]


def improves(figures: list[float], selection: Selection) -> bool:
    *before, last = figures
    known = [figure for figure in before if figure == figure]
    if last != last:
        return False
    return not known or (last > max(known) if selection.higher_is_better else last < min(known))


def test_the_records() -> None:
    history, _, told = run([0.5, 0.6], patience=5)
    first = history.records[0]
    assert {key: first[key] for key in ("stage", "epoch", "validation/ndcg@20")} == {
        "stage": "train",
        "epoch": 1,
        "validation/ndcg@20": 0.5,
    }
    # the value is 0, -0.1 and -0.2 before the three steps; the other term adds half of two
    assert first["loss"] == pytest.approx(1.0 - 0.1)
    assert 0 <= first["seconds"] <= history.records[1]["seconds"]
    assert told.told == [("train", 1, 2, True), ("train", 2, 2, True)]


def test_without_validation_all_epochs_run() -> None:
    state, told = state_of(), Recorder()
    history = fit_loop(
        state, batches, epochs=4, validate=None, selection=HIGHER, patience=1, progress=told, stretch=Stretch("refit")
    )
    assert (history.best_epoch, history.best, state.step) == (4, None, 12)
    assert state.model.value.item() == pytest.approx(-1.2, abs=1e-3)
    assert told.told == [("refit", epoch, 4, False) for epoch in range(1, 5)]


def test_modes() -> None:
    _, state, _ = run([0.1, 0.2])
    assert state.model.modes == [True, True, True, False] * 2
    assert not state.model.training


def test_a_longer_stage_name_is_passed_on() -> None:
    told = Recorder()
    Staged(told, "fold 2").epoch({"epoch": 3}, stage="train", epochs=9, is_best=True)
    assert told.told == [("fold 2 train", 3, 9, True)]
    Silent().epoch({"epoch": 3}, stage="train", epochs=9, is_best=True)


# --- losses that are no numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [NAN, float("inf"), float("-inf")])
def test_a_bad_loss_stops_before_the_weights(bad: float) -> None:
    state = state_of({4: bad})
    weights = []

    def watched(epoch: int, done: int) -> Iterator[Batch]:
        for batch in batches(epoch, done):
            weights.append(state.model.value.item())
            yield batch

    with pytest.raises(
        TrainingError, match=r"at step 4 it is (nan|-?inf) \(push (nan|-?inf), other 2\)\. Lower training"
    ):
        fit_loop(state, watched, epochs=9, validate=None, selection=LOWER, patience=1, progress=Silent())
    assert state.step == 4
    assert len(weights) == 5
    assert state.model.value.item() == weights[-1] == pytest.approx(-0.4, abs=1e-3)


def test_a_finite_loss_passes() -> None:
    check_finite(3e38, {}, step=0)
    with pytest.raises(TrainingError, match=r"at step 7 it is inf \(a inf, b 1\.5\)"):
        check_finite(float("inf"), {"a": torch.tensor(float("inf")), "b": torch.tensor(1.5)}, step=7)


def test_a_step_returns_the_balanced_loss_and_counts() -> None:
    state = state_of()
    batch = next(batches(0))
    assert [train_step(state, batch) for _ in range(2)] == pytest.approx([1.0, 0.9])
    assert state.step == 2


# --- state --------------------------------------------------------------------------------------------------------


def test_the_unknown_row_is_settled_before_validation() -> None:
    with seeded_torch(0):
        tower = IdTower(4, 2)

    def objective(model: IdTower, batch: Batch) -> dict[str, Tensor]:
        return {"a": (model.table * torch.arange(8.0).view(4, 2)).sum()}

    state = TrainState(tower, Terms(objective), FixedBalance({"a": 1.0}), None, RowAdam(tower.parameters(), lr=0.5))
    apart = []

    def validate() -> dict[str, float]:
        apart.append((tower.table[0] - tower.table[1:].mean(dim=0)).abs().max().item())
        return {"loss": 0.0}

    fit_loop(state, batches, epochs=3, validate=validate, selection=LOWER, patience=9, progress=Silent())
    assert apart == [0.0] * 3
    with torch.no_grad():
        tower.table[0] = 9.0
    settle(nn.ModuleList([tower]))
    torch.testing.assert_close(tower.table[0], tower.table[1:].mean(dim=0))


def test_weights_are_copies() -> None:
    model = Counter()
    kept = weights_of(model)
    with torch.no_grad():
        model.value.fill_(5.0)
    assert kept["value"].item() == 0.0


def test_seeded_torch_gives_the_generator_back() -> None:
    before = torch.get_rng_state()
    drawn = []
    for key in (1, 1, 2, 2**64 - 1):
        with seeded_torch(key):
            drawn.append(torch.rand(()).item())
    assert drawn[0] == drawn[1] != drawn[2]
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(RuntimeError, match="inside"), seeded_torch(3):
        torch.rand(1)
        raise RuntimeError("inside")
    assert torch.equal(torch.get_rng_state(), before)

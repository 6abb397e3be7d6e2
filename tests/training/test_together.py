"""Several processes train as one with all rows of a batch: here they are threads, see ``towerkit.testing.worlds``.

Invariants, for 2 and 3 processes and batches that do not divide evenly, whose last one is shorter than the number of processes:
- losses of every step are those of one process, and so is everything that moves: weights, what the optimizer and the update
  remember, queues; for every update, drawn, shared, in-batch (with logQ), queued and hard negatives, weighted rows, sparse
  and dense gradients;
- the gradients of step 1 are equal to 1e-6;
- candidates that are the work of towers are encoded once among all processes, and their gradients come back;
- where queries stay at home, no process has the vector of a query of another, with more processes than queries too; the first
  one is brought them at the end of an epoch, and never reads those of others while it trains;
- tower models: tasks of which a process has no label, learned balance; what looks at the gradients of single tasks is refused;
- where the candidates' id table is in shards, no process but the first has its other rows; the first one is brought the table and
  what optimizers remember of it;
- processes that begin with other weights are refused;
- where Adam drifts from one process, it is by a bias whose gradient is zero but for rounding, and by nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from towerkit.core.errors import SpecError
from towerkit.core.spec import parse
from towerkit.core.world import ALONE, World
from towerkit.data.dataset import Dataset, make_dataset
from towerkit.data.readers import read_table
from towerkit.data.roles import EntityTable
from towerkit.data.spec import DataSpec
from towerkit.experiment import recipe_of
from towerkit.objectives.distillation import Distillation
from towerkit.objectives.retrieval import RetrievalObjective
from towerkit.spec import ModelingSpec
from towerkit.testing.worlds import together
from towerkit.training.crew import Crew
from towerkit.training.fit import Prepared, batches_of
from towerkit.training.loop import Stretch
from towerkit.training.snapshot import snapshot
from towerkit.training.state import seeded_torch, settle
from towerkit.training.steps import torch_steps
from towerkit.training.tower_spec import TowerTrainingSpec

ID = {"kind": "id", "dim": 6}
TABLE = {"kind": "table", "columns": ["price", "color"], "layers": [8], "dim": 6}
MIXED = {"towers": {"id": ID, "table": TABLE}}
SHARED = [{"kind": "in_batch"}, {"kind": "popularity", "count": 7, "shared": True}]
CASES: dict[str, dict[str, Any]] = {
    "two_backprop, own negatives": {"negatives": [{"kind": "uniform", "count": 3}]},
    "in batch with logQ, weights, rows all": {"negatives": SHARED, "weight": True, "rows": "all"},
    "in batch, rows touched, adagrad": {"negatives": SHARED, "optimizer": "adagrad"},
    "queue and hard": {"negatives": [{"kind": "queue", "size": 20}, {"kind": "hard", "count": 2, "pool": 5}]},
    "full softmax, cosine": {"loss": "softmax", "match": "cosine"},
    "table tower, in batch": {"negatives": SHARED, "candidate": TABLE},
    "mixed towers, one_backprop": {"negatives": SHARED, "candidate": MIXED, "update": {"kind": "one_backprop"}},
    "one_backprop, debias, weights": {
        "negatives": SHARED, "weight": True, "update": {"kind": "one_backprop", "debias": True, "beta": 0.9},
    },
    "one_backprop last": {"update": {"kind": "one_backprop", "duplicates": "last", "beta": 0.5}},
    "alternating": {"negatives": SHARED, "update": {"kind": "alternating"}},
    "ema": {"update": {"kind": "ema", "side": "both", "momentum": 0.5}},
    "learned temperature, clip, accumulate": {
        "loss": {"kind": "sampled_softmax", "learn_temperature": True}, "clip_norm": 0.01, "accumulate": 2, "negatives": SHARED,
    },
}  # fmt: skip


def dataset(*, weighted: bool = False) -> Dataset:
    draw = np.random.default_rng(3)
    columns: dict[str, Any] = {"user": draw.integers(0, 11, 61), "item": (17 * draw.random(61) ** 2).astype(np.int64)}
    columns["weight"] = draw.choice([0.0, 0.5, 3.0], 61)
    items = {"item": np.arange(17), "price": draw.normal(size=17), "color": draw.choice(["red", "blue"], 17)}
    given = {"examples": {"path": "rows", "query": "user", "candidate": "item"}}
    given["examples"] |= {"weight": "weight"} if weighted else {}
    given["entities"] = {"item": {"path": "items", "key": "item"}}
    given["split"] = {"kind": "random", "validation": 0.0, "test": 0.0}
    return make_dataset(
        parse(DataSpec, given), read_table(columns), entities={"item": EntityTable("item", "item", read_table(items))}
    )


def spec(case: dict[str, Any], partition: str = "rows", tables: str = "whole") -> ModelingSpec:
    model = {
        "kind": "two_tower",
        "query": ID,
        "candidate": case.get("candidate", ID),
        "match": case.get("match", "dot"),
    }
    loss = case.get("loss", "sampled_softmax")
    objective: dict[str, Any] = {"loss": {"kind": loss} if isinstance(loss, str) else loss}
    if "negatives" in case:
        objective["negatives"] = case["negatives"]
    optimizer = {
        "kind": case.get("optimizer", "adam"),
        "lr": 0.05,
        "rows": case.get("rows", "touched"),
        "weight_decay": 0.01,
    }
    optimizer |= {"clip_norm": case["clip_norm"]} if "clip_norm" in case else {}
    training = {
        "batch_size": 20,
        "optimizer": optimizer,
        "accumulate": case.get("accumulate", 1),
        "partition": partition,
        "tables": tables,
    }
    model["match"] = {"kind": model["match"]}
    update = {"update": case["update"]} if "update" in case else {}
    return parse(ModelingSpec, {"model": model, "objective": objective, "training": training, **update})


def prepared(chosen: ModelingSpec, data: Dataset) -> Prepared:
    with seeded_torch(7):
        return recipe_of(chosen, data).prepare(data, data.parts.train, chosen.training)


def run(world: World, found: Prepared, chosen: ModelingSpec, data: Dataset) -> tuple[list[float], dict[str, Tensor]]:
    """The losses of two epochs, and all that moved; the vectors at home are brought to the first process."""
    crew = Crew.of(world, found, chosen.training)
    crew.check_together(found.state)
    crew.shard(found.state, chosen.training, Stretch())
    rows, losses = data.parts.train, []
    found.state.model.train()
    for epoch in range(2):
        crew.begin_epoch(found.state)
        batches = lambda epoch, done: batches_of(found, rows, chosen.training, epoch, done, crew)  # noqa: E731
        for stepped in torch_steps(found.state, batches, chosen.training.accumulate)(epoch, 0, lambda: 1):
            losses += stepped.losses
        if found.state.update is not None:
            found.state.update.after_epoch(found.state.model, found.encoded, rows)
        crew.collect(found.state)
        settle(found.state.model)
    moved = {
        name: t for name, t in snapshot(found.state).items() if not name.startswith(("torch", "objective.effective"))
    }
    return losses, moved


def compare(chosen: ModelingSpec, data: Dataset, size: int, near: float = 2e-4) -> None:
    losses, moved = run(ALONE, prepared(chosen, data), chosen, data)
    each = [prepared(chosen, data) for _ in range(size)]
    with seeded_torch(0):
        found = together(size, lambda world: run(world, each[world.rank], chosen, data))
    for own, _ in found:
        np.testing.assert_allclose(own, losses, rtol=1e-5)
    first = found[0][1]
    assert first.keys() == moved.keys()
    for name, tensor in moved.items():
        torch.testing.assert_close(
            first[name], tensor, rtol=near, atol=near, equal_nan=True, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("name", CASES)
def test_processes_train_as_one(name: str) -> None:
    chosen = spec(CASES[name])
    compare(chosen, dataset(weighted=CASES[name].get("weight", False)), 3 if "in batch" in name else 2)


@pytest.mark.parametrize("rows", ["touched", "all"])
@pytest.mark.parametrize("processes", [3, 13])
@pytest.mark.parametrize(
    "update",
    [{"kind": "one_backprop", "debias": True}, {"kind": "one_backprop", "refresh": "epoch"}, {"kind": "two_backprop"}],
)
def test_queries_stay_at_home(update: dict[str, Any], rows: str, processes: int) -> None:
    case = {"negatives": SHARED, "update": update, "rows": rows}
    compare(spec(case, "query"), dataset(), processes)


CUT = [name for name, case in CASES.items() if case.get("candidate") != TABLE and "clip" not in name and name != "ema"]


@pytest.mark.parametrize("partition", ["rows", "auto"])
@pytest.mark.parametrize("name", CUT)
def test_tables_in_shards(name: str, partition: str) -> None:
    chosen = spec(CASES[name], partition, "sharded")
    compare(chosen, dataset(weighted=CASES[name].get("weight", False)), 3 if "in batch" in name else 2)


def test_tables_in_shards_with_accumulated_gradients() -> None:
    compare(spec({"negatives": SHARED, "candidate": MIXED, "accumulate": 2}, tables="sharded"), dataset(), 3, near=1e-3)


def test_a_process_has_its_rows_only() -> None:
    chosen, data = spec({"negatives": SHARED}, tables="sharded"), dataset()
    each = [prepared(chosen, data) for _ in range(3)]

    def work(world: World) -> tuple[int, ...]:
        state = each[world.rank].state
        _, moved = run(world, each[world.rank], chosen, data)
        (own,) = [len(p) for place, p in enumerate(state.optimizer.parameters) if place in state.at_home]
        (tower,) = state.model.candidate.id_towers().values()
        remembered = [len(slot) for name, slot in state.optimizer.state().items() if slot.dim() and len(slot) == own]
        return len(tower.table), own, len(remembered), len(moved["model.candidate.towers.id.table"])

    with seeded_torch(0):
        assert together(3, work) == [(18, 6, 2, 18), (1, 6, 2, 1), (1, 6, 2, 1)]


def test_frozen_queries_are_read_by_all() -> None:
    chosen = spec({"negatives": SHARED}, "query")
    towers = {"query.id": TowerTrainingSpec(freeze=True)}
    chosen = chosen.model_copy(update={"training": chosen.training.model_copy(update={"towers": towers})})
    compare(chosen, dataset(), 3)


@pytest.mark.parametrize("update", ["one_backprop", "two_backprop"])
def test_nobody_has_the_queries_of_another(update: str) -> None:
    """The first process, which is brought them, has them spoiled before the first step: the losses stay those of one process."""
    chosen, data = spec({"negatives": SHARED, "update": {"kind": update}}, "query"), dataset()
    losses, _ = run(ALONE, prepared(chosen, data), chosen, data)
    each = [prepared(chosen, data) for _ in range(2)]

    def work(world: World) -> tuple[int, int, int, list[float]]:
        found = each[world.rank]
        crew = Crew.of(world, found, chosen.training)
        crew.shard(found.state, chosen.training, Stretch())
        (tower,), (shard,) = found.state.model.query.id_towers().values(), crew.shards
        with torch.no_grad():
            tower.table.fill_(1e3)
        batches = batches_of(found, data.parts.train, chosen.training, 0, 0, crew)
        steps = torch_steps(found.state, lambda epoch, done: batches)(0, 0, lambda: 1)
        told = [loss for stepped in steps for loss in stepped.losses]
        remembered = [
            slot for name, slot in found.state.optimizer.state().items() if name.startswith(f"{shard.place}.")
        ]
        return len(tower.table), len(shard.rows), max([len(slot) for slot in remembered if slot.dim()], default=0), told

    with seeded_torch(0):
        (*first, first_losses), (*second, second_losses) = together(2, work)
    held = 6 if update == "two_backprop" else 0  # what Adam remembers
    assert (first, second) == ([12, 6, held], [1, 6, held])
    for own in (first_losses, second_losses):
        np.testing.assert_allclose(own, losses[:4], rtol=1e-5)


def first_gradients(chosen: ModelingSpec, data: Dataset, found: Prepared, world: World) -> dict[str, Tensor]:
    crew = Crew.of(world, found, chosen.training)
    batches = batches_of(found, data.parts.train, chosen.training, 0, 0, crew)
    next(iter(torch_steps(found.state, lambda epoch, done: batches)(0, 0, lambda: 1)))
    grads = {name: p.grad for name, p in found.state.model.named_parameters() if p.grad is not None}
    return {name: gradient.to_dense() if gradient.is_sparse else gradient for name, gradient in grads.items()}


@pytest.mark.parametrize("name", ["in batch with logQ, weights, rows all", "table tower, in batch"])
def test_gradients_of_the_first_step(name: str) -> None:
    chosen, data = spec(CASES[name]), dataset(weighted="weights" in name)
    alone = first_gradients(chosen, data, prepared(chosen, data), ALONE)
    each = [prepared(chosen, data) for _ in range(2)]
    with seeded_torch(0):
        found = together(2, lambda world: first_gradients(chosen, data, each[world.rank], world))
    assert alone
    for own in found:
        assert (
            min(right.abs().max() for right in alone.values() if right.dim() == 2) > 1e-3
        )  # or nothing would be compared
        for gradient, right in zip(own.values(), alone.values(), strict=True):
            torch.testing.assert_close(gradient, right, rtol=0, atol=1e-6)


def test_shared_candidates_are_encoded_once() -> None:
    chosen, data = spec(CASES["table tower, in batch"]), dataset()
    each = [prepared(chosen, data) for _ in range(2)]
    rows = list(range(20))

    def work(world: World) -> tuple[int, int]:
        batch = Crew.of(world, each[world.rank], chosen.training).cut(each[world.rank], np.array(rows), 0)
        assert batch.exchange is not None
        return len(batch.exchange.index), sum(batch.exchange.sizes)

    with seeded_torch(0):
        given = together(2, work)
    whole = next(batches_of(each[0], data.parts.train, chosen.training, 0))
    assert given[0][1] == given[0][0] + given[1][0]
    assert given[0][1] <= len(next(iter(whole.columns["item"].values()))) + 7


def two_tasks() -> Dataset:
    draw = np.random.default_rng(4)
    rare = [None] * 50
    rare[3], rare[40] = "yes", "no"
    columns: dict[str, Any] = {"age": draw.normal(size=50), "often": draw.choice(["a", "b"], 50), "rare": rare}
    split = {"kind": "random", "validation": 0.0, "test": 0.0}
    return make_dataset(parse(DataSpec, {"examples": {"path": "rows"}, "split": split}), read_table(columns))


def task_spec(balance: str) -> ModelingSpec:
    towers = {"table": {"kind": "table", "columns": ["age"], "layers": [6], "dim": 4}}
    heads = {name: {"kind": "binary", "column": name} for name in ("often", "rare")}
    training = {"batch_size": 16, "optimizer": {"kind": "adam", "lr": 0.05}}
    model = {"kind": "tower_model", "towers": towers, "heads": heads}
    return parse(ModelingSpec, {"model": model, "balance": {"kind": balance}, "training": training})


@pytest.mark.parametrize("balance", ["fixed", "uncertainty", "dwa"])
def test_tasks_without_a_label_in_a_process(balance: str) -> None:
    compare(task_spec(balance), two_tasks(), 2)


def refused(
    chosen: ModelingSpec,
    data: Dataset,
    spoil: Callable[[Prepared], None] = lambda found: None,
    change: Callable[[Prepared], None] = lambda found: None,
) -> str:
    each = [prepared(chosen, data) for _ in range(2)]
    spoil(each[1])
    for found in each:
        change(found)
    with seeded_torch(0), pytest.raises(SpecError) as caught:
        together(2, lambda world: run(world, each[world.rank], chosen, data))
    return str(caught.value)


def test_refusals() -> None:
    assert "PcgradBalance" in refused(task_spec("pcgrad"), two_tasks())
    assert "all vectors of a batch" in refused(spec({"loss": "directau", "match": "cosine"}), dataset())
    assert "ema" in refused(spec({"negatives": SHARED, "candidate": TABLE, "update": {"kind": "ema"}}), dataset())
    clipped = {"negatives": SHARED, "clip_norm": 1.0}
    assert "clip_norm" in refused(spec(clipped, "query"), dataset())
    later = spec({"negatives": SHARED}, "query")
    towers = {"query.id": TowerTrainingSpec(unfreeze=1)}
    later = later.model_copy(update={"training": later.training.model_copy(update={"towers": towers})})
    assert "lets layers move later" in refused(later, dataset())


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ({"negatives": SHARED, "candidate": TABLE}, "this model has none"),
        ({"negatives": SHARED, "clip_norm": 1.0}, "clip_norm"),
        ({"negatives": SHARED, "update": {"kind": "ema"}}, "slow copy"),
        ({"negatives": SHARED, "update": {"kind": "one_backprop", "refresh": "epoch"}}, "refresh: epoch"),
    ],
)
def test_tables_that_cannot_be_cut(case: dict[str, Any], reason: str) -> None:
    message = refused(spec(case, tables="sharded"), dataset())
    assert "training.tables: sharded" in message
    assert reason in message


def test_a_teacher_is_refused() -> None:
    def taught(found: Prepared) -> None:
        assert isinstance(found.state.objective, RetrievalObjective)
        found.state.objective.distillation = cast(Distillation, object())

    assert "training.distill" in refused(spec({}), dataset(), change=taught)


def test_other_weights_are_refused() -> None:
    def spoil(found: Prepared) -> None:
        with torch.no_grad():
            next(found.state.model.parameters())[0, 0] += 1

    assert "same weights" in refused(spec({}), dataset(), spoil)


def adam_apart(update: str, *, held: bool) -> tuple[float, float, float]:
    """How far two workers with Adam end from one: a bias that all candidates share, and all the rest; and its first gradient."""
    bias, data = "candidate.towers.table.mlp.0.bias", dataset()
    candidate = {
        "towers": {"id": ID, "table": {**TABLE, "layers": []}}
    }  # a hidden unit that is on for all has such a bias too
    chosen = spec({"negatives": SHARED, "candidate": candidate, "update": {"kind": update}})
    adam = chosen.training.optimizer.model_copy(update={"weight_decay": 0.0})
    training = chosen.training.model_copy(
        update={"optimizer": adam, "batch_size": 31}
    )  # none of a single row: all would be zero
    chosen = chosen.model_copy(update={"training": training})
    first: list[float] = []

    def made() -> Prepared:
        found = prepared(chosen, data)
        step, parameter = found.state.optimizer.step, dict(found.state.model.named_parameters())[bias]

        def stepped(*given: Any, **more: Any) -> Any:
            assert parameter.grad is not None
            first.append(float(parameter.grad.abs().max()))
            if held:
                parameter.grad.zero_()
            return step(*given, **more)

        found.state.optimizer.step = stepped  # type: ignore[method-assign]
        return found

    alone, each = made(), [made() for _ in range(2)]
    run(ALONE, alone, chosen, data)
    with seeded_torch(0):
        together(2, lambda world: run(world, each[world.rank], chosen, data))
    others = each[0].state.model.state_dict()
    off = {name: float((tensor - others[name]).abs().max()) for name, tensor in alone.state.model.state_dict().items()}
    return off[bias], max(value for name, value in off.items() if name != bias), first[0]


def test_adam_follows_the_rounding_of_a_bias_that_all_candidates_share() -> None:
    """It cancels in the loss, so its gradient is rounding, and Adam makes whole steps of that; one-backprop's queries follow."""
    bias, rest, gradient = adam_apart("two_backprop", held=False)
    assert gradient < 1e-7
    assert bias > 1e-3
    assert rest < 1e-4
    bias, rest, _ = adam_apart("one_backprop", held=False)
    assert min(bias, rest) > 1e-3
    bias, rest, _ = adam_apart("one_backprop", held=True)
    assert bias == 0
    assert rest < 1e-4

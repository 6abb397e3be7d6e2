"""The compiled engine beside the torch engine, which is its plain twin.

Invariants:
- same draws, same order, same settings: losses, tables, what the optimizer and the update remember, and the reported negatives
  are equal within the rounding of float32, step by step, for every loss, match, update and optimizer that both know;
- negatives of their own: the result does not depend on the number of threads, nor on how many steps a span has, bit for bit;
  shared candidates: not at one number of threads;
- a training that was stopped and resumed ends with the same bits;
- a loss that is not finite stops before the tables move, and says the step;
- where it cannot run a spec it says why, and ``auto`` takes the torch engine.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from towerkit.core.errors import SpecError, TrainingError
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset, make_dataset
from towerkit.data.readers import read_table
from towerkit.data.spec import DataSpec
from towerkit.spec import ModelingSpec
from towerkit.training.engines import choice, pairwise
from towerkit.training.fit import Prepared, batches_of
from towerkit.training.loop import Selection
from towerkit.training.recipes import RetrievalRecipe
from towerkit.training.snapshot import restore, snapshot
from towerkit.training.state import seeded_torch
from towerkit.training.steps import order_of, torch_steps


def dataset(num_rows: int = 300, *, weighted: bool = False) -> Dataset:
    draw = np.random.default_rng(5)
    columns: dict[str, Any] = {
        "user": draw.integers(0, 23, num_rows),
        "item": (37 * draw.random(num_rows) ** 2).astype(np.int64),
        "weight": draw.choice([0.0, 0.5, 1.0, 3.0], num_rows),
    }
    examples = {"path": "test", "query": "user", "candidate": "item"} | ({"weight": "weight"} if weighted else {})
    split = {"kind": "random", "validation": 0.0, "test": 0.0}
    return make_dataset(parse(DataSpec, {"examples": examples, "split": split}), read_table(columns))


def spec(**changes: Any) -> ModelingSpec:
    tower = {"kind": "id", "dim": changes.pop("dim", 9)}
    model = {"kind": "two_tower", "query": tower, "candidate": tower, "match": {"kind": changes.pop("match", "dot")}}
    training = {"batch_size": 32, "optimizer": {"kind": "adam", "lr": 0.02}} | changes.pop("training", {})
    objective = {"loss": changes.pop("loss", "sampled_softmax"), "negatives": [{"kind": "uniform", "count": 4}]}
    if "negatives" in changes:
        objective["negatives"] = changes.pop("negatives")
    if isinstance(objective["loss"], str):
        objective["loss"] = {"kind": objective["loss"]}
    return parse(ModelingSpec, {"model": model, "objective": objective, "training": training, **changes})


def prepared(chosen: ModelingSpec, data: Dataset, engine: str) -> Prepared:
    training = chosen.training.model_copy(update={"engine": engine})
    recipe = RetrievalRecipe(
        chosen.model, chosen.objective, chosen.update, Selection("loss", higher_is_better=False), lambda *_: {}
    )
    with seeded_torch(1):
        found = recipe.prepare(data, data.parts.train, training)
        # A random start of realistic size: scores differ, and no loss is flat.
        for side in (found.state.model.query, found.state.model.candidate):
            for tower in side.id_towers().values():
                torch.nn.init.normal_(tower.table, std=0.5)
    return found


def run(found: Prepared, chosen: ModelingSpec, data: Dataset, epochs: int = 2) -> list[float]:
    rows, losses = data.parts.train, []
    plain = torch_steps(found.state, lambda epoch, done: batches_of(found, rows, chosen.training, epoch, done))
    advance = found.engine.steps if found.engine else plain
    for epoch in range(epochs):
        for stepped in advance(epoch, 0, lambda: 1 << 30):
            losses += stepped.losses
    return losses


LOSSES: dict[str, dict[str, Any]] = {
    "sampled_softmax": {"loss": {"kind": "sampled_softmax", "temperature": 0.7}},
    "bpr": {"loss": "bpr"},
    "bce": {"loss": {"kind": "bce", "negative_weight": 2.0}},
    "triplet": {"loss": {"kind": "triplet", "margin": 0.4}},
    "cosine softmax": {"loss": {"kind": "sampled_softmax", "temperature": 0.2}, "match": "cosine"},
    "bilateral_softmax": {"loss": {"kind": "bilateral_softmax", "temperature": 0.2, "ratio": 1.2}, "match": "cosine"},
    "contrastive": {"loss": {"kind": "contrastive", "margin": 0.1}, "match": "cosine"},
    "ccl": {"loss": {"kind": "ccl", "margin": 0.1, "negative_weight": 4.0}, "match": "cosine"},
}
UPDATES: dict[str, dict[str, Any]] = {
    "two_backprop": {"kind": "two_backprop"},
    "one_backprop": {"kind": "one_backprop", "beta": 0.9},
    "one_backprop last": {"kind": "one_backprop", "beta": 0.9, "duplicates": "last"},
    "one_backprop debias": {"kind": "one_backprop", "beta": 0.9, "debias": True},
    "one_backprop epoch": {"kind": "one_backprop", "beta": 0.9, "refresh": "epoch", "start": "mean_of_items"},
    "stop query": {"kind": "stop_gradient", "side": "query"},
    "stop candidate": {"kind": "stop_gradient", "side": "candidate"},
    "alternating": {"kind": "alternating", "every": 3},
}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adam": {"kind": "adam", "lr": 0.02, "weight_decay": 0.01},
    "adam of all rows": {"kind": "adam", "lr": 0.02, "weight_decay": 0.01, "rows": "all"},
    "adagrad": {"kind": "adagrad", "lr": 0.05, "schedule": {"kind": "linear", "warmup": 5}},
    "rowwise_adagrad": {"kind": "rowwise_adagrad", "lr": 0.05},
    "rowwise_adagrad of all rows": {"kind": "rowwise_adagrad", "lr": 0.05, "rows": "all", "weight_decay": 0.01},
    "sgd": {"kind": "sgd", "lr": 0.5},
}
CASES: dict[str, dict[str, Any]] = {
    **{f"loss {name}": case for name, case in LOSSES.items()},
    **{f"update {name}": {"update": case} for name, case in UPDATES.items()},
    **{f"update {name}, cosine": {"update": case, **LOSSES["ccl"]} for name, case in UPDATES.items()},
    **{f"optimizer {name}": {"training": {"optimizer": case}} for name, case in OPTIMIZERS.items()},
    "popularity": {"negatives": [{"kind": "popularity", "count": 3}]},
    "popularity, bilateral": {"negatives": [{"kind": "popularity", "count": 3}], **LOSSES["bilateral_softmax"]},
    "one negative": {"negatives": [{"kind": "uniform", "count": 1}], "loss": "bpr"},
    "positives allowed": {"negatives": [{"kind": "uniform", "count": 3, "exclude_positives": False}]},
    "one dimension": {"dim": 1},
    "wide": {"dim": 67},
    "one batch": {"training": {"batch_size": 1000}},
    "single rows": {"training": {"batch_size": 1}},
    "short batches left out": {"training": {"drop_last": True}},
}


UNIFORM = {"kind": "uniform", "count": 11, "shared": True}
POPULAR = {"kind": "popularity", "count": 7, "shared": True}
COSINE = {"loss": {"kind": "sampled_softmax", "temperature": 0.2}, "match": "cosine"}
SHARED: dict[str, dict[str, Any]] = {
    "uniform": {"negatives": [UNIFORM]},
    "popularity": {"negatives": [POPULAR], "loss": {"kind": "sampled_softmax", "temperature": 0.7}},
    "in_batch": {"negatives": [{"kind": "in_batch"}]},
    "mixture, cosine": {"negatives": [{"kind": "in_batch"}, POPULAR, UNIFORM], **COSINE},
    "bilateral": {"negatives": [POPULAR, {"kind": "in_batch"}], **LOSSES["bilateral_softmax"]},
    "bilateral, nobody left": {"negatives": [UNIFORM | {"count": 1}], **LOSSES["bilateral_softmax"]},
    **{f"update {name}": {"update": case, "negatives": [POPULAR]} for name, case in UPDATES.items()},
    **{f"update {name}, cosine": {"update": case, "negatives": [UNIFORM], **COSINE} for name, case in UPDATES.items()},
    **{f"optimizer {n}": {"training": {"optimizer": case}, "negatives": [UNIFORM]} for n, case in OPTIMIZERS.items()},
    "one batch": {"negatives": [UNIFORM], "training": {"batch_size": 1000}},
    "many": {"negatives": [UNIFORM | {"count": 300}]},
}
CASES |= {f"shared {name}": case for name, case in SHARED.items()}


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_both_engines_take_the_same_steps(case: Mapping[str, Any], weighted: bool) -> None:
    data, chosen = dataset(weighted=weighted), spec(**case)
    fast, plain = prepared(chosen, data, "compiled"), prepared(chosen, data, "torch")
    assert fast.engine is not None and plain.engine is None
    np.testing.assert_allclose(run(fast, chosen, data), run(plain, chosen, data), rtol=2e-4, atol=2e-5)
    ours, theirs = snapshot(fast.state), snapshot(plain.state)
    moved = [name for name in theirs if name in ours]
    assert [name for name in theirs if name not in ours] == []
    for name in moved:
        np.testing.assert_allclose(ours[name].numpy(), theirs[name].numpy(), rtol=5e-3, atol=5e-5, err_msg=name)
    assert fast.state.objective.report() == pytest.approx(plain.state.objective.report(), rel=1e-3)


def test_the_first_step_is_equal_to_the_last_digits_of_float32() -> None:
    data, chosen = dataset(32), spec(dim=32)
    fast, plain = prepared(chosen, data, "compiled"), prepared(chosen, data, "torch")
    np.testing.assert_allclose(run(fast, chosen, data, 1), run(plain, chosen, data, 1), rtol=1e-6)
    ours, theirs = snapshot(fast.state), snapshot(plain.state)
    firsts = [name for name in theirs if name.endswith(".first")]
    assert firsts
    for name in firsts:  # a tenth of the gradient
        np.testing.assert_allclose(ours[name].numpy(), theirs[name].numpy(), rtol=1e-4, atol=1e-8)


@contextmanager
def torch_uses(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "case", ["update two_backprop", "update one_backprop", "loss ccl", "popularity", "shared mixture, cosine"]
)
def test_neither_threads_nor_spans_change_a_bit(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data, chosen = dataset(weighted=True), spec(**CASES[case])
    ends = []
    for threads, most in ((1, 64), (2, 64), (7, 64), (2, 1), (1, 3)):
        monkeypatch.setattr(pairwise, "MOST_STEPS", most)
        with torch_uses(threads):
            found = prepared(chosen, data, "compiled")
            losses = run(found, chosen, data)
        ends.append((losses, {name: tensor.numpy().tobytes() for name, tensor in snapshot(found.state).items()}))
    assert all(end == ends[0] for end in ends[1:])


@pytest.mark.parametrize(
    "case", ["update two_backprop", "update one_backprop debias", "update alternating", "shared popularity"]
)
@pytest.mark.parametrize("stop", [1, 4, 10, 13])
def test_resumed_after_any_step_it_ends_with_the_same_bits(case: str, stop: int) -> None:
    data, chosen = dataset(), spec(**CASES[case])
    whole = prepared(chosen, data, "compiled")
    run(whole, chosen, data)
    first = prepared(chosen, data, "compiled")
    assert first.engine is not None
    done = 0
    for epoch in range(2):
        for _ in first.engine.steps(epoch, 0, lambda: 1):
            done += 1
            if done == stop:
                break
        if done == stop:
            break
    kept = {name: tensor.clone() for name, tensor in snapshot(first.state).items()}
    second = prepared(chosen, data, "compiled")
    restore(second.state, kept, "test")
    assert second.engine is not None
    per_epoch = -(-300 // 32)
    for epoch in range(done // per_epoch, 2):
        for _ in second.engine.steps(epoch, done - epoch * per_epoch if epoch == done // per_epoch else 0):
            pass
    ours, theirs = snapshot(second.state), snapshot(whole.state)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name


def test_spans_end_where_someone_has_to_look() -> None:
    data, chosen = dataset(), spec()
    found = prepared(chosen, data, "compiled")
    assert found.engine is not None
    until_four = lambda: 4 - found.state.step % 4  # noqa: E731 - a checkpoint every four steps
    steps = [len(stepped.losses) for epoch in range(2) for stepped in found.engine.steps(epoch, 0, until_four)]
    assert steps == [4, 4, 2, 2, 4, 4]


def test_a_bad_loss_stops_before_the_tables_and_after_the_steps_before_it() -> None:
    data, chosen = dataset(), spec(update={"kind": "stop_gradient", "side": "query"})
    found = prepared(chosen, data, "compiled")
    assert found.engine is not None
    first = next(iter(prepared(chosen, data, "compiled").engine.steps(0, 0)))  # type: ignore[misc]
    assert len(first.losses) == 10
    order = order_of(data.parts.train, chosen.training, 0)[:]
    late = int(data_codes(found, "user")[order[7 * 32]])
    earlier = data_codes(found, "user")[order[: 7 * 32]]
    query = next(iter(found.state.model.query.id_towers().values())).table
    with torch.no_grad():
        query[late] = np.nan
    bad_step = int(np.flatnonzero(data_codes(found, "user")[order] == late)[0]) // 32
    losses: list[float] = []
    with pytest.raises(TrainingError, match=rf"at step {bad_step} it is nan \(retrieval nan\)\. Lower training"):
        for stepped in found.engine.steps(0, 0):
            losses += stepped.losses
    assert len(losses) == bad_step == found.state.step == found.state.optimizer.steps
    assert len(earlier) == 7 * 32
    candidate = next(iter(found.state.model.candidate.id_towers().values())).table
    assert bool(torch.isfinite(candidate).all())


def data_codes(found: Prepared, entity: str) -> np.ndarray:
    return np.asarray(found.encoded.tables[entity]["id"])[found.encoded.index[entity]]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "match": ({"match": "euclidean"}, "model.match is euclidean"),
    "loss": ({"loss": "directau", "negatives": [], "match": "cosine"}, "the loss is directau"),
    "shared": (
        {"negatives": [{"kind": "uniform", "shared": True}], "loss": "bpr"},
        "objective.negatives is 'uniform', where one sort",
    ),
    "several": (
        {"negatives": [{"kind": "uniform"}, {"kind": "in_batch"}]},
        "objective.negatives is 'in_batch', 'uniform'",
    ),
    "ema": ({"update": {"kind": "ema"}}, "slow copies"),
    "clip": ({"training": {"optimizer": {"clip_norm": 1.0}}}, "clip_norm"),
    "accumulate": ({"training": {"accumulate": 2}}, "accumulate"),
    "precision": ({"training": {"precision": "bfloat16"}}, "bfloat16"),
    "learned": ({"loss": {"kind": "sampled_softmax", "learn_temperature": True}}, "temperature is learned"),
}


@pytest.mark.parametrize(("changes", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_it_cannot_run_is_said_and_left_to_torch(changes: dict[str, Any], reason: str) -> None:
    training = {"epochs": 10_000, **changes.pop("training", {})}
    chosen = spec(**changes, training=training)
    assert None is choice.engine_of(chosen.model, chosen.objective, chosen.update, chosen.training, 10**9)
    with pytest.raises(SpecError, match=f"training.engine: compiled.*{reason}.*engine: auto") as caught:
        spec(**changes, training={**training, "engine": "compiled"})
    assert "two id towers" in str(caught.value)


def test_auto_compiles_long_trainings_alone() -> None:
    long, short = spec(training={"epochs": 200}), spec(training={"epochs": 1})
    for chosen, rows, expected in ((long, 10**6, True), (short, 1_000, False)):
        about = chosen.model, chosen.objective, chosen.update
        assert (choice.engine_of(*about, chosen.training, rows) is not None) == expected
        forced = chosen.training.model_copy(update={"engine": "compiled"})
        assert choice.engine_of(*about, forced, rows) is pairwise.PairwiseEngine
        assert None is choice.engine_of(*about, chosen.training.model_copy(update={"engine": "torch"}), 10**9)


@pytest.mark.parametrize("kind", ["id and table", "tower_model"])
def test_other_models_are_refused(kind: str) -> None:
    table = {"kind": "table", "columns": ["age"], "dim": 9}
    if kind == "tower_model":
        model: dict[str, Any] = {
            "kind": "tower_model",
            "towers": {"table": table},
            "heads": {"bought": {"kind": "binary", "column": "bought"}},
        }
        reason = "the model is a tower_model"
    else:
        one = {"kind": "id", "dim": 9}
        model = {"kind": "two_tower", "query": {"towers": {"id": one, "table": table}}, "candidate": one}
        reason = "model.query is no id tower alone"
    with pytest.raises(SpecError, match=reason):
        parse(ModelingSpec, {"model": model, "training": {"engine": "compiled"}})


WAITS = """
import towerkit, pandas as pd
from towerkit.training.progress import Silent

class Waits(Silent):
    def waits(self, what):
        print(what)

rows = pd.DataFrame({"user": [i % 7 for i in range(60)], "item": [i * i % 11 for i in range(60)]}).drop_duplicates()
tower = {"kind": "id", "dim": 4}
spec = {
    "model": {"kind": "two_tower", "query": tower, "candidate": tower},
    "objective": {"loss": {"kind": "bpr"}, "negatives": [{"kind": "uniform", "count": 1}]},
    "training": {"engine": "compiled", "epochs": 1},
    "evaluation": {"k": [2], "baselines": ["popularity"]},
}
data = {"examples": {"path": "rows", "query": "user", "candidate": "item"}, "split": {"kind": "random"}}
towerkit.fit({**spec}, towerkit.read(rows, query="user", candidate="item"), progress=Waits())
"""


@pytest.mark.long  # compiles the kernels anew, which takes half a minute
def test_a_wait_for_the_compiler_is_told_once_and_no_kernel_is_compiled_twice(tmp_path: Path) -> None:
    """A process that finds no machine code says that it compiles; the next one with that folder does not.

    A literal or a view with strides in place of the usual argument would have a kernel compiled once more, for seconds.
    """
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    told = [
        subprocess.run(
            [sys.executable, "-c", WAITS], env=environment, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert told == ["compiling the kernels of this training; they are kept for the next one\n", ""]
    kept = [path.name for path in tmp_path.rglob("pairwise.*.nbc")]
    assert len(kept) > 5 and all(name.endswith(".1.nbc") for name in kept), kept

"""Updates: what moves, by how much, and what gets no gradient.

Invariants:
- grouped one-backprop equals a loop over queries, and does not depend on the order of the rows;
- ``last`` equals a loop that writes every row from the old vector: the last write stays;
- targets are the candidates' vectors after the optimizer's step, as the match sees them (of length one under cosine);
- the query's id table gets no gradient and has no optimizer slot; other parts of the query side get both;
- a step of several batches moves the queries of all, as one batch of them would;
- rows of queries outside the batch, and the unknown row, do not move;
- with the candidates frozen, epochs of grouped updates end at the mean of each query's history;
- a weight counts as that many rows; without bias the start is gone after the first event; the start at the mean and the
  refresh by epoch are what they say, of candidates without dropout;
- ema without momentum has the gradient of two-backprop, with it the slow copy follows; a stopped side has no gradient;
  alternating sides take turns; what an update remembers comes back from its state;
- a query side without an id tower, or of another width than the candidates, is refused with the numbers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from towerkit.core.errors import ShapeError, SpecError
from towerkit.core.spec import parse
from towerkit.data.batch import Batch, dense
from towerkit.data.dataset import Dataset, make_dataset
from towerkit.data.roles import EntityTable
from towerkit.data.spec import DataSpec
from towerkit.data.table import Table
from towerkit.features.encoded import Drawn, Encoded, encode
from towerkit.features.encoder import Encoder
from towerkit.losses import sampled_softmax
from towerkit.matching.updates import (
    AlternatingSpec,
    EmaSpec,
    OneBackprop,
    OneBackpropSpec,
    StopGradientSpec,
    TwoBackprop,
    TwoBackpropSpec,
)
from towerkit.models.two_tower import TwoTower, TwoTowerSpec
from towerkit.objectives.retrieval import RetrievalObjective
from towerkit.training.optimizers import RowAdam
from towerkit.training.state import seeded_torch

NUM_USERS, NUM_ITEMS, DIM = 4, 6, 3
PAIRS = [(0, 1), (0, 2), (1, 0), (2, 5), (0, 3), (2, 1), (3, 4), (1, 2), (0, 1), (2, 4)]
IDS = {"kind": "id", "dim": DIM}
FUSED = {"towers": {"id": IDS, "about": {"kind": "table", "columns": ["age"], "layers": [], "dim": DIM}}}
FUSED_ITEM = {"towers": {"id": IDS, "about": {"kind": "table", "columns": ["price"], "layers": [4], "dim": DIM}}}


def dataset_of() -> Dataset:
    columns = {"user": [f"u{user}" for user, _ in PAIRS], "item": [item for _, item in PAIRS]}
    split = {"kind": "random", "validation": 0.0, "test": 0.0}
    spec = parse(DataSpec, {"examples": {"path": "p", "query": "user", "candidate": "item"}, "split": split})
    users = pa.table({"user": [f"u{n}" for n in range(NUM_USERS)], "age": [20.0, 30.0, 45.0, 21.0]})
    items = pa.table({"item": list(range(NUM_ITEMS)), "price": [1.0, 5.0, 2.0, 8.0, 1.0, 9.0]})
    entities = {name: EntityTable(name, name, Table(table, name)) for name, table in (("user", users), ("item", items))}
    return make_dataset(spec, Table(pa.table(columns), "p"), entities=entities)


def built(query: Any = IDS, candidate: Any = IDS, match: str = "dot") -> tuple[TwoTower, Encoded]:
    spec = TwoTowerSpec.model_validate({"query": query, "candidate": candidate, "match": {"kind": match}})
    dataset = dataset_of()
    encoder = Encoder.fit(spec.demand(dataset), dataset, np.arange(len(PAIRS)))
    with seeded_torch(3):
        model = spec.build(encoder, ("user", "item"))
    return model, encode(encoder, dataset)


def batch_of(encoded: Encoded, rows: Any) -> Batch:
    rows = np.asarray(rows)
    drawn = 1 + (np.arange(2 * len(rows)).reshape(-1, 2) * 3 + 1) % NUM_ITEMS
    return encoded.batch(rows, {"item": [Drawn(drawn)]})


def one_step(model: TwoTower, update: OneBackprop, batch: Batch, lr: float = 0.1) -> RowAdam:
    """A whole training step; the gradients stay to be looked at."""
    optimizer = RowAdam(update.trainable(model), lr=lr)
    RetrievalObjective(sampled_softmax, update)(model, batch)["retrieval"].backward()
    optimizer.step()
    update.after_step(model, batch)
    return optimizer


def id_table(model: TwoTower) -> torch.Tensor:
    return next(iter(model.query.id_towers().values())).table


def positives_of(model: TwoTower, batch: Batch) -> tuple[list[int], torch.Tensor]:
    """The id code of each example's query, and its positive's vector as the match sees it now."""
    with torch.no_grad():
        vectors = model.match.prepare(model.candidate(batch.columns["item"]))
    codes = dense(batch.columns["user"], "id")[batch.index["user"]].tolist()
    return codes, vectors[batch.index["item"]]


MODELS = [(IDS, IDS, "dot"), (IDS, IDS, "cosine"), (IDS, IDS, "euclidean"), (FUSED, IDS, "dot"), (FUSED, IDS, "cosine")]
models = pytest.mark.parametrize(("query", "candidate", "match"), MODELS)


@models
def test_grouped_equals_a_loop_over_queries(query: Any, candidate: Any, match: str) -> None:
    model, encoded = built(query, candidate, match)
    batch, before = batch_of(encoded, range(8)), id_table(model).detach().clone()
    one_step(model, OneBackprop(0.9, "grouped"), batch)
    codes, targets = positives_of(model, batch)
    expected = before.clone()
    for code in set(codes):
        own = targets[[row for row, other in enumerate(codes) if other == code]]
        kept = 0.9 ** len(own)
        expected[code] = kept * before[code] + (1 - kept) * own.mean(dim=0)
    torch.testing.assert_close(id_table(model).detach(), expected)
    assert len(set(codes)) < len(codes)


@models
def test_last_equals_a_loop_over_rows(query: Any, candidate: Any, match: str) -> None:
    model, encoded = built(query, candidate, match)
    batch, before = batch_of(encoded, [0, 3, 4, 1, 5, 2, 7]), id_table(model).detach().clone()
    one_step(model, OneBackprop(0.9, "last"), batch)
    codes, targets = positives_of(model, batch)
    expected = before.clone()
    for code, target in zip(codes, targets, strict=True):  # every row reads the old vector
        expected[code] = 0.9 * before[code] + 0.1 * target
    torch.testing.assert_close(id_table(model).detach(), expected)


@pytest.mark.parametrize("duplicates", ["grouped", "last"])
def test_the_order_of_rows_matters_only_for_last(duplicates: Any) -> None:
    tables = []
    for rows in ([0, 1, 4, 2, 7], [4, 7, 2, 0, 1]):
        model, encoded = built()
        one_step(model, OneBackprop(0.8, duplicates), batch_of(encoded, rows), lr=1e-9)
        tables.append(id_table(model).detach())
    assert torch.allclose(tables[0], tables[1], atol=1e-6) == (duplicates == "grouped")


def test_two_positives_grouped_by_hand() -> None:
    model, encoded = built()
    with torch.no_grad():
        id_table(model).fill_(1.0)
        model.candidate.id_towers()["id"].table.copy_(torch.arange(7.0)[:, None].expand(7, DIM))
    one_step(model, OneBackprop(0.5, "grouped"), batch_of(encoded, [0, 1]), lr=1e-12)
    # items 1 and 2 are the first two in the order of training, so their codes are 1 and 2; 0.25 * 1 + 0.75 * 1.5
    torch.testing.assert_close(id_table(model)[1].detach(), torch.full((DIM,), 1.375))


@models
def test_others_and_the_unknown_row_stay(query: Any, candidate: Any, match: str) -> None:
    for duplicates in ("grouped", "last"):
        model, encoded = built(query, candidate, match)
        before = id_table(model).detach().clone()
        one_step(model, OneBackprop(0.9, duplicates), batch_of(encoded, [2, 7]))  # type: ignore[arg-type]  # user 1 only
        moved = (id_table(model) != before).any(dim=1)
        assert moved.tolist() == [False, False, True, False, False]


@models
def test_no_gradient_and_no_slot_for_the_id_table(query: Any, candidate: Any, match: str) -> None:
    model, encoded = built(query, candidate, match)
    optimizer = one_step(model, OneBackprop(0.9, "grouped"), batch_of(encoded, range(8)))
    table = id_table(model)
    assert table.grad is None and not table.requires_grad
    assert all(parameter is not table for parameter in optimizer.parameters)
    assert len(optimizer.parameters) == len(list(model.parameters())) - 1
    assert sorted(optimizer.moments) == list(range(len(optimizer.parameters)))


def test_features_of_the_query_keep_their_gradients() -> None:
    model, encoded = built(FUSED, FUSED_ITEM)
    batch = batch_of(encoded, range(8))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    one_step(model, OneBackprop(0.9, "grouped"), batch)
    for name, parameter in model.named_parameters():
        if parameter is id_table(model):
            continue
        assert parameter.grad is not None and bool((parameter.grad != 0).any()), name
        assert not torch.equal(parameter, before[name]), name
    fixed, encoded = built(FUSED, FUSED_ITEM)
    objective = RetrievalObjective(sampled_softmax, TwoBackprop())
    objective(fixed, batch)["retrieval"].backward()
    expected = {name: parameter.grad for name, parameter in fixed.named_parameters()}
    for name, parameter in model.named_parameters():  # the gradients of the usual way, but for the id table
        if parameter is not id_table(model):
            torch.testing.assert_close(parameter.grad, expected[name])


def test_vectors_of_other_parts_are_those_of_the_forward_pass() -> None:
    model, encoded = built(IDS, FUSED_ITEM)
    batch, before = batch_of(encoded, range(8)), id_table(model).detach().clone()
    with torch.no_grad():
        about = model.candidate.parts(batch.columns["item"])["about"]
    calls = []
    model.candidate.towers["about"].register_forward_hook(lambda *_: calls.append(1))
    one_step(model, OneBackprop(0.9, "last"), batch)
    assert len(calls) == 1  # the table tower was not run again
    with torch.no_grad():
        vectors = model.candidate.id_towers()["id"](batch.columns["item"]) + about
    expected = before.clone()
    codes = dense(batch.columns["user"], "id")[batch.index["user"]].tolist()
    for code, target in zip(codes, vectors[batch.index["item"]], strict=True):
        expected[code] = 0.9 * before[code] + 0.1 * target
    torch.testing.assert_close(id_table(model).detach(), expected)


def test_cosine_averages_vectors_of_length_one() -> None:
    model, encoded = built(match="cosine")
    with torch.no_grad():
        model.candidate.id_towers()["id"].table.mul_(100.0)
        id_table(model).zero_()
    one_step(model, OneBackprop(0.5, "last"), batch_of(encoded, [6]))
    assert id_table(model)[4].norm().item() == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("match", ["dot", "cosine"])
def test_the_fixed_point_is_the_mean_of_the_history(match: str) -> None:
    model, encoded = built(match=match)
    update = OneBackprop(0.95, "grouped")
    list(update.trainable(model))
    rng = np.random.default_rng(0)
    for _ in range(600):  # epochs; no optimizer, so the candidates stay
        order = rng.permutation(len(PAIRS))
        for rows in (order, order[:0]):
            if len(rows):
                batch = batch_of(encoded, rows)
                update.views(model, batch, *model(batch))
                update.after_step(model, batch)
    codes, targets = positives_of(model, batch_of(encoded, range(len(PAIRS))))
    for code in range(1, NUM_USERS + 1):
        history = targets[[row for row, other in enumerate(codes) if other == code]]
        torch.testing.assert_close(id_table(model)[code].detach(), history.mean(dim=0), rtol=0, atol=1e-5)


def test_the_fixed_point_in_small_batches_is_near_the_mean() -> None:
    """With few rows of a query per batch, the vector hovers around the mean, nearer the larger ``beta`` is."""
    model, encoded = built()
    update = OneBackprop(0.999, "grouped")
    list(update.trainable(model))
    rng = np.random.default_rng(0)
    for _ in range(2500):
        for rows in rng.permutation(len(PAIRS)).reshape(2, 5):
            batch = batch_of(encoded, rows)
            update.views(model, batch, *model(batch))
            update.after_step(model, batch)
    codes, targets = positives_of(model, batch_of(encoded, range(len(PAIRS))))
    history = targets[[row for row, other in enumerate(codes) if other == 1]]
    spread = history.std(dim=0).max().item()
    torch.testing.assert_close(id_table(model)[1].detach(), history.mean(dim=0), rtol=0, atol=0.05 * spread)


def test_a_query_side_without_an_id_tower_is_refused() -> None:
    about = {"kind": "table", "columns": ["age"], "dim": DIM}
    model, _ = built(about)
    with pytest.raises(SpecError, match=r"that side needs one id tower; it has 0\. Add \{kind: id\}"):
        OneBackprop(0.9, "grouped").trainable(model)
    model, _ = built({"towers": {"one": IDS, "two": IDS}})
    with pytest.raises(SpecError, match=r"needs one id tower; it has 2\."):
        OneBackprop(0.9, "grouped").trainable(model)


def test_another_width_is_refused_with_both() -> None:
    wide = {
        "towers": {"id": {"kind": "id", "dim": 2}, "about": FUSED["towers"]["about"]},
        "backbone": {"kind": "gated", "dim": 3},
    }
    model, _ = built(wide)
    with pytest.raises(ShapeError, match=r"the id tower gives 2, the candidate side 3"):
        OneBackprop(0.9, "grouped").trainable(model)


def test_two_backprop_trains_everything_and_moves_nothing_itself() -> None:
    model, encoded = built(FUSED, FUSED_ITEM)
    update = TwoBackpropSpec().build()
    batch = batch_of(encoded, range(8))
    query, candidate = model(batch)
    assert update.views(model, batch, query, candidate) == [(query.vectors, candidate.vectors)]
    assert {id(parameter) for parameter in update.trainable(model)} == {
        id(parameter) for parameter in model.parameters()
    }
    before = {name: value.clone() for name, value in model.state_dict().items()}
    update.after_step(model, batch)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("beta", [0.0, 1.0, -0.1, 2.0])
def test_a_beta_outside_zero_to_one_is_refused(beta: float) -> None:
    with pytest.raises(SpecError, match=rf"beta: input should be (greater|less) than [01]; received {beta}"):
        parse(OneBackpropSpec, {"beta": beta})
    built_update = OneBackpropSpec(beta=0.7, duplicates="last").build()
    assert (built_update.beta, built_update.duplicates) == (0.7, "last")


# --- starts, bias and refresh of one-backprop -----------------------------------------------------------------------


ROWS = np.arange(len(PAIRS))


def weighted(encoded: Encoded, weights: list[float]) -> Encoded:
    return replace(encoded, weights=np.array(weights, np.float32))


def test_the_last_row_that_weighs_something_moves_its_query_by_its_weight() -> None:
    rows, weights = [0, 1, 8, 2], [1.0, 2.0, 0.0, *[1.0] * (len(PAIRS) - 3)]
    weights[8], weights[2] = 0.0, 0.0  # the last row of user 0, and the only one of user 1
    model, encoded = built()
    update = OneBackprop(0.8, "last")
    list(update.trainable(model))
    before = id_table(model).detach().clone()
    batch = batch_of(weighted(encoded, weights), rows)
    update.views(model, batch, *model(batch))
    update.after_step(model, batch)
    codes, targets = positives_of(model, batch)
    expected = before.clone()
    expected[codes[1]] = 0.8**2 * before[codes[1]] + (1 - 0.8**2) * targets[1]
    torch.testing.assert_close(id_table(model).detach(), expected, rtol=0, atol=1e-6)


def test_an_example_of_weight_two_moves_as_two_rows_do() -> None:
    weights = [1.0] * len(PAIRS)
    weights[3] = 2.0
    tables = []
    for rows, given in (([3, 1], weights), ([3, 3, 1], None)):
        model, encoded = built()
        if given is not None:
            encoded = weighted(encoded, given)
        update = OneBackprop(0.8, "grouped")
        list(update.trainable(model))
        batch = batch_of(encoded, rows)
        update.views(model, batch, *model(batch))
        update.after_step(model, batch)
        tables.append(id_table(model).detach().clone())
    torch.testing.assert_close(tables[0], tables[1], rtol=0, atol=1e-6)


def test_an_example_of_weight_zero_moves_nothing() -> None:
    model, encoded = built()
    update = OneBackprop(0.8, "grouped", debias=True)
    list(update.trainable(model))
    update.begin(model, encoded, ROWS)
    before = id_table(model).detach().clone()
    batch = batch_of(weighted(encoded, [0.0] * len(PAIRS)), ROWS)
    update.views(model, batch, *model(batch))
    update.after_step(model, batch)
    assert torch.equal(id_table(model).detach(), before)


@pytest.mark.parametrize("match", ["dot", "cosine"])
def test_without_bias_the_first_event_sets_the_vector_and_the_rest_average(match: str) -> None:
    """The debiased vector is ``Σ β^(n-t) (1-β) e_t / (1 - β^n)``: weights of the events alone, the start gone."""
    model, encoded = built(match=match)
    update = OneBackprop(0.9, "grouped", debias=True)
    list(update.trainable(model))
    update.begin(model, encoded, ROWS)
    met: dict[int, list[torch.Tensor]] = {}
    for rows in ([0], [4], [2], [0], [6], [3]):
        batch = batch_of(encoded, rows)
        update.views(model, batch, *model(batch))
        update.after_step(model, batch)
        (code,), targets = positives_of(model, batch)
        met.setdefault(code, []).append(targets[0])
    for code, events in met.items():
        shares = torch.tensor([0.9 ** (len(events) - 1 - place) for place in range(len(events))])
        expected = (shares[:, None] * torch.stack(events)).sum(dim=0) / shares.sum()
        torch.testing.assert_close(id_table(model)[code].detach(), expected, rtol=0, atol=1e-6)
    assert max(map(len, met.values())) > 1
    assert update.met is not None and update.met.sum().item() == 6


def test_the_start_at_the_mean_of_the_items() -> None:
    model, encoded = built(FUSED, FUSED_ITEM, match="cosine")
    update = OneBackprop(0.9, "grouped", start="mean_of_items")
    list(update.trainable(model))
    update.begin(model, encoded, ROWS)
    codes, targets = positives_of(model, batch_of(encoded, ROWS))
    for code in range(1, NUM_USERS + 1):
        history = targets[[row for row, other in enumerate(codes) if other == code]]
        torch.testing.assert_close(id_table(model)[code].detach(), history.mean(dim=0), rtol=0, atol=1e-6)


def test_refreshed_by_epoch_a_query_rests_until_all_its_rows_count() -> None:
    model, encoded = built()
    update = OneBackprop(0.7, "grouped", refresh="epoch")
    list(update.trainable(model))
    before = id_table(model).detach().clone()
    batch = batch_of(encoded, ROWS)
    update.views(model, batch, *model(batch))
    update.after_step(model, batch)
    assert torch.equal(id_table(model).detach(), before)
    update.after_epoch(model, encoded, ROWS)
    at_once, _ = built()
    whole = OneBackprop(0.7, "grouped")
    list(whole.trainable(at_once))
    whole.views(at_once, batch, *at_once(batch))
    whole.after_step(at_once, batch)
    torch.testing.assert_close(id_table(model).detach(), id_table(at_once).detach(), rtol=0, atol=1e-6)
    assert not torch.equal(id_table(model).detach(), before)


@pytest.mark.parametrize("update", [OneBackpropSpec(), StopGradientSpec(side="query")], ids=lambda spec: spec.kind)
def test_the_unknown_query_is_the_mean_where_no_gradient_can_teach_it(update: Any) -> None:
    model, _ = built({**IDS, "hide": 0.5})
    list(update.build().trainable(model))
    for tower in model.query.id_towers().values():
        tower.settle()
    torch.testing.assert_close(id_table(model)[0], id_table(model)[1:].mean(dim=0))


@pytest.mark.parametrize("duplicates", ["grouped", "last"])
def test_a_step_of_several_batches_moves_the_queries_of_all(duplicates: Any) -> None:
    (model, encoded), (whole, _) = built(FUSED, FUSED_ITEM), built(FUSED, FUSED_ITEM)
    for each, parts in ((model, [ROWS[:4], ROWS[4:7], ROWS[7:]]), (whole, [ROWS])):
        update = OneBackprop(0.8, duplicates)
        list(update.trainable(each))
        for rows in parts:
            batch = batch_of(encoded, rows)
            update.views(each, batch, *each(batch))
        update.after_step(each, batch)
        once = id_table(each).detach().clone()
        update.after_step(each, batch)
        assert torch.equal(id_table(each).detach(), once)  # the next step begins with nothing
    torch.testing.assert_close(id_table(model).detach(), id_table(whole).detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("when", ["start", "epoch"])
def test_all_rows_are_read_as_the_candidates_serve_and_not_through_dropout(when: str) -> None:
    model, encoded = built(candidate={**FUSED_ITEM["towers"]["about"], "layers": [8], "dropout": 0.7})
    if when == "start":
        OneBackprop(0.9, "grouped", start="mean_of_items").begin(model, encoded, ROWS)
    else:
        OneBackprop(1e-9, "grouped", refresh="epoch").after_epoch(model, encoded, ROWS)
    assert model.candidate.training
    codes, targets = positives_of(model.eval(), batch_of(encoded, ROWS))
    for code in range(1, NUM_USERS + 1):
        history = targets[[row for row, other in enumerate(codes) if other == code]]
        torch.testing.assert_close(id_table(model)[code].detach(), history.mean(dim=0), rtol=0, atol=1e-6)


def test_a_start_and_no_bias_exclude_each_other() -> None:
    with pytest.raises(ValueError, match=r"so start: mean_of_items would have no effect"):
        OneBackpropSpec(debias=True, start="mean_of_items")


# --- updates by gradient ------------------------------------------------------------------------------------------


def gradients(update: Any, model: TwoTower, encoded: Encoded, batch: Batch) -> dict[str, torch.Tensor | None]:
    list(update.trainable(model))
    update.begin(model, encoded, ROWS)
    RetrievalObjective(sampled_softmax, update)(model, batch)["retrieval"].backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def of_side(found: dict[str, torch.Tensor | None], side: str) -> dict[str, torch.Tensor | None]:
    return {name: gradient for name, gradient in found.items() if name.startswith(f"{side}.")}


@pytest.mark.parametrize("side", ["query", "candidate", "both"])
@models
def test_without_momentum_ema_has_the_gradient_of_two_backprop(
    query: Any, candidate: Any, match: str, side: Any
) -> None:
    found = []
    for spec in (EmaSpec(side=side, momentum=0.0), TwoBackpropSpec()):
        model, encoded = built(query, candidate, match)
        found.append(gradients(spec.build(), model, encoded, batch_of(encoded, range(6))))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-7)


def test_slow_copies_follow_and_are_what_the_other_side_sees() -> None:
    model, encoded = built()
    update = EmaSpec(side="query", momentum=0.75).build()
    update.begin(model, encoded, ROWS)
    start = id_table(model).detach().clone()
    with torch.no_grad():
        id_table(model).add_(1.0)
    batch = batch_of(encoded, range(6))
    codes = dense(batch.columns["user"], "id")
    (slow, moving), (own, resting) = update.views(model, batch, *model(batch))
    torch.testing.assert_close(slow, start[codes])
    assert not slow.requires_grad and moving.requires_grad and own.requires_grad and not resting.requires_grad
    update.after_step(model, batch)
    (slow, _), _ = update.views(model, batch, *model(batch))
    torch.testing.assert_close(slow, start[codes] + 0.25)


@pytest.mark.parametrize(("side", "other"), [("query", "candidate"), ("candidate", "query")])
def test_a_stopped_side_gets_no_gradient_and_the_other_its_usual_one(side: Any, other: str) -> None:
    found = []
    for spec in (StopGradientSpec(side=side), TwoBackpropSpec()):
        model, encoded = built(FUSED, FUSED_ITEM)
        found.append(gradients(spec.build(), model, encoded, batch_of(encoded, range(6))))
    assert all(gradient is None for gradient in of_side(found[0], side).values())
    torch.testing.assert_close(of_side(found[0], other), of_side(found[1], other))


def test_sides_learn_in_turn() -> None:
    update = AlternatingSpec(every=2).build()
    model, encoded = built()
    batch = batch_of(encoded, range(6))
    turns = []
    for _ in range(6):
        model.zero_grad()
        RetrievalObjective(sampled_softmax, update)(model, batch)["retrieval"].backward()
        moved = [name.split(".")[0] for name, parameter in model.named_parameters() if parameter.grad is not None]
        turns += moved
        update.after_step(model, batch)
    assert turns == ["candidate", "candidate", "query", "query", "candidate", "candidate"]


@pytest.mark.parametrize("spec", [OneBackpropSpec(debias=True), EmaSpec(side="both"), AlternatingSpec(every=3)])
def test_what_an_update_remembers_comes_back(spec: Any) -> None:
    model, encoded = built()
    update, again = spec.build(), spec.build()
    for each in (update, again):
        list(each.trainable(model))
        each.begin(model, encoded, ROWS)
    batch = batch_of(encoded, range(6))
    for _ in range(4):
        update.views(model, batch, *model(batch))
        with torch.no_grad():
            model.candidate.id_towers()["id"].table.add_(0.1)
        update.after_step(model, batch)
    state = {name: tensor.clone() for name, tensor in update.state().items()}
    assert state and any(not torch.equal(tensor, again.state()[name]) for name, tensor in state.items())
    again.restore(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.state().items())

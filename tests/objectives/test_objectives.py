"""Objectives and balancers.

Invariants:
- the retrieval objective equals scores and loss computed pair by pair from the towers' vectors, weighted or not;
- collisions and log q of the pool reach the loss;
- a task's term is the mean over its labelled rows; unlabelled rows, and their nonsense codes, change nothing;
- a batch without any label of a task gives a term of zero with gradients of zero, not NaN;
- balancers give the gradients of their formulas; the fixed one is the weighted sum.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from towerkit.data.batch import Batch, Block
from towerkit.features.label_scale import Scale
from towerkit.fusion import ConcatSpec
from towerkit.heads.heads import BinaryHead, OrdinalHead
from towerkit.heads.multilabel import MultilabelHead
from towerkit.heads.regression import RegressionHead
from towerkit.losses import sampled_softmax
from towerkit.matching.similarity import Match, SimilarityName
from towerkit.matching.updates import TwoBackprop
from towerkit.models.side import Side
from towerkit.models.tower_model import TowerModel
from towerkit.models.two_tower import TwoTower
from towerkit.objectives.balance import FixedBalanceSpec, UncertaintyBalanceSpec
from towerkit.objectives.retrieval import RetrievalObjective, RetrievalObjectiveSpec, scores_of, weighted_mean
from towerkit.objectives.tasks import TasksObjective
from towerkit.towers import IdTower, TableTower
from towerkit.towers.column_parts import FlaggedPart
from towerkit.training.optimizers import RowAdam
from towerkit.training.state import TrainState, seeded_torch, train_step


def two_tower(match: SimilarityName) -> TwoTower:
    with seeded_torch(0):
        sides = [Side({"id": IdTower(rows, 3)}, None) for rows in (4, 6)]
    return TwoTower(sides[0], sides[1], Match(match), query_entity="user", candidate_entity="item")


PAIRS = Batch(
    columns={"user": {"id": torch.tensor([1, 3])}, "item": {"id": torch.tensor([1, 2, 4, 5])}},
    index={"user": torch.tensor([1, 0, 1]), "item": torch.tensor([0, 3, 2])},
    pool={"item": (Block(torch.tensor([[1, 2], [0, 1], [3, 1]])),)},
)


def block_index(batch: Batch) -> Tensor:
    index = batch.pool["item"][0].index
    assert index is not None
    return index


def expected_losses(model: TwoTower, batch: Batch, temperature: float) -> Tensor:
    losses = []
    users, items = (model.match.prepare(side.towers["id"].table) for side in (model.query, model.candidate))  # type: ignore[arg-type]
    columns = {name: own["id"] for name, own in batch.columns.items()}
    for row in range(len(batch)):
        user = users[columns["user"][batch.index["user"][row]]]  # type: ignore[index]
        shown = [batch.index["item"][row], *block_index(batch)[row]]
        scores = []
        for place in shown:
            item = items[columns["item"][place]]  # type: ignore[index]
            euclidean = model.match.similarity == "euclidean"
            scores.append(-((user - item) ** 2).sum() if euclidean else (user * item).sum())
        logits = torch.stack(scores) / temperature
        losses.append(torch.log(torch.exp(logits).sum()) - logits[0])
    return torch.stack(losses)


@pytest.mark.parametrize("match", ["dot", "cosine", "euclidean"])
@pytest.mark.parametrize("weights", [None, [1.0, 0.0, 3.0]])
def test_retrieval_equals_a_loop_over_pairs(match: SimilarityName, weights: list[float] | None) -> None:
    model = two_tower(match)
    batch = replace(PAIRS, weights=None if weights is None else torch.tensor(weights))

    def loss(positive: Tensor, negative: Tensor, **rest: Any) -> Tensor:
        return sampled_softmax(positive, negative, temperature=0.5, **rest)

    term = RetrievalObjective(loss, TwoBackprop())(model, batch)
    assert list(term) == ["retrieval"]
    shares = torch.tensor(weights or [1.0, 1.0, 1.0])
    expected = (expected_losses(model, batch, 0.5) * shares).sum() / shares.sum()
    torch.testing.assert_close(term["retrieval"], expected)
    gradients = [torch.autograd.grad(value, list(model.parameters())) for value in (term["retrieval"], expected)]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-7)


def test_the_pool_reaches_the_loss() -> None:
    collision = torch.tensor([[True, False], [False, False], [False, True]])
    log_q = torch.full((3, 2), math.log(0.1))
    seen: dict[str, Any] = {}

    def loss(positive: Tensor, negative: Tensor, **rest: Any) -> Tensor:
        seen.update(rest, shapes=(positive.shape, negative.shape))
        return positive

    pool = replace(PAIRS.pool["item"][0], collision=collision, log_q=log_q)
    RetrievalObjective(loss, TwoBackprop())(two_tower("dot"), replace(PAIRS, pool={"item": (pool,)}))
    assert torch.equal(seen["collision"], collision) and torch.equal(seen["log_q"], log_q)
    assert seen["shapes"] == ((3,), (3, 2))


def random_pool(rows: int, seed: int = 0) -> tuple[Block, ...]:
    """A block of each sort over the four candidate rows of PAIRS."""
    draw = torch.Generator().manual_seed(seed)

    def mask(width: int) -> Tensor:
        return torch.rand((rows, width), generator=draw) < 0.3

    return (
        Block(
            torch.randint(4, (rows, 3), generator=draw), collision=mask(3), log_q=torch.randn(rows, 3, generator=draw)
        ),
        Block(torch.tensor([2, 0, 2]), log_q=torch.randn(3, generator=draw)),
        Block(vectors=torch.randn(5, 3, generator=draw), collision=mask(5)),
    )


@pytest.mark.parametrize("match", ["dot", "cosine", "euclidean"])
def test_blocks_stand_side_by_side(match: SimilarityName) -> None:
    """Own, shared and remembered candidates: the same scores, masks and logQ as one list per row."""
    model, pool = two_tower(match), random_pool(3)
    query, candidate = (model.match.prepare(encoding.vectors) for encoding in model(PAIRS))
    queries, positives = query[PAIRS.index["user"]], candidate[PAIRS.index["item"]]
    found = scores_of(model.match, queries, candidate, positives, pool)
    assert pool[0].index is not None and pool[0].collision is not None and pool[0].log_q is not None
    assert pool[1].log_q is not None and pool[2].vectors is not None and pool[2].collision is not None
    for row in range(3):
        others = torch.cat([candidate[pool[0].index[row]], candidate[torch.tensor([2, 0, 2])], pool[2].vectors])
        expected = torch.stack([model.match.pairs(queries[row : row + 1], other[None])[0] for other in others])
        torch.testing.assert_close(found.negative[row], expected, rtol=1e-5, atol=1e-6)
        assert found.collision is not None and found.log_q is not None
        masks = [*pool[0].collision[row].tolist(), False, False, False, *pool[2].collision[row].tolist()]
        assert found.collision[row].tolist() == masks
        corrections = torch.cat([pool[0].log_q[row], pool[1].log_q, torch.zeros(5)])
        torch.testing.assert_close(found.log_q[row], corrections)


def test_only_the_highest_scores_of_a_hard_block_count() -> None:
    model = two_tower("dot")
    collision = torch.tensor([[False, True, False, False]] * 3)
    pool = (Block(torch.tensor([[0, 1, 2, 3]] * 3), collision=collision, keep=2),)
    query, candidate = (encoding.vectors for encoding in model(PAIRS))
    queries = query[PAIRS.index["user"]]
    found = scores_of(model.match, queries, candidate, candidate[PAIRS.index["item"]], pool)
    for row in range(3):
        free = (queries[row] @ candidate.T)[[0, 2, 3]]
        assert sorted(found.negative[row].tolist()) == pytest.approx(sorted(free.tolist())[1:])
    assert found.collision is not None and not found.collision.any()
    found.negative.sum().backward()
    gradient = model.candidate.id_towers()["id"].table.grad
    assert gradient is not None and not gradient[2].any()  # row 1 of the batch is candidate 2: masked, never chosen


def test_how_many_negatives_count_and_how_many_effectively() -> None:
    """With equal scores every negative pulls alike; with one far ahead only that one does."""
    model = two_tower("dot")
    with torch.no_grad():
        model.query.id_towers()["id"].table.fill_(1.0)
        model.candidate.id_towers()["id"].table.fill_(0.0)
    objective = RetrievalObjective(sampled_softmax, TwoBackprop())
    collision = torch.tensor([[False, True, False, False]] * 3)
    batch = replace(PAIRS, pool={"item": (Block(torch.tensor([[0, 1, 2, 3]] * 3), collision=collision),)})
    objective(model, batch)["retrieval"].backward()
    assert objective.report() == pytest.approx({"negatives": 3.0, "effective_negatives": 3.0})
    with torch.no_grad():
        model.candidate.id_towers()["id"].table[5] = 30.0  # the fourth candidate of the batch
    objective(model, batch)["retrieval"].backward()
    found = objective.report()
    assert found["negatives"] == 3.0 and found["effective_negatives"] == pytest.approx(1.0, abs=0.35)
    assert objective.report() == {}


def test_a_queue_gets_the_vectors_of_the_step_after_it() -> None:
    model, told = two_tower("cosine"), []

    class Listener:
        def remember(self, vectors: Tensor) -> None:
            told.append(vectors)

        def state(self) -> dict[str, Tensor]:
            return {"0.rows": torch.tensor([4])}

        def restore(self, state: dict[str, Tensor]) -> None:
            told.append(state)

    objective = RetrievalObjective(sampled_softmax, TwoBackprop(), Listener())
    objective(model, PAIRS)
    assert told == []
    objective.after_step()
    expected = model.match.prepare(model(PAIRS)[1].vectors)[PAIRS.index["item"]]
    assert torch.equal(told[0], expected) and not told[0].requires_grad
    found = {name: tensor.tolist() for name, tensor in objective.state().items()}
    assert found == {"negatives.0.rows": [4], "effective": [0.0, 0.0, 0.0]}
    objective.restore({"negatives.0.rows": torch.tensor([7]), "effective": torch.zeros(3, dtype=torch.float64)})
    assert told[1] == {"0.rows": torch.tensor([7])}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"negatives": []}, "the loss sampled_softmax compares with drawn negatives; received none."),
        (
            {"loss": {"kind": "bpr"}, "log_q": True},
            "log_q: true corrects a sum over drawn negatives, and the loss bpr has none",
        ),
        (
            {"negatives": [{"kind": "uniform"}, {"kind": "hard"}], "log_q": True},
            "which ones are hard depends on the model; received negatives uniform, hard.",
        ),
        ({"negatives": [{"kind": "hard", "count": 5, "pool": 5}]}, "received count 5 and pool 5. Raise pool"),
    ],
)
def test_parts_that_do_not_fit_are_refused_with_the_reason(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        RetrievalObjectiveSpec.model_validate(given)


def test_weighted_means() -> None:
    losses = torch.tensor([1.0, 2.0, 6.0])
    assert weighted_mean(losses, None).item() == 3.0
    assert weighted_mean(losses, torch.tensor([1.0, 0.0, 3.0])).item() == 4.75
    assert weighted_mean(losses, torch.zeros(3)).item() == 0.0


# --- tasks --------------------------------------------------------------------------------------------------------


def tower_model() -> TowerModel:
    with seeded_torch(0):
        tower = TableTower([FlaggedPart("n", 2)], layers=(4,), out_dim=3)
        heads = {"rating": OrdinalHead(3, (), 4), "liked": BinaryHead(3, (), 1)}
        return TowerModel({"table": tower}, {"table": "example"}, ConcatSpec().build({"table": 3}), heads)


def tasks_batch(rating: list[int], liked: list[int], weights: list[float] | None = None) -> Batch:
    rows = len(rating)
    labels = {"rating": torch.tensor(rating), "liked": torch.tensor(liked)}
    numbers = torch.stack([torch.linspace(-1, 1, 5), torch.zeros(5)], dim=1)[:rows]
    return Batch(
        columns={"example": {"n": numbers}},
        index={"example": torch.arange(rows)},
        labels=labels,
        masks={task: codes >= 0 for task, codes in labels.items()},
        weights=None if weights is None else torch.tensor(weights),
    )


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5, 1.0, 4.0]])
def test_a_term_is_the_mean_over_its_labelled_rows(weights: list[float] | None) -> None:
    model, batch = tower_model(), tasks_batch([0, 3, -1, 1, -1], [1, -1, -1, 0, 1], weights)
    terms, logits = TasksObjective()(model, batch), model(batch)
    for task in ("rating", "liked"):
        total, share = torch.zeros(()), 0.0
        for row, label in enumerate(batch.labels[task].tolist()):
            if label >= 0:
                weight = 1.0 if weights is None else weights[row]
                probability = model.head(task).probabilities(logits[task][row : row + 1])[0, label]
                total, share = total - weight * torch.log(probability), share + weight
        torch.testing.assert_close(terms[task], total / share)


def test_unlabelled_rows_change_no_gradient() -> None:
    gradients = []
    for batch in (tasks_batch([0, 3, 2], [1, 0, 1]), tasks_batch([0, 3, 2, -1, -1], [1, 0, 1, -1, -1])):
        model = tower_model()
        sum(TasksObjective()(model, batch).values()).backward()  # type: ignore[union-attr]
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    torch.testing.assert_close(gradients[0], gradients[1])


def test_a_task_without_labels_in_the_batch_has_no_term() -> None:
    assert set(TasksObjective()(tower_model(), tasks_batch([-1, -1], [1, 0]))) == {"liked"}
    assert TasksObjective()(tower_model(), tasks_batch([-1, -1], [-1, -1])) == {}


def test_rows_without_tags_or_number_change_no_gradient() -> None:
    """Their nonsense labels, NaN of a logarithm among them, would make every gradient NaN."""

    def model() -> TowerModel:
        with seeded_torch(0):
            tower = TableTower([FlaggedPart("n", 2)], layers=(4,), out_dim=3)
            price = RegressionHead(3, (), Scale(1.0, 2.0, "log"), "mse")
            heads = {"tags": MultilabelHead(3, (), 2), "price": price}
            return TowerModel({"table": tower}, {"table": "example"}, ConcatSpec().build({"table": 3}), heads)

    def batch(tags: list[list[int]], price: list[float]) -> Batch:
        labels = {"tags": torch.tensor(tags, dtype=torch.int8), "price": torch.tensor(price, dtype=torch.float64)}
        masks = {"tags": labels["tags"][:, 0] >= 0, "price": ~labels["price"].isnan()}
        return replace(tasks_batch([0] * len(tags), [0] * len(tags)), labels=labels, masks=masks)

    known = batch([[1, 0], [1, 1], [0, 0]], [3.0, 0.0, 8.0])
    more = batch([[1, 0], [1, 1], [0, 0], [-1, -1], [-1, -1]], [3.0, 0.0, 8.0, math.nan, math.nan])
    gradients = []
    for each in (known, more):
        trained = model()
        terms = TasksObjective()(trained, each)
        assert set(terms) == {"tags", "price"}
        sum(terms.values()).backward()  # type: ignore[union-attr]
        gradients.append({name: parameter.grad for name, parameter in trained.named_parameters()})
    assert all(bool((gradient != 0).any()) for gradient in gradients[0].values())  # type: ignore[union-attr]
    torch.testing.assert_close(gradients[0], gradients[1])


def test_a_batch_without_any_label_moves_nothing() -> None:
    model, balancer = tower_model(), UncertaintyBalanceSpec().build({"rating": 1.0, "liked": 1.0})
    parameters = [*model.parameters(), *balancer.parameters()]
    before = [parameter.detach().clone() for parameter in parameters]
    state = TrainState(model, TasksObjective(), balancer, None, RowAdam(parameters, lr=0.1))
    assert train_step(state, tasks_batch([-1, -1], [-1, -1])) == 0.0
    torch.testing.assert_close([parameter.detach() for parameter in parameters], before)
    train_step(state, tasks_batch([-1, -1], [1, 0]))
    assert balancer.log_variance["rating"].item() == 0.0  # a task that was not there is not called certain
    assert balancer.log_variance["liked"].item() != 0.0


# --- balance ------------------------------------------------------------------------------------------------------


def terms_of(parameter: nn.Parameter) -> dict[str, Tensor]:
    return {"a": parameter[0] ** 2, "b": 3.0 * parameter[1]}


def test_fixed_is_the_weighted_sum() -> None:
    parameter = nn.Parameter(torch.tensor([2.0, 5.0]))
    balancer = FixedBalanceSpec().build({"a": 0.5, "b": 2.0})
    assert balancer.backward(terms_of(parameter)) == 0.5 * 4 + 2 * 15
    assert parameter.grad is not None and parameter.grad.tolist() == [0.5 * 2 * 2, 2.0 * 3.0]
    assert list(balancer.parameters()) == []


def test_uncertainty_equals_its_formula() -> None:
    parameter = nn.Parameter(torch.tensor([2.0, 5.0]))
    balancer = UncertaintyBalanceSpec().build({"a": 0.5, "b": 2.0})
    start = {"a": 0.3, "b": -0.7}
    with torch.no_grad():
        for name, value in start.items():
            balancer.log_variance[name].fill_(value)
    total = balancer.backward(terms_of(parameter))
    weights, losses = {"a": 0.5, "b": 2.0}, {"a": 4.0, "b": 15.0}
    expected = sum(weights[t] * (math.exp(-start[t]) * losses[t] + start[t] / 2) for t in weights)
    assert total == pytest.approx(expected, rel=1e-6)
    for name in weights:
        gradient = balancer.log_variance[name].grad
        assert gradient is not None
        assert gradient.item() == pytest.approx(weights[name] * (0.5 - math.exp(-start[name]) * losses[name]), rel=1e-6)
    assert parameter.grad is not None
    expected_gradient = [0.5 * math.exp(-0.3) * 4.0, 2.0 * math.exp(0.7) * 3.0]
    assert parameter.grad.tolist() == pytest.approx(expected_gradient, rel=1e-6)


def test_uncertainty_settles_where_the_variance_is_twice_the_loss() -> None:
    balancer = UncertaintyBalanceSpec().build({"a": 1.0})
    for _ in range(400):
        balancer.zero_grad()
        balancer.backward({"a": torch.tensor(3.0)})
        with torch.no_grad():
            for log_variance in balancer.parameters():
                assert log_variance.grad is not None
                log_variance -= 0.2 * log_variance.grad
    assert math.exp(balancer.log_variance["a"].item()) == pytest.approx(6.0, rel=1e-3)


def test_a_term_that_nothing_can_lower_is_told_all_the_same() -> None:
    assert FixedBalanceSpec().build({"a": 2.0}).backward({"a": torch.tensor(3.0)}) == 6.0

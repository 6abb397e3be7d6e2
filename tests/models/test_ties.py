"""Towers that share their weights, and where text towers begin (`towerkit.models.ties`, `towerkit.towers.ties`, `.text`).

Pinned here:
- `of: candidate` is one set of weights: counted once, moved together, one after saving and loading;
- a query that never trained is answered from its text, by words that only documents taught;
- the gradient of the one set is the sum of those that both towers would have apart, against a few lines of reference;
- `of: NAME` in a tower model, for texts, pictures and vectors: one set of weights, stored once, and found again; `of: candidate`
  for pictures and vectors likewise; a tie that leads nowhere, on and on, or to another shape is refused;
- `start: spectral` begins at the texts that training rows point to, before the first step, and looks at no other;
- settings that would not share one meaning of a word are refused, naming it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from towerkit import api
from towerkit.core.errors import ShapeError, SpecError
from towerkit.core.spec import parse
from towerkit.data.batch import Bag
from towerkit.data.shop.pictures import png
from towerkit.features.encoded import encode
from towerkit.features.encoder import Encoder
from towerkit.models.answer import Retriever, TaskPredictor
from towerkit.models.tower_model import TowerModelSpec
from towerkit.objectives.tasks import TasksObjective
from towerkit.run import Run
from towerkit.run_writer import num_parameters
from towerkit.spec import ModelingSpec
from towerkit.towers import NgramsTower
from towerkit.trained import column_groups
from towerkit.training.state import seeded_torch

WORDS = {"kind": "hashed_ngrams", "buckets": 512, "longest": 1, "together": True}
QUERY = {"kind": "text", "columns": ["text"], "encoder": WORDS, "dim": 16, "of": "candidate"}
CANDIDATE = {"kind": "text", "columns": ["title", "text"], "encoder": WORDS, "dim": 16, "start": "spectral"}


def spec_of(query: dict[str, Any], candidate: dict[str, Any], **training: Any) -> dict[str, Any]:
    return {
        "model": {"kind": "two_tower", "query": query, "candidate": candidate, "match": {"kind": "cosine"}},
        "objective": {"loss": {"kind": "sampled_softmax", "temperature": 0.1}, "negatives": [{"kind": "in_batch"}]},
        "training": {
            "epochs": 1,
            "batch_size": 16,
            "optimizer": {"kind": "adam", "lr": 1e-6},
            "refit": False,
            **training,
        },
        "evaluation": {"k": [1, 5]},
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Forty documents of two rare words each; a query is one of the words of its document, so each has two queries."""
    documents = pa.table({"d": [f"d{n}" for n in range(40)], "title": [f"alpha{n}" for n in range(40)],
                          "text": [f"about beta{n} and more" for n in range(40)]})  # fmt: skip
    words = [f"{word}{n}" for n in range(40) for word in ("alpha", "beta", "about beta")]
    queries = pa.table({"q": [f"q{n}" for n in range(120)], "text": words})
    judged = pa.table({"q": queries.column("q"), "d": [f"d{n // 3}" for n in range(120)]})
    dataset = api.read(
        judged, query="q", candidate="d", entities={"q": queries, "d": documents},
        split={"kind": "grouped", "validation": 0.1, "test": 0.2},
    )  # fmt: skip
    wide = {"dim": 64}
    return api.fit(
        spec_of({**QUERY, **wide}, {**CANDIDATE, **wide}), dataset, run=tmp_path_factory.mktemp("run") / "run"
    )


def model_of(run: Run) -> Retriever:
    assert isinstance(run.model, Retriever)
    return run.model


def test_one_set_of_weights(run: Run) -> None:
    model = model_of(Run.load(run.path)).model
    query, candidate = (next(side.each())[1] for side in (model.query, model.candidate))
    assert query.table is candidate.table
    assert sum(parameter.numel() for parameter in model.parameters()) == 512 * 64 + 64 + 64


def test_a_query_that_never_trained_is_answered_from_its_text(run: Run) -> None:
    assert run.evaluation.protocol["unknown_queries"] == 0
    assert run.evaluation.metrics["recall@1"].low > 0.3  # chance is 1 in 40; some words share a bucket
    texts = {"q": ["new"], "text": ["beta7"]}
    assert run.recommend(rows=pa.table(texts), k=1).column("d").to_pylist() == ["d7"]
    by_title = run.recommend(rows=pa.table({"q": ["new"], "text": ["alpha9"]}), k=1)
    assert by_title.column("d").to_pylist() == ["d9"]


def test_without_its_text_it_is_not(run: Run) -> None:
    """The negative control: it is the text that answers, not the place of the query in a table."""
    blind = run.recommend(rows=pa.table({"q": [f"n{n}" for n in range(5)], "text": pa.nulls(5, pa.string())}), k=1)
    assert len(set(blind.column("d").to_pylist())) == 1


def test_random_start_knows_nothing_yet() -> None:
    documents = pa.table({"d": [f"d{n}" for n in range(30)], "text": [f"a{n} b{n}" for n in range(30)]})
    judged = pa.table({"q": [f"q{n}" for n in range(30)], "d": documents.column("d")})
    queries = pa.table({"q": judged.column("q"), "text": [f"a{n}" for n in range(30)]})
    dataset = api.read(
        judged, query="q", candidate="d", entities={"q": queries, "d": documents}, split={"kind": "grouped"}
    )
    own = {"kind": "text", "columns": ["text"], "encoder": WORDS, "dim": 16}
    tables = []
    for start in ("random", "spectral"):
        candidate = {**own, "start": start}
        retriever = model_of(api.fit(spec_of({**own, "of": "candidate"}, candidate, epochs=1), dataset))
        tables.append(next(retriever.model.candidate.each())[1].table)
    used = tables[1].abs().sum(dim=1) > 1e-3
    assert 40 <= used.sum() <= 48  # two words of each of the 24 documents in training, of which a few share a bucket
    assert (tables[0].abs().sum(dim=1) > 1e-3).all()
    assert not torch.equal(tables[0], tables[1])


@pytest.mark.parametrize(
    ("query", "candidate", "message"),
    [
        (QUERY, {"kind": "id", "dim": 16}, "'text' has the weights .* that side has 0"),
        (QUERY, {**CANDIDATE, "dim": 8}, "candidate side's 'text'.* dim 16 here and dim 8 there"),
        (QUERY, {**CANDIDATE, "encoder": {**WORDS, "buckets": 256}}, "buckets=256.* there"),
        ({**QUERY, "encoder": {**WORDS, "together": False}}, {**CANDIDATE, "encoder": {**WORDS, "together": False}},
         r"reads \['title', 'text'\], and reads \['text'\]: a word is another word in each column"),
        ({**QUERY, "of": "own"}, {**CANDIDATE, "of": "candidate", "start": "random"}, "belongs to a tower of the query side"),
        ({**QUERY, "start": "spectral"}, CANDIDATE, "Set start there"),
    ],
)  # fmt: skip
def test_refusals(query: dict[str, Any], candidate: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse(ModelingSpec, spec_of(query, candidate))


def test_a_tower_model_has_no_other_side() -> None:
    heads = {"liked": {"kind": "binary", "column": "liked"}}
    spec = {"model": {"kind": "tower_model", "towers": {"t": CANDIDATE}, "heads": heads}}
    with pytest.raises(SpecError, match="start: spectral in the tower 't' of a tower_model"):
        parse(ModelingSpec, spec)


def test_a_run_holds_the_shared_table_in_its_weights(run: Run, tmp_path: Path) -> None:
    before = run.recommend(rows=pa.table({"q": ["x"], "text": ["beta3"]}), k=5)
    again = Run.load(run.path).recommend(rows=pa.table({"q": ["x"], "text": ["beta3"]}), k=5)
    assert before == again


def bag(*rows: list[int]) -> Bag:
    """Rows of codes."""
    codes = torch.tensor([code for row in rows for code in row])
    offsets = torch.tensor([0, *np.cumsum([len(row) for row in rows])])
    return Bag(codes, offsets, torch.ones(len(codes)))


def test_the_gradients_of_both_add_up() -> None:
    """Against two tables of the same numbers, each with its own gradient."""
    with seeded_torch(0):
        one = NgramsTower("one", 6, 3, dropout=0.0, sparse_rows=False)
    table = one.table.detach()
    two = NgramsTower("two", 6, 3, dropout=0.0, sparse_rows=False, like=one)
    columns: dict[str, Any] = {"one": bag([0, 1], [2]), "two": bag([1], [1, 5])}
    (one(columns) * two(columns)).sum().backward()  # type: ignore[no-untyped-call]

    apart = [table.clone().requires_grad_() for _ in range(2)]
    chosen = [([0, 1], [2]), ([1], [1, 5])]
    sums = [torch.stack([rows[codes].sum(dim=0) for codes in own]) for rows, own in zip(apart, chosen, strict=True)]
    (torch.tanh(sums[0]) * torch.tanh(sums[1])).sum().backward()  # type: ignore[no-untyped-call]
    first, second = (rows.grad for rows in apart)
    assert first is not None and second is not None
    torch.testing.assert_close(one.table.grad, first + second)
    assert two.table.grad is one.table.grad


def people(rows: int = 240) -> dict[str, list[Any]]:
    """Two words, as pictures and vectors too, and whether they are the same one."""
    draw = np.random.default_rng(0)
    first = draw.integers(0, 8, rows)
    second = np.where(draw.random(rows) < 0.5, first, draw.integers(0, 8, rows))
    picture = [png(np.full((8, 8, 3), 30 * n, np.uint8)) for n in range(8)]
    return {
        "first": [f"word{n}" for n in first], "second": [f"word{n}" for n in second],
        "front": [picture[n] for n in first], "back": [picture[n] for n in second],
        "here": np.eye(8)[first].tolist(), "there": np.eye(8)[second].tolist(), "narrow": [[1.0, 2.0]] * rows,
        "same": [int(a == b) for a, b in zip(first, second, strict=True)],
    }  # fmt: skip


TEXT: dict[str, Any] = {"kind": "text", "encoder": {"kind": "hashed_ngrams", "buckets": 64, "longest": 1}, "dim": 8}
IN_ORDER: dict[str, Any] = {"kind": "text", "encoder": {"kind": "convolution", "buckets": 64, "channels": 8}, "dim": 8}
PICTURE: dict[str, Any] = {"kind": "image", "size": 8, "encoder": {"kind": "convolution", "channels": [4]}, "dim": 8}
VECTOR: dict[str, Any] = {"kind": "vector", "dim": 8}
PAIRS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "bag": ({**TEXT, "columns": ["first"]}, {**TEXT, "columns": ["second"]}),
    "words": ({**IN_ORDER, "columns": ["first"]}, {**IN_ORDER, "columns": ["second"]}),
    "image": ({**PICTURE, "column": "front"}, {**PICTURE, "column": "back"}),
    "vector": ({**VECTOR, "columns": ["here"]}, {**VECTOR, "columns": ["there"]}),
}
SAME = {"same": {"kind": "binary", "column": "same"}}


def tied_model(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    towers = {"one": one, "other": {**other, "of": "one"}}
    return {"kind": "tower_model", "towers": towers, "backbone": {"kind": "product"}, "heads": SAME}


def predictor_of(run: Run) -> TaskPredictor:
    assert isinstance(run.model, TaskPredictor)
    return run.model


def stored_names(path: Path) -> list[str]:
    """The tensors of a safetensors file that have bytes of their own."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    return [name for name in json.loads(content[8 : 8 + size]) if name != "__metadata__"]


@pytest.mark.parametrize("kind", PAIRS)
def test_a_tower_model_with_one_set_of_weights(kind: str, tmp_path: Path) -> None:
    dataset = api.read(pa.table(people()))
    spec = {"model": tied_model(*PAIRS[kind]), "training": {"epochs": 2, "batch_size": 64}}
    run = api.fit(spec, dataset, run=tmp_path / "run")
    loaded = Run.load(run.path)
    weights = predictor_of(loaded).model.state_dict()
    shared = [name for name in weights if name.startswith("towers.other.")]
    assert shared
    assert all(weights[n].data_ptr() == weights[n.replace("other", "one")].data_ptr() for n in shared)
    own = {name: tensor for name, tensor in weights.items() if name not in shared}
    assert num_parameters(predictor_of(loaded)) == sum(tensor.numel() for tensor in own.values())
    assert len(stored_names(run.path / "model" / "weights.safetensors")) == len(own)
    before = predictor_of(run).model.state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights.items())
    assert loaded.predict(pa.table(people(3)).drop_columns(["same"])).num_rows == 3


def test_a_step_of_a_tower_model_is_the_sum_of_both(tmp_path: Path) -> None:
    """Against two towers that have the same numbers, each for itself."""
    dataset = api.read(pa.table(people()))
    spec = parse(TowerModelSpec, tied_model(*PAIRS["bag"]))
    towers = {name: tower.model_copy(update={"of": "own"}) for name, tower in spec.towers.items()}
    apart = spec.model_copy(update={"towers": towers})
    rows = dataset.parts.train
    encoder = Encoder.fit(spec.demand(dataset), dataset, rows)
    batch = encode(encoder, dataset, rows).batch(rows[:64])
    with seeded_torch(0):
        tied, free = spec.build(encoder), apart.build(encoder)
    free.load_state_dict(tied.state_dict())
    for model in (tied, free):
        TasksObjective()(model, batch)["same"].backward()  # type: ignore[no-untyped-call]
    grads = [dict(model.named_parameters())[f"towers.{name}.table"].grad
             for model, name in ((tied, "one"), (free, "one"), (free, "other"))]  # fmt: skip
    together, first, second = (grad for grad in grads if grad is not None)
    assert first.abs().sum() > 0 and second.abs().sum() > 0
    torch.testing.assert_close(together, first + second)


@pytest.mark.parametrize("kind", ["image", "vector"])
def test_both_sides_of_a_two_tower_with_one_set_of_weights(kind: str, tmp_path: Path) -> None:
    told = people(40)
    items = {"item": [f"i{n}" for n in range(40)], "front": told["front"], "here": told["here"]}
    users = {"user": [f"u{n}" for n in range(40)], "back": told["back"], "there": told["there"]}
    draw = np.random.default_rng(1)
    pairs = {"user": [f"u{n % 40}" for n in range(200)], "item": [f"i{n}" for n in draw.integers(0, 40, 200)]}
    entities = {"user": pa.table(users), "item": pa.table(items)}
    dataset = api.read(pairs, query="user", candidate="item", entities=entities, split={"kind": "random"})
    candidate, query = PAIRS[kind]
    run = api.fit(spec_of({**query, "of": "candidate"}, candidate), dataset, run=tmp_path / "run")
    model = model_of(Run.load(run.path)).model
    sides = ([tensor.data_ptr() for tensor in side.parameters()] for side in (model.query, model.candidate))
    ours, theirs = sides
    assert ours and ours == theirs


@pytest.mark.parametrize(
    ("towers", "message"),
    [
        ({"a": {**TEXT, "columns": ["first"], "of": "b"}}, "no other tower of that name"),
        ({"headline": {**TEXT, "columns": ["first"]}, "b": {**TEXT, "columns": ["second"], "of": "headlines"}}, "mean 'headline'"),
        ({"a": {**TEXT, "columns": ["first"], "of": "a"}, "b": {**TEXT, "columns": ["second"]}}, "no other tower"),
        ({"a": {**TEXT, "columns": ["first"], "of": "b"}, "b": {**TEXT, "columns": ["second"], "of": "c"},
          "c": {**TEXT, "columns": ["second"]}}, "which has those of 'c'. Name 'c'"),
        ({"a": {**TEXT, "columns": ["first"], "of": "b"}, "b": {**TEXT, "columns": ["second"], "dim": 4}},
         "dim 8 here and dim 4 there"),
        ({"a": {**TEXT, "columns": ["first"], "of": "b"}, "b": {**PICTURE, "column": "front"}},
         "'a' is of the kind text and has the weights of 'b', of the kind image"),
        ({"a": {**TEXT, "columns": ["first", "second"], "of": "b"}, "b": {**TEXT, "columns": ["second"]}},
         "unless encoder.together is true"),
    ],
    ids=["no such", "misspelt", "itself", "chain", "width", "kind", "words"],
)  # fmt: skip
def test_ties_that_lead_nowhere_are_refused(towers: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse(ModelingSpec, {"model": {"kind": "tower_model", "towers": towers, "heads": SAME}})


def test_a_tie_is_no_column(tmp_path: Path) -> None:
    """A tower may be called like a column; the towers tied to it do not read that column."""
    (one, other), dataset = PAIRS["bag"], api.read(pa.table(people()))
    model = {"kind": "tower_model", "towers": {"first": one, "other": {**other, "of": "first"}}, "heads": SAME}
    run = api.fit({"model": model, "training": {"epochs": 1}}, dataset, run=tmp_path / "run")
    assert column_groups(predictor_of(run)) == {"first": ("first",), "other": ("second",)}


def test_vectors_of_another_width_are_refused() -> None:
    towers = {"a": {"kind": "vector", "columns": ["here"]}, "b": {"kind": "vector", "columns": ["narrow"], "of": "a"}}
    model = {"kind": "tower_model", "towers": towers, "heads": SAME}
    with pytest.raises(ShapeError, match=r"\['narrow'\] hold 2 numbers .* reads 8"):
        api.fit({"model": model, "training": {"epochs": 1}}, api.read(pa.table(people())))


def test_a_two_tower_knows_one_other_tower() -> None:
    with pytest.raises(SpecError, match="received of: candidte; did you mean 'candidate'"):
        parse(ModelingSpec, spec_of({**QUERY, "of": "candidte"}, CANDIDATE))

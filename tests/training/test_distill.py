"""A two-tower that learns from a trained Run beside its positives (`training.distill`).

Pinned here:
- the distance of two soft rankings and its gradient are those of a few lines, over the candidates that the teacher knows;
- each kind of Run that ranks teaches by its own scores, matched by key; what it does not know is left out;
- the term of a batch is that distance over evenly chosen candidates, times its weight beside the loss of the positives;
- a student of a teacher that knows more ranks better than the same student without (in a planted world, and on the shop);
- what cannot teach is refused by name.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import towerkit as tk
from towerkit.core.errors import RunError, SpecError
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset, read_dataset
from towerkit.evaluation.compare import compare
from towerkit.models.answer import Retriever
from towerkit.objectives.distillation import evenly, soft_distance
from towerkit.outcomes.recipes import recipe_of
from towerkit.outcomes.teachers import open_teacher
from towerkit.run import Run
from towerkit.run_writer import train_run
from towerkit.spec import ModelingSpec, load_spec
from towerkit.training.distill_spec import DistillSpec
from towerkit.training.progress import Silent
from towerkit.training.state import seeded_torch


def plain(student: list[float], teacher: list[float], temperature: float) -> float:
    known = [place for place, each in enumerate(teacher) if not math.isnan(each)]
    if len(known) < 2:
        return 0.0

    def soft(logits: list[float]) -> list[float]:
        exps = [math.exp(logits[place] / temperature) for place in known]
        return [each / sum(exps) for each in exps]

    pairs = zip(soft(teacher), soft(student), strict=True)
    return temperature**2 * sum(p * (math.log(p) - math.log(q)) for p, q in pairs)


LOGIT = st.floats(-4, 4, width=32)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(
        st.lists(st.tuples(LOGIT, st.one_of(LOGIT, st.just(math.nan))), min_size=3, max_size=3), min_size=1, max_size=4
    ),
    temperature=st.floats(0.5, 5.0),
)
def test_the_distance_and_its_gradient_are_those_of_a_few_lines(rows: list[Any], temperature: float) -> None:
    student = torch.tensor([[s for s, _ in row] for row in rows], dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([[t for _, t in row] for row in rows], dtype=torch.float64)
    found = soft_distance(student, teacher, temperature)
    for value, row in zip(found.tolist(), rows, strict=True):
        assert value == pytest.approx(plain([s for s, _ in row], [t for _, t in row], temperature), abs=1e-9)
    found.sum().backward()
    assert student.grad is not None
    step = 1e-5
    for r, row in enumerate(rows):
        for c in range(3):
            ends = []
            for sign in (1, -1):
                moved = [s + sign * step * (place == c) for place, (s, _) in enumerate(row)]
                ends.append(plain(moved, [t for _, t in row], temperature))
            assert float(student.grad[r, c]) == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-5)


def test_candidates_are_chosen_evenly() -> None:
    assert evenly(5, 100).tolist() == [0, 1, 2, 3, 4]
    chosen = evenly(1000, 64)
    assert len(set(chosen.tolist())) == 64 and np.diff(chosen).max() <= 16


TASTES = 3


def world(seed: int = 0, per_user: int = 4) -> Dataset:
    """Thirty people and thirty things of three tastes; who has a taste is written on both."""
    draw = np.random.default_rng(seed)
    rows = [
        (u, int(i))
        for u in range(60)
        for i in draw.permutation([n for n in range(45) if n % TASTES == u % TASTES])[:per_user]
    ]
    about = {
        "user": {"user": [f"u{u}" for u in range(60)], "taste": [f"t{u % TASTES}" for u in range(60)]},
        "item": {"item": [f"i{i}" for i in range(45)], "sort": [f"s{i % TASTES}" for i in range(45)]},
    }
    table = {"user": [f"u{u}" for u, _ in rows], "item": [f"i{i}" for _, i in rows]}
    return tk.read(
        table,
        query="user",
        candidate="item",
        entities=about,
        split={"kind": "per_query", "validation": 0.0, "test": 0.5},
    )


def spec(model: dict[str, Any], epochs: int = 10, **training: Any) -> dict[str, Any]:
    fit = {"epochs": epochs, "batch_size": 32, "optimizer": {"kind": "adam", "lr": 0.03}, "seed": 1}
    return {"model": model, "training": fit | training, "evaluation": {"k": [5], "baselines": [{"kind": "popularity"}]}}


IDS = {"kind": "two_tower", "query": {"kind": "id", "dim": 8}, "candidate": {"kind": "id", "dim": 8}}
RANKER = {
    "kind": "ranker",
    "towers": {
        "taste": {"kind": "table", "entity": "user", "columns": ["taste"], "layers": [], "dim": 4},
        "sort": {"kind": "table", "entity": "item", "columns": ["sort"], "layers": [], "dim": 4},
    },
    "backbone": {"kind": "cross", "dim": 16},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("teachers")
    two_tower = tk.fit(spec(IDS, epochs=3), world(), run=folder / "two_tower")
    ranker = tk.fit(spec(RANKER, epochs=30), world(), run=folder / "ranker")
    members = {"one": IDS, "two": {**IDS, "match": {"kind": "euclidean"}}}
    fused = {"kind": "late_fusion", "members": members, "combine": {"kind": "rrf"}}
    return {
        "two_tower": two_tower,
        "ranker": ranker,
        "late_fusion": tk.fit(spec(fused, epochs=1), world(), run=folder / "fused"),
    }


@pytest.mark.parametrize("kind", ["two_tower", "ranker", "late_fusion"])
def test_a_run_teaches_by_its_own_scores(runs: dict[str, Run], kind: str) -> None:
    run = runs[kind]
    opened = open_teacher(DistillSpec(path=str(run.path)))
    student = runs["two_tower"].model
    assert isinstance(student, Retriever)
    teacher = opened.bound(student.query, student.candidate)
    places = [3, 7, 0], [5, 1, 9, 0]
    found = teacher.logits(*(np.array(each) for each in places))
    keys = [
        [None if place == 0 else each.keys[place - 1].as_py() for place in own]
        for each, own in zip((student.query, student.candidate), places, strict=True)
    ]
    for r, query in enumerate(keys[0]):
        for c, candidate in enumerate(keys[1]):
            if query is None or candidate is None:
                assert math.isnan(found[r, c])
                continue
            said = run.predict({"user": [query], "item": [candidate]})["score"][0].as_py()
            assert found[r, c] == pytest.approx(said, rel=1e-4, abs=1e-5)


def test_the_term_of_a_batch_is_the_distance_over_its_candidates(runs: dict[str, Run]) -> None:
    own = {"path": str(runs["ranker"].path), "weight": 0.5, "temperature": 1.5, "candidates": 6}
    asked, data = parse(ModelingSpec, spec(IDS, distill=own), "test"), world()
    recipe: Any = recipe_of(asked, data)
    with seeded_torch(0):
        prepared = recipe.prepare(data, data.parts.train, asked.training)
    batch = prepared.encoded.batch(data.parts.train[:20])
    state, model = prepared.state, prepared.state.model
    terms = state.objective(model, batch)
    assert set(terms) == {"retrieval", "distill"}
    query, candidate = (each.vectors for each in model(batch))
    teacher = recipe.teacher(prepared.encoded.catalogues["user"], prepared.encoded.catalogues["item"])
    chosen = evenly(len(candidate), 6)
    logits = teacher.logits(batch.rows["user"].numpy(), batch.rows["item"].numpy()[chosen])
    each = [
        plain(row, told, 1.5) for row, told in zip((query @ candidate[chosen].T).tolist(), logits.tolist(), strict=True)
    ]
    wanted = np.mean([each[place] for place in batch.index["user"].tolist()])
    assert terms["distill"].item() == pytest.approx(wanted, rel=1e-4) and wanted > 0
    total = state.balancer.backward(terms)
    assert total == pytest.approx(terms["retrieval"].item() + 0.5 * wanted, rel=1e-5)


def test_a_student_of_a_teacher_that_knows_more_ranks_better(runs: dict[str, Run], tmp_path: Path) -> None:
    own = {"path": str(runs["ranker"].path), "weight": 4.0, "temperature": 2.0}
    alone = tk.fit(spec(IDS), world(), run=tmp_path / "alone")
    taught = tk.fit(spec(IDS, distill=own), world(), run=tmp_path / "taught")
    pair = compare(alone.evaluation, taught.evaluation)["recall@5"]
    assert pair.low > 0.05, pair
    assert runs["ranker"].evaluation.metrics["recall@5"].value > alone.evaluation.metrics["recall@5"].value


def test_what_cannot_teach_is_refused(runs: dict[str, Run], tmp_path: Path) -> None:
    own = {"path": str(runs["ranker"].path)}
    with pytest.raises(SpecError, match=r"'training\.distill' teaches a two_tower .* the model is a ranker"):
        parse(ModelingSpec, spec(RANKER, distill=own), "test")
    with pytest.raises(SpecError, match=r"engine: compiled.*training\.distill"):
        parse(ModelingSpec, spec(IDS, distill=own, engine="compiled"), "test")
    others = tk.read(
        {"user": [f"x{n}" for n in range(9)] * 3, "item": [f"y{n % 12}" for n in range(27)]},
        query="user",
        candidate="item",
        duplicates="first",
        split={"kind": "random", "validation": 0.2, "test": 0.2},
    )
    with pytest.raises(RunError, match=r"knows 0 of the 9 queries and 0 of the \d+ candidates"):
        tk.fit(spec(IDS, distill=own), others, run=tmp_path / "x")
    table = {
        "kind": "tower_model",
        "towers": {"t": {"kind": "table", "columns": ["a"]}},
        "heads": {"b": {"kind": "binary", "column": "b"}},
    }
    rows = tk.read({"a": list(range(40)), "b": [0, 1] * 20})
    predicts = tk.fit({"model": table, "training": {"epochs": 1}}, rows, run=tmp_path / "predicts")
    with pytest.raises(RunError, match="is a tower_model that scores no pairs"):
        tk.fit(spec(IDS, distill={"path": str(predicts.path)}), world(), run=tmp_path / "y")


@pytest.mark.long
def test_on_the_shop_a_distilled_student_is_better(tmp_path: Path) -> None:
    path = Path(__file__).parents[2] / "examples" / "shop_ranker.yaml"
    ranker = load_spec(path).model_dump(mode="json")["model"]["members"]["ranker"]
    student = {"kind": "two_tower", "query": {"kind": "id", "dim": 32}, "candidate": {"kind": "id", "dim": 32}}
    whole = load_spec(path)
    data = read_dataset(whole.data, base=path.parent, seed=0)

    def trained(name: str, model: dict[str, Any], **training: Any) -> Run:
        asked = whole.model_dump(mode="json") | {"model": model}
        asked["training"] |= training
        return train_run(tmp_path / name, parse(type(whole), asked, name), data, Silent())[0]

    teacher = trained("teacher", ranker)
    alone = trained("alone", student)
    taught = trained("taught", student, distill={"path": str(teacher.path), "weight": 1.0})
    pair = compare(alone.evaluation, taught.evaluation)["ndcg@20"]
    assert pair.low > 0, pair  # measured: +0.0126 [0.0016, 0.0240]

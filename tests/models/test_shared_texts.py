"""Text towers that share their weights, and where they begin (`towerkit.models.shared_texts`, `towerkit.towers.text`).

Pinned here:
- `of: candidate` is one set of weights: counted once, moved together, one after saving and loading;
- a query that never trained is answered from its text, by words that only documents taught;
- `start: spectral` begins at the texts that training rows point to, before the first step, and looks at no other;
- settings that would not share one meaning of a word are refused, naming it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from towerkit import api
from towerkit.core.errors import SpecError
from towerkit.core.spec import parse
from towerkit.models.answer import Retriever
from towerkit.run import Run
from towerkit.spec import ModelingSpec

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
        (QUERY, {**CANDIDATE, "dim": 8}, "dim 16 here and .* dim 8 there"),
        (QUERY, {**CANDIDATE, "encoder": {**WORDS, "buckets": 256}}, "buckets=256.* there"),
        ({**QUERY, "encoder": {**WORDS, "together": False}}, {**CANDIDATE, "encoder": {**WORDS, "together": False}},
         r"reads \['title', 'text'\]: a word is another word in each column"),
        ({**QUERY, "of": "own"}, {**CANDIDATE, "of": "candidate", "start": "random"}, "belongs to a text tower of the query side"),
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

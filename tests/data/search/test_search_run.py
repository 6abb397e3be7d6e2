"""A search collection through the whole path: train, graded evaluation, new judgements, answers (`data.collection`).

Pinned here:
- every document is a candidate, and no test query is unknown;
- NDCG takes the grades: the order of two relevant documents counts where their grades differ;
- `evaluate` reads new judgements in the format of the collection, by the grades of the training;
- Cranfield's judgements are graded as its readme says, and BM25 finds far more than chance there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from towerkit import api
from towerkit.core.errors import DataError
from towerkit.run import Run

WORDS = {"kind": "hashed_ngrams", "buckets": 4096, "longest": 1, "together": True}
MODEL = {
    "kind": "two_tower",
    "query": {"kind": "text", "columns": ["text"], "encoder": WORDS, "dim": 32, "of": "candidate"},
    "candidate": {"kind": "text", "columns": ["title", "text"], "encoder": WORDS, "dim": 32, "start": "spectral"},
    "match": {"kind": "cosine"},
}
TRAINING = {"epochs": 1, "batch_size": 32, "optimizer": {"kind": "adam", "lr": 1e-6}}


def write(folder: Path) -> None:
    """Thirty documents of three words; a query has two of the first and one of the second document that are judged."""
    documents = [{"_id": f"d{n}", "title": f"a{n}", "text": f"b{n} c{n}"} for n in range(30)]
    queries = [{"_id": f"q{n}", "text": f"a{n} b{n} c{(n + 1) % 30}"} for n in range(30)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(each) + "\n" for each in documents))
    (folder / "queries.jsonl").write_text("".join(json.dumps(each) + "\n" for each in queries))
    (folder / "qrels").mkdir()
    judged = "".join(f"q{n}\td{n}\tbest\nq{n}\td{(n + 1) % 30}\tgood\nq{n}\td{(n + 2) % 30}\tno\n" for n in range(30))
    (folder / "qrels" / "train.tsv").write_text(judged)


def spec_of(folder: Path, grades: dict[str, float]) -> dict[str, Any]:
    collection = {"format": "beir", "path": str(folder), "grades": grades}
    split = {"kind": "grouped", "validation": 0.2, "test": 0.4}
    words = {"kind": "bm25", "query": ["text"], "candidate": ["title", "text"]}
    evaluation = {"k": [1, 2, 30], "baselines": [words]}
    return {
        "data": {"collection": collection, "split": split},
        "model": MODEL,
        "training": TRAINING,
        "evaluation": evaluation,
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("collection")
    write(made)
    return made


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return api.fit(spec_of(folder, {"best": 3, "good": 1, "no": 0}), run=folder / "run")


def test_protocol(run: Run) -> None:
    protocol = run.evaluation.protocol
    assert protocol["candidates"] == 30
    assert protocol["unknown_queries"] == 0
    assert protocol["queries"] == 12
    assert protocol["positives"] == 24
    assert protocol["gain"] == "linear"
    assert protocol["split"]["grades"] == {"best": 3.0, "good": 1.0, "no": 0.0}
    assert protocol["split"]["left_out"] == {"not_relevant": 30}


def test_grades_decide_the_order(run: Run, folder: Path) -> None:
    right = run.baselines["bm25"].metrics  # two words of the best document, one of the good one
    assert right["ndcg@2"].value == pytest.approx(1.0)
    assert right["recall@2"].value == 1.0
    turned = api.fit(spec_of(folder, {"best": 1, "good": 3, "no": 0})).baselines["bm25"].metrics
    # the ideal is 3 + 1 / log2(3), what is found 1 + 3 / log2(3)
    assert turned["ndcg@2"].value == pytest.approx((1 + 3 / 1.584962500721156) / (3 + 1 / 1.584962500721156))
    assert turned["recall@2"].value == 1.0


def test_new_judgements_in_the_same_format(run: Run, folder: Path) -> None:
    (folder / "new.tsv").write_text("query-id\tcorpus-id\tscore\nq0\td0\tbest\nq0\td5\tno\nq1\td7\tgood\n")
    found = Run.load(run.path).evaluate(str(folder / "new.tsv"))
    assert found.protocol["split"]["left_out"] == {"not_relevant": 1}
    assert found.protocol["positives"] + found.protocol["repeats_left_out"] == 2
    (folder / "odd.tsv").write_text("q0\td0\tbetter\n")
    with pytest.raises(DataError, match=r"odd.tsv, line 1: the column 'relevance' holds 'better', which has no grade"):
        run.evaluate(folder / "odd.tsv")


def test_cranfield(data_root: Path) -> None:
    files = {"documents": "cran.all.1400", "queries": "cran.qry", "qrels": "cranqrel"}
    collection = {"format": "smart", "queries_by": "position", "grades": {1: 4, 2: 3, 3: 2, 4: 1, -1: 0}}
    collection |= {part: str(data_root / "ir-cranfield" / name) for part, name in files.items()}
    spec = {
        "data": {"collection": collection, "split": {"kind": "grouped", "validation": 0.1, "test": 0.4}},
        "model": MODEL,
        "training": TRAINING,
        "evaluation": {"k": [10, 100], "baselines": ["bm25", "popularity"]},
    }
    run = api.fit(spec)
    assert run.evaluation.protocol["queries"] == 90
    assert run.evaluation.protocol["candidates"] == 1400
    assert run.evaluation.protocol["gain"] == "linear"
    assert run.baselines["bm25"].metrics["ndcg@10"].low > 0.3
    assert run.baselines["popularity"].metrics["ndcg@10"].high < 0.1
    assert run.evaluation.metrics["ndcg@10"].low > 0.1

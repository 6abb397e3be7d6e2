"""Whole search collections as data sets (`towerkit.data.search.collection`, `data.collection`).

Pinned here:
- the four formats give one data set: entity tables `query` and `document`, judged pairs, a split by query;
- a spec with a collection is stored with its examples written out, and reads back the same;
- judgements of unknown queries and documents are left out, counted and told; where nothing fits, that is refused;
- queries that share a relevant document have one topic, so that a split by topic parts no document's queries;
- title queries are learned from and never held out;
- the public collections, where they lie beside the checkout, read to their published sizes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from towerkit.core.errors import DataError, SpecError
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset, read_dataset
from towerkit.data.spec import DataSpec

QUERIES, DOCUMENTS = 12, 20


def write_beir(folder: Path) -> None:
    (folder / "qrels").mkdir()
    documents = [
        {"_id": f"d{n}", "title": f"title {n}", "text": f"word{n} and more", "metadata": {}} for n in range(DOCUMENTS)
    ]
    queries = [{"_id": f"q{n}", "text": f"about word{n}", "metadata": {"url": "x"}} for n in range(QUERIES)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(each) + "\n" for each in documents))
    (folder / "queries.jsonl").write_text("".join(json.dumps(each) + "\n" for each in queries))
    lines = [f"q{n}\td{n}\t2\nq{n}\td{n + 1}\t{n % 2}\n" for n in range(QUERIES)]
    (folder / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines[:9]))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines[9:]))


def dataset_of(folder: Path, collection: dict[str, Any], **others: Any) -> Dataset:
    return read_dataset(parse(DataSpec, {"collection": collection, **others}), base=folder)


def pairs(dataset: Dataset, rows: Any) -> set[tuple[str, str]]:
    taken = dataset.examples.data.take(rows).to_pylist()
    return {(row["query"], row["document"]) for row in taken}


def test_beir_folder(tmp_path: Path) -> None:
    write_beir(tmp_path)
    dataset = dataset_of(tmp_path, {"format": "beir", "path": "."})
    assert dataset.roles.query == "query"
    assert dataset.roles.candidate == "document"
    assert dataset.entities["query"].table.data.num_rows == QUERIES
    assert dataset.entities["document"].title == "title"
    assert dataset.split["kind"] == "grouped"
    sides = [{query for query, _ in pairs(dataset, rows)} for rows in vars(dataset.parts).values()]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert dataset.grades is not None
    assert set(dataset.grades) == {0.0, 1.0, 2.0}


def test_a_test_part_given_apart(tmp_path: Path) -> None:
    write_beir(tmp_path)
    dataset = dataset_of(tmp_path, {"format": "beir", "path": "."}, test={"path": "qrels/test.tsv"})
    assert {query for query, _ in pairs(dataset, dataset.parts.test)} == {"q9", "q10", "q11"}
    assert dataset.split["test"] == "given"


def test_all_formats_give_one_data_set(tmp_path: Path) -> None:
    write_beir(tmp_path)
    beir = dataset_of(tmp_path, {"format": "beir", "path": "."})
    documents, queries = (beir.entities[name].table.data.to_pylist() for name in ("document", "query"))
    judged = beir.examples.data.to_pylist()
    files = {
        "docs.trec": "".join(
            f"<DOC><DOCNO>{row['document']}</DOCNO><TITLE>{row['title']}</TITLE><TEXT>{row['text']}</TEXT></DOC>\n"
            for row in documents
        ),
        "topics.trec": "".join(
            f"<top><num>{row['query']}</num><title>{row['text']}</title></top>\n" for row in queries
        ),
        "qrels.trec": "".join(f"{row['query']} 0 {row['document']} {row['relevance']}\n" for row in judged),
        "docs.smart": "".join(f".I {row['document']}\n.T\n{row['title']}\n.W\n{row['text']}\n" for row in documents),
        "queries.smart": "".join(f".I {900 + place}\n.W\n{row['text']}\n" for place, row in enumerate(queries)),
        "qrels.smart": "".join(
            f"{int(row['query'][1:]) + 1} {row['document']} {5 - row['relevance']}\n" for row in judged
        ),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    trec = dataset_of(
        tmp_path, {"format": "trec", "documents": "docs.trec", "queries": "topics.trec", "qrels": "qrels.trec"}
    )
    smart = dataset_of(
        tmp_path,
        {"format": "smart", "documents": "docs.smart", "queries": "queries.smart", "qrels": "qrels.smart",
         "queries_by": "position", "grades": {3: 2, 4: 1, 5: 0}},
    )  # fmt: skip
    for other in (trec, smart):
        assert other.grades is not None
        assert beir.grades is not None
        assert other.grades.tolist() == beir.grades.tolist()
        assert other.examples.data.column("document") == beir.examples.data.column("document")
        assert other.entities["document"].table.data.select(["document", "title", "text"]) == (
            beir.entities["document"].table.data.select(["document", "title", "text"])
        )
        assert other.entities["query"].table.data.column("text") == beir.entities["query"].table.data.column("text")
        assert {name: rows.tolist() for name, rows in vars(other.parts).items()} == {
            name: rows.tolist() for name, rows in vars(beir.parts).items()
        } or other is smart  # which calls the queries otherwise, so that its split draws others
    assert smart.entities["query"].table.data.column("id").to_pylist()[0] == "900"
    assert smart.examples.data.column("query").to_pylist()[0] == "1"


def test_the_stored_spec_reads_back(tmp_path: Path) -> None:
    spec = parse(
        DataSpec, {"collection": {"format": "beir", "path": "x", "grades": {"1": 2}}, "test": {"path": "t.tsv"}}
    )
    assert spec.examples.path == "x/qrels/train.tsv"
    assert (spec.examples.query, spec.examples.candidate, spec.examples.relevance) == ("query", "document", "relevance")
    assert parse(DataSpec, spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"collection": {"format": "smart", "path": "x"}}, "only format: beir .* received path 'x' with format: smart"),
        ({"collection": {"format": "trec", "documents": "d", "queries": "q"}}, "format: trec needs qrels"),
        ({"collection": {"format": "scifact", "documents": "d", "queries": "q", "qrels": "r"}}, "received qrels 'r'"),
        ({"collection": {"format": "beir", "path": "x"}, "examples": {"path": "y"}}, "'x/qrels/train.tsv'; received 'y'"),
        ({"collection": {"format": "beir", "path": "x"}, "entities": {"query": {"path": "y"}}}, "received entities 'query'"),
        ({"collection": {"format": "bier", "path": "x"}}, "bier"),
        ({"collection": {"format": "beir", "path": "x", "grades": {"1": -2}}}, "-2"),
    ],
)  # fmt: skip
def test_specs_that_are_none(data: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse(DataSpec, data)


def test_judgements_of_what_is_not_there(tmp_path: Path) -> None:
    write_beir(tmp_path)
    with (tmp_path / "qrels" / "train.tsv").open("a") as stream:
        stream.write("q0\tnowhere\t1\nnobody\td1\t1\n")
    dataset = dataset_of(tmp_path, {"format": "beir", "path": "."})
    assert dataset.split["warnings"] == [
        "1 of 20 judgements are of a query that ./queries.jsonl lacks, and are left out; the first of 'nobody' in "
        "./qrels/train.tsv, line 21",
        "1 of 19 judgements are of a document that ./corpus.jsonl lacks, and are left out; the first of 'nowhere' in "
        "./qrels/train.tsv, row 19",
    ]
    assert dataset.examples.data.num_rows == 18


def test_files_of_two_collections(tmp_path: Path) -> None:
    write_beir(tmp_path)
    (tmp_path / "qrels" / "train.tsv").write_text("1\td1\t1\n")
    with pytest.raises(
        DataError, match=r"train.tsv, line 1: none of the 1 judgements is of a query .* '1', .* is 'q0'"
    ):
        dataset_of(tmp_path, {"format": "beir", "path": "."})


def test_topics_join_queries_of_one_document(tmp_path: Path) -> None:
    write_beir(tmp_path)
    dataset = dataset_of(
        tmp_path,
        {"format": "beir", "path": "."},
        split={"kind": "grouped", "column": "topic", "validation": 0.2, "test": 0.2},
    )
    # q{n} has d{n}, and with odd n d{n + 1} too (grade 1), which joins it to q{n + 1}; grade 0 joins nothing
    topics = dict(zip(*(dataset.examples.data.column(name).to_pylist() for name in ("query", "topic")), strict=True))
    assert [topics[f"q{n}"] == topics[f"q{n + 1}"] for n in range(8)] == [n % 2 == 1 for n in range(8)]
    learned, held = (pairs(dataset, rows) for rows in (dataset.parts.train, dataset.parts.test))
    assert held
    assert not {document for _, document in learned} & {document for _, document in held}


def test_title_queries_are_learned_from_and_never_held_out(tmp_path: Path) -> None:
    write_beir(tmp_path)
    plain = dataset_of(tmp_path, {"format": "beir", "path": "."})
    dataset = dataset_of(tmp_path, {"format": "beir", "path": ".", "titles": True})
    added = {(f"title of d{n}", f"d{n}") for n in range(DOCUMENTS)}
    assert pairs(dataset, dataset.parts.train) == pairs(plain, plain.parts.train) | added
    assert pairs(dataset, dataset.parts.validation) == pairs(plain, plain.parts.validation)
    assert pairs(dataset, dataset.parts.test) == pairs(plain, plain.parts.test)
    assert pairs(dataset, dataset.for_refit().parts.test) == pairs(plain, plain.parts.test)
    assert dataset.grades is not None
    assert (dataset.grades[-DOCUMENTS:] == 1).all()
    texts = dict(
        zip(*(dataset.entities["query"].table.data.column(name).to_pylist() for name in ("query", "text")), strict=True)
    )
    assert texts["title of d3"] == "title 3"
    assert dataset.split["learned"] == {"the titles in ./corpus.jsonl": DOCUMENTS}


CRANFIELD = {"format": "smart", "documents": "cran.all.1400", "queries": "cran.qry", "qrels": "cranqrel",
             "queries_by": "position", "grades": {1: 4, 2: 3, 3: 2, 4: 1, -1: 0}}  # fmt: skip
CISI = {"format": "smart", "documents": "CISI.ALL", "queries": "CISI.QRY", "qrels": "CISI.REL"}
SCIFACT = {"format": "scifact", "documents": "corpus.csv.gz", "queries": "claims_train.csv"}


@pytest.mark.parametrize(
    ("folder", "collection", "documents", "queries", "judged"),
    [
        ("ir-cranfield", CRANFIELD, 1400, 225, 1837),
        ("ir-cisi", CISI, 1460, 112, 3114),
        ("ir-scifact", SCIFACT, 5183, 809, 894),
    ],
)
def test_public_collections(
    data_root: Path, folder: str, collection: dict[str, Any], documents: int, queries: int, judged: int
) -> None:
    dataset = dataset_of(data_root / folder, collection)
    found = [dataset.entities[name].table.data.num_rows for name in ("document", "query")]
    assert [*found, dataset.examples.data.num_rows] == [documents, queries, judged]
    assert "warnings" not in dataset.split
    if folder == "ir-cranfield":
        assert dataset.split["left_out"] == {"not_relevant": 225}
        assert dataset.grades is not None
        assert np.bincount(dataset.grades.astype(int)).tolist() == [225, 363, 734, 387, 128]

"""Documents, queries and judgements in the formats of SMART, TREC, BEIR and SciFact (`towerkit.data.search`).

Pinned here:
- what is written in a format is what is read from it, for any records that the format can hold (Hypothesis);
- fields that come twice are joined, unknown ones keep their name, and ids stay texts as they stand;
- a judgement has the columns of its format; every fault is refused with line and value.
"""

from __future__ import annotations

import gzip
import html
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from towerkit.core.errors import DataError
from towerkit.data.locations import locate
from towerkit.data.search.beir import read_beir
from towerkit.data.search.qrels import read_qrels
from towerkit.data.search.scifact import read_scifact_claims, read_scifact_documents
from towerkit.data.search.smart import read_smart
from towerkit.data.search.trec import read_trec_documents, read_trec_topics
from towerkit.data.table import Table
from towerkit.data.text import TextFile

Records = dict[str, tuple[str, str]]
"""Id -> title and text."""

ID = st.text("abcXYZ0123456789-_.é日", min_size=1, max_size=8)
WORD = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=8)
LINE = st.lists(WORD, min_size=1, max_size=5).map(" ".join)
TEXT = st.lists(LINE, min_size=1, max_size=3).map("\n".join)
RECORDS: st.SearchStrategy[Records] = st.dictionaries(ID, st.tuples(LINE, TEXT), min_size=1, max_size=6)
IN_A_FOLDER = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def file(folder: Path, content: str, name: str = "a.txt") -> TextFile:
    path = folder / name
    packed = content.encode()
    path.write_bytes(gzip.compress(packed) if name.endswith(".gz") else packed)
    return TextFile(locate(name, base=folder))


def records_of(table: Table) -> Records:
    return {row["id"]: (row["title"], row["text"]) for row in table.data.to_pylist()}


def refusal(read: Callable[[TextFile], object], found: TextFile) -> str:
    with pytest.raises(DataError) as caught:
        read(found)
    return str(caught.value)


def smart_of(records: Records) -> str:
    return "".join(f".I {key}\n.T\n{title}\n.W\n{text}\n" for key, (title, text) in records.items())


def trec_of(records: Records) -> str:
    return "".join(
        f"<DOC>\n<DOCNO> {key} </DOCNO>\n<TITLE>{html.escape(title)}</TITLE>\n<TEXT>\n{html.escape(text)}\n</TEXT>\n</DOC>\n"
        for key, (title, text) in records.items()
    )


def beir_of(records: Records) -> str:
    rows = ({"_id": key, "title": title, "text": text, "metadata": {}} for key, (title, text) in records.items())
    return "".join(json.dumps(row) + "\n" for row in rows)


@IN_A_FOLDER
@given(records=RECORDS)
@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_smart_reads_what_was_written(tmp_path: Path, name: str, records: Records) -> None:
    is_mark = {line for _, text in records.values() for line in text.split("\n") if len(line) == 2 and line[0] == "."}
    if not is_mark:
        assert records_of(read_smart(file(tmp_path, smart_of(records), name))) == records


@IN_A_FOLDER
@given(records=RECORDS)
def test_trec_reads_what_was_written(tmp_path: Path, records: Records) -> None:
    assert records_of(read_trec_documents(file(tmp_path, trec_of(records)))) == records


@IN_A_FOLDER
@given(records=RECORDS)
def test_beir_reads_what_was_written(tmp_path: Path, records: Records) -> None:
    assert records_of(read_beir(file(tmp_path, beir_of(records)))) == records


JUDGED = st.dictionaries(st.tuples(ID, ID), st.integers(0, 4), min_size=1, max_size=8)


@IN_A_FOLDER
@given(judged=JUDGED)
@pytest.mark.parametrize("form", ["trec", "beir", "smart"])
def test_judgements_are_what_was_written(tmp_path: Path, form: str, judged: dict[tuple[str, str], int]) -> None:
    line = {"trec": "{0} 0 {1} {2}\n", "beir": "{0}\t{1}\t{2}\n", "smart": "  {0}  {1} {2} \r\n"}[form]
    head = "query-id\tcorpus-id\tscore\n" if form == "beir" else ""
    text = head + "".join(line.format(*pair, grade) for pair, grade in judged.items())
    rows = read_qrels(file(tmp_path, text), form).data.to_pylist()
    assert {(row["query"], row["document"]): row["relevance"] for row in rows} == judged


def test_smart_fields(tmp_path: Path) -> None:
    text = ".I 007\r\n.T \r\none\r\ntwo\r\n.A\r\nann\r\n.A\r\nbob\r\n.Q\r\nodd\r\n.W\r\n.I 8\r\n.W\r\n body .\r\n"
    table = read_smart(file(tmp_path, text))
    assert table.data.to_pylist() == [
        {"id": "007", "title": "one\ntwo", "text": None, "author": "ann\nbob", "q": "odd"},
        {"id": "8", "title": None, "text": "body .", "author": None, "q": None},
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello\n.I 1\n.W\nx\n", "line 1: text stands before the first .I, under no mark such as .T or .W: 'hello'"),
        (".I 1\nlost\n", "line 2: text stands after .I 1, under no mark such as .T or .W: 'lost'"),
        (".I 1\n.W\nx\n.I\n", "line 4: a record begins with its id, as in .I 7; received '.I'"),
        (".I 1 2\n.W\nx\n", "line 1: a record begins with its id, as in .I 7; received '.I 1 2'"),
        (".I 1\n.W\nx\n.I 1\n.W\ny\n", "line 4: the id '1' stands in line 1 already"),
        (".I 1\n.A\nann\n.I 2\n", "none of its 2 records has a text or a title"),
        ("", "a.txt: the file is empty"),
    ],
)
def test_smart_faults(tmp_path: Path, text: str, message: str) -> None:
    assert message in refusal(read_smart, file(tmp_path, text))


def test_trec_topics_old_and_new(tmp_path: Path) -> None:
    old = "<top>\n<num> Number: 301\n<title> organized\ncrime\n\n<desc> Description:\nWhich ones?\n<narr> Narrative:\nAll.\n"
    old += "</top>\n"
    new = "<top><num>302</num><title>A &amp; B</title></top>"
    assert read_trec_topics(file(tmp_path, old + new)).data.to_pylist() == [
        {"id": "301", "title": None, "text": "organized\ncrime", "description": "Which ones?", "narrative": "All."},
        {"id": "302", "title": None, "text": "A & B", "description": None, "narrative": None},
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<DOC>\n<TEXT>a</TEXT>\n</DOC>", "line 1: this <doc> has no <docno> with an id, its fields are ['text']"),
        ("<DOC>\n<DOCNO>1</DOCNO>\n<TEXT>a", "line 1: this <doc> is never closed"),
        ("<DOC>\n<DOC>\n</DOC>", "line 1: this <doc> is never closed"),
        ("x\n</DOC>", "line 2: </doc> closes nothing"),
        ("plain words", "holds no <doc> record"),
        ("<DOC><DOCNO>1</DOCNO><TEXT>a</TEXT></DOC>\n" * 2, "line 2: the id '1' stands in line 1 already"),
    ],
)
def test_trec_faults(tmp_path: Path, text: str, message: str) -> None:
    assert message in refusal(read_trec_documents, file(tmp_path, text))


def test_beir_faults(tmp_path: Path) -> None:
    assert "there is no column '_id'" in refusal(read_beir, file(tmp_path, '{"id": "1", "text": "a"}\n'))
    assert "line 2" in refusal(read_beir, file(tmp_path, '{"_id": "1", "text": "a"}\n{"_id": '))


def test_cisi_judgements_have_no_grades(tmp_path: Path) -> None:
    found = read_qrels(file(tmp_path, "     1     28\t0\t0.000000\n     1     35\t0\t0.000000\n"), "smart")
    assert found.data.to_pylist() == [
        {"query": "1", "document": "28", "relevance": 1},
        {"query": "1", "document": "35", "relevance": 1},
    ]
    assert found.where(1) == "a.txt, line 2"


@pytest.mark.parametrize(
    ("form", "text", "message"),
    [
        ("trec", "1 0 d1 1\n1 d2 1\n", "line 2: a judgement of format: trec is query iteration document relevance; this line "
         "has 3 values, and the lines above have 4: '1 d2 1'"),
        ("trec", "1 d1 1\n", "line 1: a judgement of format: trec is query iteration document relevance; this line has 3 values: "),
        ("beir", "q\td\t1\nq e\n", "line 2: a judgement of format: beir is query document relevance; this line has 2 values"),
        ("smart", "1 2\n1 3 4\n", "line 2"),
        ("trec", "1 0 d1 1\n\n1 0 d1 2\n", "line 3: the query '1' and the document 'd1' are judged in line 1 already"),
        ("beir", "query-id\tcorpus-id\tscore\n", "holds no judgement. A line is query document relevance"),
    ],
)  # fmt: skip
def test_faults_of_judgements(tmp_path: Path, form: str, text: str, message: str) -> None:
    assert message in refusal(lambda found: read_qrels(found, form), file(tmp_path, text))


def test_scifact(tmp_path: Path) -> None:
    abstract = """\"['It''s.'\n 'So (p = 1) it\\'s' \"\"can't be.\"\"]\""""
    corpus = f"doc_id,title,abstract,structured\n4983,One,{abstract},False\n7,Two,[],True\n"
    found = read_scifact_documents(file(tmp_path, corpus, "c.csv"))
    assert [row["text"] for row in found.data.to_pylist()] == ["It s. So (p = 1) it's can't be.", ""]
    claims = (
        "id,claim,evidence_doc_id,evidence_label,evidence_sentences,cited_doc_ids\n"
        "0,No evidence.,,,[],[4983 7]\n2,Two rows.,7,SUPPORT,[4],[7]\n2,Two rows.,7,CONTRADICT,[5],[7]\n"
    )
    queries, judged = read_scifact_claims(file(tmp_path, claims, "q.csv"))
    assert queries.data.to_pylist() == [{"id": "0", "text": "No evidence."}, {"id": "2", "text": "Two rows."}]
    pairs = [(row["query"], row["document"], row["relevance"]) for row in judged.data.to_pylist()]
    assert pairs == [("0", "4983", 1), ("0", "7", 1), ("2", "7", 1)]


def test_scifact_faults(tmp_path: Path) -> None:
    corpus = "doc_id,title,abstract\n1,a,['x']\n2,b,plain words\n"
    assert "row 2: an abstract is a printed list of sentences, ['one' 'two' …]; received 'plain words'" in refusal(
        read_scifact_documents, file(tmp_path, corpus, "c.csv")
    )
    claims = "id,claim,evidence_doc_id,cited_doc_ids\n1,a,,[x]\n"
    assert "row 1: the column 'cited_doc_ids' holds a list of ids such as [13734012]; received '[x]'" in refusal(
        read_scifact_claims, file(tmp_path, claims, "q.csv")
    )

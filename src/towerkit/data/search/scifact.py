"""SciFact as its tables: abstracts as printed lists of sentences, and claims with their evidence, several rows a claim."""

from __future__ import annotations

import re

import pyarrow as pa

from towerkit.core.errors import DataError
from towerkit.data.delimited import read_delimited
from towerkit.data.search.records import ID, TEXT, TITLE, texts_of
from towerkit.data.search.spec import DOCUMENT, QUERY, RELEVANCE
from towerkit.data.table import Table, require_columns, shown
from towerkit.data.text import TextFile

_SENTENCE = re.compile(r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)\"""", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_CITED = re.compile(r"\[\s*(\d+(?:[\s,]+\d+)*)?\s*\]")


def read_scifact_documents(file: TextFile) -> Table:
    """Read the abstracts: ``id``, ``title`` and ``text``, the sentences one after the other.

    Raises:
        DataError: If a column is missing, or an abstract is no printed list of sentences; with its row.
    """
    table = read_delimited(file)
    require_columns(["doc_id", "title", "abstract"], table.data.column_names, table.name)
    abstracts = table.data.column("abstract").to_pylist()
    texts = [_sentences(table, row, abstract) for row, abstract in enumerate(abstracts)]
    columns = {ID: texts_of(table.data.column("doc_id")), TITLE: texts_of(table.data.column("title"))}
    return Table(pa.table({**columns, TEXT: pa.array(texts, pa.string())}), table.name)


def _sentences(table: Table, row: int, abstract: str | None) -> str | None:
    """The text of ``['one' 'two' …]``, as NumPy prints an array of texts; in it each stands in the quotes that fit it."""
    if abstract is None:
        return None
    if not (abstract.startswith("[") and abstract.rstrip().endswith("]")):
        raise DataError(
            f"{table.name}, row {row + 1}: an abstract is a printed list of sentences, ['one' 'two' …]; received "
            f"{shown(abstract)}. Give the table as SciFact has it."
        )
    return " ".join(_ESCAPE.sub(r"\1", single or double) for single, double in _SENTENCE.findall(abstract))


def read_scifact_claims(file: TextFile) -> tuple[Table, Table]:
    """Read claims and what is judged of them.

    A row with evidence judges that abstract, whether it supports the claim or contradicts it; a row without judges the
    abstracts that the claim cites. Each pair counts once.

    Returns:
        The claims (``id``, ``text``) and the judgements (``query``, ``document``, ``relevance``: 1 for each).

    Raises:
        DataError: If a column is missing, or holds no ids; with row and value.
    """
    table = read_delimited(file)
    wanted = ["id", "claim", "evidence_doc_id", "cited_doc_ids"]
    require_columns(wanted, table.data.column_names, table.name)
    keys, claims, evidence, cited = (table.data.column(name).to_pylist() for name in wanted)
    texts: dict[str, str] = {}
    pairs: dict[tuple[str, str], None] = {}
    for row, (key, claim) in enumerate(zip(keys, claims, strict=True)):
        texts.setdefault(str(key), claim)
        pairs |= {(str(key), document): None for document in _judged(table, row, evidence[row], cited[row])}
    judged = {QUERY: [query for query, _ in pairs], DOCUMENT: [document for _, document in pairs]}
    judgements = pa.table({**judged, RELEVANCE: pa.array([1] * len(pairs), pa.int64())})
    own = pa.table({ID: list(texts), TEXT: pa.array(list(texts.values()), pa.string())})
    return Table(own, table.name), Table(judgements, table.name)


def _judged(table: Table, row: int, evidence: object, cited: object) -> list[str]:
    if evidence is not None:
        return [str(int(evidence)) if isinstance(evidence, float) else str(evidence)]
    if not _CITED.fullmatch(str(cited)):
        raise DataError(
            f"{table.name}, row {row + 1}: the column 'cited_doc_ids' holds a list of ids such as [13734012]; received "
            f"{shown(cited)}. Give the table as SciFact has it."
        )
    return re.findall(r"\d+", str(cited))

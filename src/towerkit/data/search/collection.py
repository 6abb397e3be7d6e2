"""Reading a whole collection: its three parts, what does not fit between them, and which queries belong together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from towerkit.core.errors import DataError
from towerkit.data.grades import grades_of
from towerkit.data.locations import locate
from towerkit.data.search.beir import read_beir
from towerkit.data.search.qrels import read_qrels
from towerkit.data.search.records import TITLE, keyed
from towerkit.data.search.scifact import read_scifact_claims, read_scifact_documents
from towerkit.data.search.smart import read_smart
from towerkit.data.search.spec import DOCUMENT, QUERY, RELEVANCE, CollectionSpec
from towerkit.data.search.trec import read_trec_documents, read_trec_topics
from towerkit.data.table import Table, shown, values_of
from towerkit.data.text import TextFile

TOPIC = "topic"
"""Column of the judgements: queries that share a relevant document, directly or through others, have the same."""
_DOCUMENTS = {"beir": read_beir, "trec": read_trec_documents, "smart": read_smart, "scifact": read_scifact_documents}
_QUERIES = {"beir": read_beir, "trec": read_trec_topics, "smart": read_smart}


@dataclass(frozen=True)
class Collection:
    """The tables of a collection; all keys are text."""

    queries: Table
    """``query``, ``title``, ``text``, …: those of the file, then those made of titles."""
    documents: Table
    """``document``, ``title``, ``text``, …"""
    judgements: Table
    """``query``, ``document``, ``relevance``, ``topic``; a judgement of what is not there is left out, and told in a note."""
    titles: Table | None
    """``query``, ``document``: the pairs of a title and its document, where they are wanted."""


def read_collection(spec: CollectionSpec, *, base: Path | None = None) -> Collection:
    """Read queries, documents and judgements.

    Args:
        spec: Where they lie.
        base: Folder that relative paths start from.

    Raises:
        DataError: If a file cannot be read, or no judgement fits the queries and documents; with file, line and value.
    """
    files = spec.files()
    documents = keyed(_DOCUMENTS[spec.format](_file(files.documents, spec, base)), DOCUMENT)
    if spec.format == "scifact":
        found, _ = read_scifact_claims(_file(files.queries, spec, base))
    else:
        found = _QUERIES[spec.format](_file(files.queries, spec, base))
    queries = keyed(found, QUERY, by_position=spec.queries_by == "position")
    judgements = read_judgements(spec, files.qrels, queries, documents, base=base)
    topics = _topics(judgements, grades_of(judgements, RELEVANCE, spec.grades) > 0)
    judgements = replace(judgements, data=judgements.data.append_column(TOPIC, pa.array(topics)))
    if not spec.titles:
        return Collection(queries, documents, judgements, None)
    titles = _titles(documents)
    return Collection(_with_titles(queries, documents, titles), documents, judgements, titles)


def read_judgements(
    spec: CollectionSpec, path: str, queries: Table, documents: Table, *, base: Path | None = None
) -> Table:
    """Read judgements of a collection, its own or those of a part given apart.

    Args:
        spec: The collection's format.
        path: The file.
        queries: The collection's queries.
        documents: The collection's documents.
        base: Folder that relative paths start from.

    Returns:
        ``query``, ``document``, ``relevance``, without those of a query or document that is not there; its notes tell them.

    Raises:
        DataError: If none is left.
    """
    judgements = read_judged(spec, path, base=base)
    for name, table in ((QUERY, queries), (DOCUMENT, documents)):
        judgements = _of_known(judgements, name, table)
    return judgements


def read_judged(spec: CollectionSpec, path: str, *, base: Path | None = None) -> Table:
    """Read judgements in the format of a collection, without a look at what they are of."""
    file = _file(path, spec, base)
    return read_scifact_claims(file)[1] if spec.format == "scifact" else read_qrels(file, spec.format)


def _file(path: str, spec: CollectionSpec, base: Path | None) -> TextFile:
    return TextFile(locate(path, base=base), spec.encoding)


def _of_known(judgements: Table, name: str, entity: Table) -> Table:
    """The judgements whose query, or document, is there."""
    wanted, known = values_of(judgements.data, name), values_of(entity.data, name)
    there = np.asarray(pc.is_in(wanted, value_set=known).to_numpy(zero_copy_only=False), bool)
    absent = np.flatnonzero(~there)
    if not len(absent):
        return judgements
    row = int(absent[0])
    first = shown(wanted[row].as_py())
    if len(absent) == len(there):
        raise DataError(
            f"{judgements.where(row)}: none of the {len(there):,} judgements is of a {name} that {entity.name} has; the first "
            f"is of {first}, and the first {name} there is {shown(known[0].as_py())}. Give the files of one collection"
            + (", or set queries_by: position." if name == QUERY else ".")
        )
    note = (
        f"{len(absent):,} of {len(there):,} judgements are of a {name} that {entity.name} lacks, and are left out; the first "
        f"of {first} in {judgements.where(row)}"
    )
    return Table(judgements.data.filter(pa.array(there)), judgements.name, 0, (*judgements.notes, note))


def _topics(judgements: Table, relevant: NDArray[np.bool_]) -> NDArray[np.int64]:
    """``[rows]`` a number for each set of queries that relevant documents join."""
    query, document = (
        values_of(judgements.data, name).dictionary_encode().indices.to_numpy().astype(np.int64)
        for name in (QUERY, DOCUMENT)
    )
    num_queries, num_documents = int(query.max()) + 1, int(document.max()) + 1
    size = num_queries + num_documents
    ones = np.ones(int(relevant.sum()), np.int8)
    joined = coo_array((ones, (query[relevant], num_queries + document[relevant])), shape=(size, size))
    return np.asarray(connected_components(joined, directed=False)[1][query], np.int64)


def _titles(documents: Table) -> Table:
    """A pair for each document that has a title."""
    titled = pc.greater(pc.fill_null(pc.utf8_length(documents.data.column(TITLE)), 0), 0)
    keys = documents.data.column(DOCUMENT).filter(titled)
    if not len(keys):
        raise DataError(
            f"{documents.name}: titles: true makes a query of each title, and no document has one. Remove it."
        )
    names = pc.binary_join_element_wise("title of", keys, " ")
    return Table(pa.table({QUERY: names, DOCUMENT: keys}), f"the titles in {documents.name}")


def _with_titles(queries: Table, documents: Table, titles: Table) -> Table:
    """The queries with those made of titles below them."""
    place = pc.index_in(titles.data.column(DOCUMENT), value_set=values_of(documents.data, DOCUMENT))
    added = pa.table({QUERY: titles.data.column(QUERY), "text": documents.data.column(TITLE).take(place)})
    whole = pa.concat_tables([queries.data, added], promote_options="permissive")
    return replace(queries, data=whole)

"""TREC's tagged text: documents in ``<DOC>`` with a ``<DOCNO>``, topics in ``<top>`` with a ``<num>``.

A field lasts to its closing tag or, as in many topics, to the next opening one. The words that topics repeat before their
fields (``Number:``, ``Description:``) are no part of them.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

from towerkit.core.errors import DataError
from towerkit.data.search.records import Record, numbered_lines, table_of_records
from towerkit.data.table import Table, shown
from towerkit.data.text import TextFile

_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9_-]*)>")
_LEADS = re.compile(r"^(Number|Topic|Description|Narrative|Domain|Definitions):\s*", re.IGNORECASE)


@dataclass(frozen=True)
class _Kind:
    """How one sort of record is tagged."""

    outer: str
    id: str
    fields: dict[str, str]
    """Tag -> column; other tags give their own name."""


_DOCUMENT = _Kind("doc", "docno", {"ti": "title", "headline": "title", "head": "title", "body": "text"})
_TOPIC = _Kind("top", "num", {"title": "text", "desc": "description", "narr": "narrative"})


def read_trec_documents(file: TextFile) -> Table:
    """Read ``<DOC>`` records: ``id``, ``title``, ``text`` and a column for each other tag.

    Raises:
        DataError: If a record has no ``<DOCNO>`` or is not closed, or an id stands twice; with the line.
    """
    return _read(file, _DOCUMENT)


def read_trec_topics(file: TextFile) -> Table:
    """Read ``<top>`` records: ``id``, ``text`` (the topic's title: what is asked), ``description``, ``narrative``.

    Raises:
        DataError: If a record has no ``<num>`` or is not closed, or an id stands twice; with the line.
    """
    return _read(file, _TOPIC)


def _read(file: TextFile, kind: _Kind) -> Table:
    records: list[Record] = []
    inside: Record | None = None
    open_field: str | None = None
    for number, line in numbered_lines(file):
        place = 0
        for tag in _TAG.finditer(line):
            _add(inside, open_field, line[place : tag.start()])
            place, name = tag.end(), tag.group(2).lower()
            if name == kind.outer:
                inside = _turned(inside, records, closing=bool(tag.group(1)), number=number, file=file, kind=kind)
                open_field = None
            else:
                open_field = None if tag.group(1) else kind.fields.get(name, name)
        _add(inside, open_field, line[place:])
    if inside is not None or not records:
        raise _not_closed(file, kind, inside)
    return table_of_records(records, file.name)


def _add(inside: Record | None, open_field: str | None, text: str) -> None:
    if inside is not None and open_field is not None and text.strip():
        whole = html.unescape(text.strip())
        inside.add(open_field, whole if inside.fields.get(open_field) else _LEADS.sub("", whole))


def _turned(
    inside: Record | None, records: list[Record], *, closing: bool, number: int, file: TextFile, kind: _Kind
) -> Record | None:
    """The record that is open after the outer tag."""
    if not closing:
        if inside is not None:
            raise _not_closed(file, kind, inside)
        return Record("", number)
    if inside is None:
        raise DataError(
            f"{file.name}, line {number}: </{kind.outer}> closes nothing. Remove it, or open <{kind.outer}>."
        )
    inside.id = inside.fields.pop(kind.id, "").strip()
    if not inside.id:
        raise DataError(
            f"{file.name}, line {inside.line}: this <{kind.outer}> has no <{kind.id}> with an id, its fields are "
            f"{shown(list(inside.fields))}. Give it one."
        )
    records.append(inside)
    return None


def _not_closed(file: TextFile, kind: _Kind, inside: Record | None) -> DataError:
    if inside is None:
        return DataError(f"{file.name}: holds no <{kind.outer}> record. Is this the right file, and the right format?")
    return DataError(
        f"{file.name}, line {inside.line}: this <{kind.outer}> is never closed. Write </{kind.outer}> where it ends."
    )

"""The spec of a search collection: where its three parts lie, and in which of the field's formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from towerkit.core.spec import Spec

QUERY, DOCUMENT, RELEVANCE = "query", "document", "relevance"
"""What a collection's keys and grades are called in the example table."""
Grades = dict[str, Annotated[float, Field(ge=0.0, allow_inf_nan=False)]]
"""Code of a judgement, as text -> the grade it stands for."""

_BEIR_FILES = {"documents": "corpus.jsonl", "queries": "queries.jsonl", "qrels": "qrels/train.tsv"}


def codes_as_texts(grades: Any) -> Any:
    """A code may look like a number in YAML; in the column it is compared as text.

    Example:
        >>> codes_as_texts({-1: 0, "high": 2})
        {'-1': 0, 'high': 2}
    """
    return {str(code): grade for code, grade in grades.items()} if isinstance(grades, Mapping) else grades


@dataclass(frozen=True)
class Files:
    """The paths of a collection's parts, as a user writes them."""

    documents: str
    queries: str
    qrels: str


class CollectionSpec(Spec):
    """Queries, documents and judgements, which take the place of ``examples`` and of the tables of both entities."""

    format: Literal["beir", "trec", "smart", "scifact"]
    """``beir``: JSON lines and a table; ``trec``: tagged text and four columns; ``smart``: the marks ``.I .T .A .W``;
    ``scifact``: the tables of claims and abstracts."""
    path: str | None = Field(default=None, min_length=1)
    """A folder with BEIR's names: ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/train.tsv``."""
    documents: str | None = Field(default=None, min_length=1)
    queries: str | None = Field(default=None, min_length=1)
    qrels: str | None = Field(default=None, min_length=1)
    """The judgements; those of ``scifact`` stand in its table of claims, which are its ``queries``."""
    queries_by: Literal["id", "position"] = "id"
    """What the judgements call a query: its id, or its place in the file from 1, as Cranfield's do."""
    grades: Grades | None = None
    """The grade of each code of the judgements, where the code is none itself: ``{"1": 4, "4": 1, "-1": 0}``."""
    titles: bool = False
    """Each document's title is one more training query for it; never held out."""
    encoding: str = "utf-8"

    @field_validator("grades", mode="before")
    @classmethod
    def _codes_are_texts(cls, grades: Any) -> Any:
        return codes_as_texts(grades)

    @model_validator(mode="after")
    def _every_part_has_its_place(self) -> CollectionSpec:
        if self.path is not None and self.format != "beir":
            raise ValueError(
                f"only format: beir says how the files in a folder are called; received path '{self.path}' with format: "
                f"{self.format}. Give the files as documents, queries and qrels."
            )
        if self.format == "scifact" and self.qrels is not None:
            raise ValueError(
                f"the judgements of scifact stand in its table of claims; received qrels '{self.qrels}'. Remove qrels."
            )
        needed = ("documents", "queries") if self.format == "scifact" else ("documents", "queries", "qrels")
        for part in needed:
            if self.path is None and getattr(self, part) is None:
                raise ValueError(f"a collection of format: {self.format} needs {part}; give the path of that file.")
        return self

    def files(self) -> Files:
        """Where the parts lie; what is not given has BEIR's name in the folder ``path``."""
        named = {part: f"{(self.path or '').rstrip('/')}/{name}" for part, name in _BEIR_FILES.items()}
        given = {part: value for part in named if (value := getattr(self, part)) is not None}
        if self.format == "scifact":
            given["qrels"] = given["queries"]
        return Files(**{**named, **given})

"""The spec of a source: where a table lies, and how to read it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field, field_serializer, field_validator, model_validator

from towerkit.core.errors import redacted
from towerkit.core.spec import Spec

Format = Literal["auto", "delimited", "adjacency", "sequences", "parquet", "arrow", "jsonl"]


class SourceSpec(Spec):
    """Where a table lies and how to read it."""

    path: str = Field(min_length=1)
    """A file, a folder of Parquet files or a database; ``${NAME}`` expands, ``archive.zip::member`` opens,
    ``builtin:shop/NAME`` is bundled."""
    format: Format = "auto"
    """``auto`` goes by the extension, then by the first bytes; ``adjacency`` and ``sequences`` have to be said."""
    separator: str | None = Field(default=None, min_length=1)
    """What stands between values in a text table; found from the extension and the first lines when not given."""
    encoding: str = "utf-8"
    header: bool = True
    """Whether the first line of a text table names the columns."""
    names: tuple[str, ...] | None = None
    """Column names of a text table without a header."""
    columns: tuple[str, ...] | None = None
    """Read only these columns."""
    quoted: bool | None = None
    """Whether ``"`` encloses values that hold the separator; found from the file when not given."""
    decimal: Literal[".", ","] = "."
    """What stands before the decimal places of a number in a text table."""
    sql: str | None = Field(default=None, min_length=1)
    """The query, when ``path`` is a database."""

    @field_validator("separator")
    @classmethod
    def _separator_splits_lines(cls, separator: str | None) -> str | None:
        if separator is not None and any(character in separator for character in '\r\n"\0'):
            raise ValueError(f"a separator stands between values on one line; received {separator!r}.")
        return separator

    @model_validator(mode="after")
    def _names_fit_lists(self) -> SourceSpec:
        most = {"adjacency": 2, "sequences": 3}.get(self.format)
        if most is not None and self.names is not None and not 2 <= len(self.names) <= most:
            columns = "user and item" if most == 2 else "user, item and, if you like, position"
            raise ValueError(
                f"the columns of format: {self.format} are {columns}; received {len(self.names)} names: "
                f"{', '.join(self.names)}."
            )
        return self

    @field_serializer("path", when_used="json")
    def _path_without_password(self, path: str) -> str:
        return redacted(path)  # what is stored in a Run

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """The fields as they are printed: without a password."""
        return [(name, redacted(value) if name == "path" else value) for name, value in super().__repr_args__()]

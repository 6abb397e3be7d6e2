"""Columns of files (pictures, sounds) as rows of one shape: decoded once, kept on disk by content, read when a tower asks."""

from __future__ import annotations

import os
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from towerkit.core.errors import DataError
from towerkit.core.notices import notice
from towerkit.core.remarks import remark
from towerkit.data.batch import Stored
from towerkit.data.table import Table, values_of
from towerkit.features.base import Feature, State
from towerkit.features.cells import Opener, Place, Unusable, cells_of, shown_cell
from towerkit.pretrained.cache import ContentCache, cache_folder
from towerkit.pretrained.vectors import content_key

OnError: TypeAlias = Literal["absent", "refuse"]
IN_MEMORY_BYTES = 512 * 2**20
"""Of decoded rows; where there are more they stay in the cache on disk, and each batch reads its own."""
_CHUNK = 256
_FEW = 20
"""So many named files, none of which can be used, are a mistake in the spec and not bad files."""
_TOLD = 3


@dataclass(frozen=True)
class MediaFeature(Feature):
    """A :class:`~towerkit.data.batch.Stored` column of decoded files; a row without one has nothing.

    Attributes:
        name: Its key among the columns.
        column: The column of paths or bytes.
        place: Where paths start.
        on_error: Whether a file that cannot be used counts as absent, with a remark, or is refused.
    """

    name: str
    column: str
    place: Place
    on_error: OnError

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of each row."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """Of each row."""

    @property
    @abstractmethod
    def settings(self) -> str:
        """All that the rows depend on beside the files; a part of a file name."""

    @property
    @abstractmethod
    def what(self) -> str:
        """What the files are called in messages: pictures, or sounds."""

    @abstractmethod
    def decode(self, content: bytes) -> NDArray[Any]:
        """A file to one row.

        Raises:
            Unusable: With the reason.
        """

    def encode(self, table: pa.Table) -> Stored:
        """Rows from memory; paths start at the current directory."""
        return self.read(Table(table, "the given rows"))

    def read(self, table: Table, *, kept: bool = False) -> Stored:
        """Decode every file once; a bad one counts as absent or is refused.

        Args:
            table: Raw rows; paths start at its folder.
            kept: Whether what is decoded is kept on disk; not for requests.

        Raises:
            DataError: If a file cannot be used and ``on_error`` is ``refuse``, or none of many can.
        """
        cells = cells_of(values_of(table.data, self.column), self.column)
        cache = ContentCache(cache_folder() / "decoded" / f"{self.settings}.sqlite") if kept else None
        files = Files(self, cells, replace(self.place, folder=table.folder), cache)
        rows = files.rows()
        named = int(len(cells) - cells.null_count)
        if files.faults:
            self.tell(table, files.faults, named)
        return Stored(files, torch.from_numpy(rows))

    def state(self) -> State:
        """Nothing beside the spec."""
        return State({})

    def portable(self, table: Table) -> dict[str, pa.ChunkedArray]:
        """The column with the files themselves in place of paths, so that a Run needs no other folder; nothing if it has them."""
        cells = cells_of(values_of(table.data, self.column), self.column)
        if pa.types.is_binary(cells.type):
            return {}
        chunks = []
        with Opener(replace(self.place, folder=table.folder)) as opener:
            for start in range(0, len(cells), _CHUNK):
                chunks.append(
                    pa.array([_or_none(opener, each) for each in cells.slice(start, _CHUNK).to_pylist()], pa.binary())
                )
        return {self.column: pa.chunked_array(chunks, pa.binary())}

    def tell(self, table: Table, faults: Mapping[int, str], named: int) -> None:
        """Remark files that cannot be used, or refuse them.

        Args:
            table: Whose they are.
            faults: Row -> why.
            named: Cells that name a file.

        Raises:
            DataError: As :meth:`read`.
        """
        shown = [f"row {row + 1} {reason}" for row, reason in sorted(faults.items())[:_TOLD]]
        if self.on_error == "refuse":
            raise DataError(
                f"The column '{self.column}' must hold {self.what} that can be read; {shown[0]}. Correct it, leave it empty for "
                "missing, or set on_error: absent."
            )
        if len(faults) == named >= _FEW:
            raise DataError(
                f"None of the {named:,} {self.what} that the column '{self.column}' names can be used: {shown[0]}. Check the "
                "paths: they start at the folder of the table's file, or at root."
            )
        more = f"; and {len(faults) - _TOLD:,} more" if len(faults) > _TOLD else ""
        remark(
            f"{table.name}: {len(faults):,} of {named:,} {self.what} in the column '{self.column}' cannot be used and count as "
            f"absent: {'; '.join(shown)}{more}"
        )


@dataclass
class Files:
    """The decoded files of a column: in memory where they fit, else in the cache, from where each batch reads its own.

    Attributes:
        feature: Decodes.
        cells: ``[rows]`` paths or bytes.
        place: Where paths start.
        cache: Where decoded rows are kept; None where they are not.
        faults: Row -> why its file cannot be used; filled by :meth:`rows`.
    """

    feature: MediaFeature
    cells: pa.Array
    place: Place
    cache: ContentCache | None = None
    faults: dict[int, str] = field(default_factory=dict)
    _keys: list[bytes] = field(default_factory=list)
    _first: list[int] = field(default_factory=list)
    _memory: list[NDArray[Any]] = field(default_factory=list)

    def rows(self) -> NDArray[np.int64]:
        """``[rows]`` the place of each row's file among the distinct ones, -1 where there is none; each is decoded once."""
        places = np.full(len(self.cells), -1, np.int64)
        known: dict[bytes, int] = {}
        for rows, contents in self.contents(range(len(self.cells))):
            keys = [content_key(content) for content in contents]
            decoded = self.decoded(
                {key: content for key, content in zip(keys, contents, strict=True) if key not in known}
            )
            for row, key in zip(rows, keys, strict=True):
                found = decoded.get(key)
                if isinstance(found, str):
                    self.fault(row, found)
                    continue
                if key not in known:
                    known[key] = len(known)
                    self._keys.append(key)
                    self._first.append(row)
                    if self._fits and found is not None:
                        self._memory.append(found)
                places[row] = known[key]
            if rows and rows[-1] + 1 < len(self.cells):
                notice(f"reading {self.feature.what}: {rows[-1] + 1:,} of {len(self.cells):,}")
        return places

    def read(self, places: NDArray[np.int64]) -> NDArray[Any]:
        """The decoded files at some places; see :class:`~towerkit.data.batch.Store`."""
        found = np.empty((len(places), *self.feature.shape), self.feature.dtype)
        if self._fits:
            for row, place in enumerate(places.tolist()):
                found[row] = self._memory[place]
            return found
        distinct = np.unique(places)
        decoded = self._cached([self._keys[place] for place in distinct])
        lost = [place for place in distinct.tolist() if self._keys[place] not in decoded]
        for rows, contents in self.contents([self._first[place] for place in lost]):
            again = self.decoded({content_key(content): content for content in contents})
            decoded |= {key: row for key, row in again.items() if not isinstance(row, str)}
            assert rows
        for row, place in enumerate(places.tolist()):
            if self._keys[place] not in decoded:
                raise DataError(
                    f"Row {self._first[place] + 1} of the column '{self.feature.column}' was read before and cannot be read now "
                    f"({shown_cell(self.cells[self._first[place]].as_py())}); leave files as they are while they are in use."
                )
            found[row] = decoded[self._keys[place]]
        return found

    def fault(self, row: int, reason: str) -> None:
        """Note that the file of a row cannot be used.

        Args:
            row: From 0.
            reason: As it goes on behind the name of the file.
        """
        self.faults[row] = f"({shown_cell(self.cells[row].as_py())}) {reason}"

    @property
    def _fits(self) -> bool:
        row = int(np.prod(self.feature.shape)) * self.feature.dtype.itemsize
        return row * len(self.cells) <= IN_MEMORY_BYTES

    def contents(self, rows: Sequence[int]) -> Iterator[tuple[list[int], list[bytes]]]:
        """Rows that have a file, with its bytes, some at a time."""
        with Opener(self.place) as opener:
            for start in range(0, len(rows), _CHUNK):
                kept: list[int] = []
                contents: list[bytes] = []
                for row in rows[start : start + _CHUNK]:
                    try:
                        content = opener.content(self.cells[row].as_py())
                    except Unusable as error:
                        self.fault(row, str(error))
                        continue
                    if content is not None:
                        kept.append(row)
                        contents.append(content)
                yield kept, contents

    def _cached(self, keys: Sequence[bytes]) -> dict[bytes, NDArray[Any] | str]:
        size = int(np.prod(self.feature.shape)) * self.feature.dtype.itemsize
        entries = {} if self.cache is None else self.cache.read(keys)
        return {
            key: np.frombuffer(value, self.feature.dtype).reshape(self.feature.shape)
            for key, value in entries.items()
            if len(value) == size
        }

    def decoded(self, contents: Mapping[bytes, bytes]) -> dict[bytes, NDArray[Any] | str]:
        """Key -> the row, or why there is none; from the cache where it is there."""
        found = self._cached(list(contents))
        new = [key for key in contents if key not in found]
        if not new:
            return found
        with warnings.catch_warnings():  # of damaged tags and the like; around the threads, which share the filters
            warnings.simplefilter("ignore")
            with ThreadPoolExecutor(min(len(new), os.cpu_count() or 1)) as pool:
                rows = list(pool.map(lambda key: _or_reason(self.feature, contents[key]), new))
        fresh = dict(zip(new, rows, strict=True))
        if self.cache is not None:
            self.cache.write({key: row.tobytes() for key, row in fresh.items() if not isinstance(row, str)})
        return found | fresh


def _or_reason(feature: MediaFeature, content: bytes) -> NDArray[Any] | str:
    try:
        return feature.decode(content)
    except Unusable as error:
        return str(error)


def _or_none(opener: Opener, value: str | bytes | None) -> bytes | None:
    try:
        return opener.content(value)
    except Unusable:
        return None

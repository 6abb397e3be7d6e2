"""Known keys answered from stored vectors: a service starts without PyTorch, and without the model until more is asked.

The index of a Run keeps the vectors of its known queries beside those of its candidates. A request that names a query, and says no
more than how many answers it wants, follows from these alone. Any other loads the model behind them, once (see
:class:`towerkit.serving.fleet.Fleet`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from towerkit.artifact.known import Known, read_known
from towerkit.core.errors import RunError
from towerkit.core.random import generator
from towerkit.index.exact import ExactIndex
from towerkit.index.files import StoredQueries, open_folder
from towerkit.index.trials import recall_of
from towerkit.serving.placing import listed
from towerkit.serving.problems import Problem
from towerkit.storage.hashes import content_hash
from towerkit.storage.manifest import Manifest, verify

if TYPE_CHECKING:
    from towerkit.index.stored import StoredIndex
    from towerkit.serving.requests import Recommend

_NOBODY: NDArray[np.int64] = np.empty(0, np.int64)
_NOTHING_MORE = (None,) * 6
_ASKED, _DEPTH = 256, 10
"""Queries and answers by which an approximate index is measured at the start."""
LEAST_RECALL = 0.98
"""Share of a Run's exact answers that a service of it must give."""


@dataclass(eq=False)
class StoredModel:
    """A two-tower that answers known keys. Asked by the inference thread only."""

    name: str
    version: str
    path: Path
    """Of the Run; where a link pointed when it was opened."""
    index: StoredIndex
    queries: StoredQueries
    known: Known

    @classmethod
    def open(cls, name: str, run: Path, index: Path) -> StoredModel | None:
        """Open a Run by its index.

        Args:
            name: What it is called.
            run: Its folder.
            index: That of an index of it.

        Returns:
            None where the model has to be loaded at once: it is no two-tower, the index has no queries, or others than the Run.

        Raises:
            RunError: If the Run is damaged.
            IndexFileError: If the index is damaged, or of another embedding space.
        """
        run = run.resolve()
        manifest = verify(run)
        if manifest.kind != "two_tower":
            return None
        stored = open_folder(index, space=manifest.space)
        if stored.queries is None:
            return None
        known = read_known(run / "model", manifest.format)
        own = stored.index.stored.keys == known.candidate_keys.to_pylist()
        if not own or not stored.queries.keys.equals(known.query_keys):
            return None
        return cls(name, version_of(manifest), run, stored.index, stored.queries, known)

    @staticmethod
    def answers(body: Recommend) -> bool:
        """Whether a request follows from stored vectors."""
        more = (body.features, body.history, body.allow, body.deny, body.where, body.rules)
        return body.query is not None and not body.why and more == _NOTHING_MORE

    @cached_property
    def _rows(self) -> dict[str, int]:
        """Key, as a text -> row of the queries, from 1."""
        return {_text(key): row for row, key in enumerate(self.queries.keys.to_pylist(), start=1)}

    @cached_property
    def _keys(self) -> NDArray[np.object_]:
        """``[candidates]``."""
        return _objects(key.hex() if isinstance(key, bytes) else key for key in self.known.candidate_keys.to_pylist())

    @cached_property
    def _titles(self) -> NDArray[np.object_] | None:
        """``[candidates]``."""
        return None if self.known.titles is None else _objects(self.known.titles.to_pylist())

    def warm(self) -> None:
        """Make everything that the first request needs.

        Raises:
            RunError: If an approximate index finds too little of what there is to find.
        """
        if isinstance(self.index, ExactIndex):
            self.index.hasten()
        else:
            self._check_recall(self.index)
        for count in (1, 2, 32):
            self.index.search(np.repeat(self.queries.vectors[:1], count, axis=0), _DEPTH)
        assert self._rows is not None
        assert self._keys is not None
        assert self._titles is None or len(self._titles) == len(self._keys)

    def _check_recall(self, index: StoredIndex) -> None:
        drawn = generator(0, "queries of a check").permutation(len(self.queries.vectors))[:_ASKED]
        asked = np.asarray(self.queries.vectors[np.sort(drawn)])
        found = recall_of(index.search(asked, _DEPTH), ExactIndex(index.stored).search(asked, _DEPTH))
        if found < LEAST_RECALL:
            raise RunError(
                f"An index finds {LEAST_RECALL} of the exact answers; that of '{self.name}' finds {found:.3f}. Build it with more "
                "effort (--ef-search, --nprobe, --recall), or serve without."
            )

    def recommend(self, asked: Sequence[Recommend]) -> list[dict[str, Any] | Problem]:
        """The best candidates of each request; see :meth:`answers`.

        Args:
            asked: The requests.
        """
        rows = [self._rows.get(str(body.query), 0) for body in asked]
        seen = [self._seen(row) if body.exclude_seen else _NOBODY for row, body in zip(rows, asked, strict=True)]
        depth = min(max(body.k for body in asked), len(self._keys))
        hits = self.index.search(self.queries.vectors[rows], depth, exclude=seen)
        # One gather for all: one by one, these texts are as many waits for memory.
        counts, scores, keys = hits.counts.tolist(), hits.scores.tolist(), self._keys[hits.rows].tolist()
        titles = None if self._titles is None else self._titles[hits.rows].tolist()
        found: list[dict[str, Any] | Problem] = []
        for place, (row, body) in enumerate(zip(rows, asked, strict=True)):
            few = min(body.k, counts[place])
            own = None if titles is None else titles[place][:few]
            found.append(answer_of(self, listed(keys[place][:few], scores[place][:few], own), body.k, cold=row == 0))
        return found

    def _seen(self, row: int) -> NDArray[np.int64]:
        if not row:
            return _NOBODY
        start, stop = self.known.seen.indptr[row - 1], self.known.seen.indptr[row]
        return np.asarray(self.known.seen.indices[start:stop], np.int64)

    def describe(self) -> dict[str, Any]:
        """What it is, for a list of models."""
        return {
            "name": self.name,
            "model_version": self.version,
            "kind": "two_tower",
            "query": self.known.query,
            "candidate": self.known.candidate,
            "queries": len(self.known.query_keys),
            "candidates": len(self.known.candidate_keys),
            "online": self.known.learns,
            "index": self.index.kind,
            "exact": self.index.exact,
        }


def answer_of(model: StoredModel, items: list[dict[str, Any]], k: int, *, cold: bool) -> dict[str, Any]:
    """The answer to a request, with what is to be said of it.

    Args:
        model: It gave the answers.
        items: The answers.
        k: How many were asked for.
        cold: Whether the query is unknown.
    """
    notes = []
    if cold:
        known = f"{len(model.queries.keys):,} known ones"
        notes.append(f"The query is not among the {known}: the answer is the one for a stranger.")
    if len(items) < k:
        left = f"{len(items):,} of the {len(model.known.candidate_keys):,} candidates are left"
        notes.append(f"Fewer than the {k:,} answers asked for: {left}.")
    told = {"items": items, "cold": cold, "as_of": None, "notes": notes}  # nobody has met anything since the training
    return {"model": model.name, "model_version": model.version, **told}


def version_of(manifest: Manifest) -> str:
    """Sixteen digits that two Runs share only if all their files do.

    Args:
        manifest: Of a verified Run.
    """
    return content_hash({name: file.sha256 for name, file in manifest.files.items()})[:16]


def _text(key: Any) -> str:
    return key.hex() if isinstance(key, bytes) else str(key)


def _objects(values: Iterable[Any]) -> NDArray[np.object_]:
    """``[values]`` as they are, whatever they are."""
    found = list(values)
    array = np.empty(len(found), object)
    array[:] = found
    return array

"""Trained Runs that a two-tower learns from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from towerkit.artifact.models import load_retriever
from towerkit.artifact.rankers import load_pair_scorer
from towerkit.core.errors import RunError, listed
from towerkit.ensembles.rank_files import load_fusion
from towerkit.ensembles.rank_fusion import RankFusion
from towerkit.features.encoded import Catalogue
from towerkit.models.answer import Retriever
from towerkit.models.pair_scorer import PairScorer
from towerkit.storage.hashes import read_json
from towerkit.storage.manifest import verify
from towerkit.storage.migrations import upgraded
from towerkit.trained import scores_of_rows
from towerkit.training.distill_spec import DistillSpec

_LOADERS: dict[str, Any] = {"ranker": load_pair_scorer, "two_tower": load_retriever, "late_fusion": load_fusion}


@dataclass(frozen=True, eq=False)
class RunTeacher:
    """A trained model that knows the keys of a student's catalogues."""

    model: Retriever | PairScorer | RankFusion
    queries: NDArray[np.int64]
    """``[student's queries + 1]`` row of the teacher; 0 where it does not know the key."""
    candidates: NDArray[np.int64]
    """``[student's candidates + 1]`` likewise."""
    scale: float
    """The temperature that its scores were trained at."""

    def logits(self, queries: NDArray[np.int64], candidates: NDArray[np.int64]) -> NDArray[np.float32]:
        """See :class:`towerkit.objectives.distillation.Teacher`."""
        rows, columns = self.queries[queries], self.candidates[candidates]
        found = self._scores(rows, columns) / np.float32(self.scale)
        found[rows == 0] = np.nan
        found[:, columns == 0] = np.nan
        return found

    def _scores(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float32]:
        if not isinstance(self.model, Retriever):
            every = scores_of_rows(self.model, np.repeat(rows, len(columns)), np.tile(columns, len(rows)))
            return every.reshape(len(rows), len(columns)).astype(np.float32)
        query, candidate = self.model.query_vectors[rows], self.model.candidate_vectors[columns]
        product = query @ candidate.T  # [n, m]
        if self.model.model.match.similarity != "euclidean":
            return np.asarray(product, np.float32)
        lengths = np.square(query).sum(axis=1)[:, None] + np.square(candidate).sum(axis=1)
        return np.asarray(np.minimum(2 * product - lengths, 0), np.float32)


@dataclass(frozen=True, eq=False)
class OpenTeacher:
    """A Run that was opened to be learned from, not yet asked by anybody's rows."""

    name: str
    model: Retriever | PairScorer | RankFusion
    scale: float

    def bound(self, query: Catalogue, candidate: Catalogue) -> RunTeacher:
        """The teacher of a student.

        Args:
            query: The student's queries.
            candidate: Its candidates.

        Raises:
            RunError: If the Run knows no query, or fewer than two candidates, of the student's.
        """
        rows = [
            np.concatenate([[0], own.rows(theirs.keys)])
            for own, theirs in ((self.model.query, query), (self.model.candidate, candidate))
        ]
        known = [int((each > 0).sum()) for each in rows]
        if known[0] < 1 or known[1] < 2:
            raise RunError(
                f"training.distill: {self.name} knows {known[0]:,} of the {len(query.keys):,} queries and {known[1]:,} of the "
                f"{len(candidate.keys):,} candidates, by their keys, so that it could teach nothing. Give a Run of the same things."
            )
        return RunTeacher(self.model, rows[0], rows[1], self.scale)


def open_teacher(spec: DistillSpec) -> OpenTeacher:
    """Open a Run to learn from.

    Args:
        spec: Where it lies.

    Raises:
        RunError: If the folder is no Run that scores pairs.
    """
    folder = spec.folder
    manifest = verify(folder)
    found = _LOADERS[manifest.kind](folder / "model", manifest.format) if manifest.kind in _LOADERS else None
    if not isinstance(found, Retriever | PairScorer | RankFusion):
        raise RunError(
            f"training.distill: {folder} is a {manifest.kind} that scores no pairs; give a Run of kind {listed(_LOADERS)} that "
            "ranks."
        )
    own = upgraded("spec.json", read_json(folder / "spec.json"), manifest.format)
    fused = isinstance(found, RankFusion)
    temperature = 1.0 if fused else (own.get("objective", {}).get("loss") or {}).get("temperature", 1.0)
    return OpenTeacher(str(folder), found, float(temperature or 1.0))

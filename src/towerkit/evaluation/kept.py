"""Evaluations that are kept in files while many models are trained, so that what was done is never done again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from towerkit.core.errors import RunError
from towerkit.evaluation.result import Evaluation
from towerkit.storage.atomic import as_run_error, atomic_write_bytes
from towerkit.storage.hashes import content_hash


@dataclass(frozen=True)
class KeptEvaluation:
    """What a file gave back."""

    evaluation: Evaluation
    more: Mapping[str, Any]


class Kept:
    """Evaluations in files that are called by what was trained, so that a second call trains nothing twice.

    Args:
        folder: Made at the first evaluation; None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def get(self, identity: Mapping[str, Any]) -> KeptEvaluation | None:
        """What was kept; None where nothing was, or it cannot be read.

        Args:
            identity: What was trained, in plain data.
        """
        path = self._path(identity)
        if path is None or not path.is_file():
            return None
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            details = {name: pa.table(columns) for name, columns in stored["details"].items()}
            return KeptEvaluation(Evaluation.from_dict(stored["evaluation"], details), dict(stored["more"]))
        except (ValueError, KeyError, TypeError, RunError, pa.ArrowInvalid):
            return None

    def put(
        self, identity: Mapping[str, Any], evaluation: Evaluation, more: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        """Keep an evaluation, whole or not at all.

        Args:
            identity: What was trained, in plain data.
            evaluation: With its details.
            more: What else is worth keeping, in plain data.

        Raises:
            RunError: If the disk refuses.
        """
        path = self._path(identity)
        if path is None:
            return
        with as_run_error(f"create the folder {path.parent}"):
            path.parent.mkdir(parents=True, exist_ok=True)
        details = {name: table.to_pydict() for name, table in evaluation.details.items()}
        stored = {
            "identity": dict(identity),
            "evaluation": evaluation.as_dict(),
            "details": details,
            "more": dict(more),
        }
        atomic_write_bytes(path, json.dumps(stored, default=str).encode())

    def _path(self, identity: Mapping[str, Any]) -> Path | None:
        return None if self.folder is None else self.folder / f"{content_hash(dict(identity))[:32]}.json"

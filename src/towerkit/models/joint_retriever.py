"""Several trained retrievals that share a query side: one to ask at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from towerkit.models.answer import Retriever
from towerkit.models.joint import JointSpec


@dataclass(frozen=True, eq=False)
class JointRetriever:
    """A trained joint model: for each sort of candidates a retriever, over one query side."""

    spec: JointSpec
    members: Mapping[str, Retriever]
    """Candidate entity -> its retriever."""

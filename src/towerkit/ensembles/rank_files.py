"""A fusion of rankers to files and back: the catalogues once, each member in a folder of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from towerkit.artifact.catalogues import check_titles, load_known, save_known, shown_columns, with_key
from towerkit.core.errors import RunError, listed
from towerkit.core.spec import parse
from towerkit.ensembles.gate import Gate
from towerkit.ensembles.late import LateFusion
from towerkit.ensembles.late_files import LATE_FUSION_KEYS, OPTIONAL_KEYS, load_late_fusion
from towerkit.ensembles.late_spec import LateFusionSpec
from towerkit.ensembles.rank_fusion import RankFusion
from towerkit.ensembles.rank_members import load_rank_member
from towerkit.storage.documents import read_document
from towerkit.storage.hashes import write_json
from towerkit.storage.migrations import FORMAT_VERSION

_KEYS = ("spec", "query", "candidate", "titles", "weights")
"""Of ``model.json``."""


def load_fusion(folder: Path, version: int = FORMAT_VERSION) -> LateFusion | RankFusion:
    """Read a late fusion of members that predict, or of members that rank.

    Args:
        folder: Its files.
        version: The format of its Run.

    Raises:
        RunError: If a file is missing or damaged.
    """
    known = {*LATE_FUSION_KEYS, *OPTIONAL_KEYS, *_KEYS, "gate"}
    content = read_document(folder / "model.json", version, ("spec",), known)
    spec = parse(LateFusionSpec, content["spec"], str(folder / "model.json"))
    return load_rank_fusion(folder, version) if spec.ranks else load_late_fusion(folder, version)


def save_rank_fusion(folder: Path, fusion: RankFusion, *, query_columns: Sequence[str] = ()) -> None:
    """Write catalogues, trained pairs and weights, and each member into a folder of its own.

    Args:
        folder: Made if it is not there.
        fusion: What to write.
        query_columns: Columns of the queries to keep beside those that the members read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, member in fusion.members.items():
        member.save(folder / "members" / name)
    content = {
        "spec": fusion.spec.model_dump(mode="json"),
        "query": fusion.query_entity,
        "candidate": fusion.candidate_entity,
        "titles": dict(fusion.titles),
        "weights": dict(fusion.weights),
        **({} if fusion.gate is None else {"gate": fusion.gate.as_dict()}),
    }
    write_json(folder / "model.json", content)
    kept = with_key(fusion.query, dict.fromkeys([*fusion.query_columns, *query_columns]))
    save_known(folder, kept, with_key(fusion.candidate, shown_columns(fusion.candidate)), fusion.seen)


def load_rank_fusion(folder: Path, version: int = FORMAT_VERSION) -> RankFusion:
    """Read a fusion of rankers and its members.

    Args:
        folder: Its files.
        version: The format of its Run.

    Raises:
        RunError: If a file is missing, damaged, or does not fit the others.
    """
    where = folder / "model.json"
    content = read_document(where, version, _KEYS, ("gate",))
    spec = parse(LateFusionSpec, content["spec"], str(where))
    query, candidate, seen = load_known(folder)
    members = {
        name: load_rank_member(folder / "members" / name, member, query, candidate, seen, version)
        for name, member in spec.members.items()
    }
    titles, weights = content["titles"], content["weights"]
    _check_weights(where, weights, spec)
    check_titles(where, titles, candidate, content["candidate"])
    gate = _gate(where, content.get("gate"), spec)
    return RankFusion(
        spec, members, weights, query, candidate, seen, titles, content["query"], content["candidate"], gate
    )


def _gate(where: Path, content: Any, spec: LateFusionSpec) -> Gate | None:
    if content is None:
        return None
    try:
        return Gate.of(content, len(spec.members))
    except (TypeError, ValueError) as error:
        raise RunError(f"{where}: its gate cannot be used: {error}. Train the Run again.") from error


def _check_weights(where: Path, weights: Any, spec: LateFusionSpec) -> None:
    good = isinstance(weights, Mapping) and weights.keys() == spec.members.keys()
    numbers = list(weights.values()) if good else []
    if not good or not all(isinstance(each, int | float) and math.isfinite(each) for each in numbers):
        raise RunError(
            f"{where}: needs one finite weight for each of {listed(spec.members)}; it has {weights!r}. Train the Run again."
        )

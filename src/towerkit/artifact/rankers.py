"""A trained ranker to files and back: the parts of a tower model, with the catalogues and pairs of a model that ranks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from towerkit.artifact.catalogues import check_titles, load_known
from towerkit.artifact.models import (
    built,
    decisions_in,
    load_entities,
    load_parts,
    save_both_sides,
    save_entities,
    save_parts,
)
from towerkit.models.pair_scorer import PairScorer
from towerkit.models.ranker import RankerSpec
from towerkit.storage.migrations import FORMAT_VERSION

RANKER_KEYS = ("spec", "query", "candidate", "titles", "entities", "decisions")
"""The keys of ``model.json``."""


def save_pair_scorer(folder: Path, model: PairScorer, *, query_columns: Sequence[str] = ()) -> None:
    """Write a ranker with its catalogues and trained pairs into a folder.

    Args:
        folder: Made if it is not there.
        model: What to write.
        query_columns: Columns of the queries to keep beside those that the towers read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "query": model.query_entity,
        "candidate": model.candidate_entity,
        "titles": dict(model.titles),
        "entities": sorted(model.others),
        "decisions": {task: decision.as_dict() for task, decision in model.decisions.items()},
    }
    save_parts(folder, model.spec, model.encoder, model.model, about)
    save_both_sides(folder, model, (model.query_entity, model.candidate_entity), query_columns)
    save_entities(folder, model.others, model.encoder)


def load_pair_scorer(folder: Path, version: int = FORMAT_VERSION) -> PairScorer:
    """Read a ranker from a folder.

    Args:
        folder: Its files.
        version: The format of its Run.

    Raises:
        RunError: If a file is missing, damaged, or does not fit the others.
    """
    content, spec, encoder = load_parts(folder, RankerSpec, version, RANKER_KEYS)
    model = built(folder, lambda: spec.build(encoder))
    query, candidate, seen = load_known(folder)
    check_titles(folder / "model.json", content["titles"], candidate, content["candidate"])
    others = load_entities(folder, content["entities"])
    decisions = decisions_in(folder, content["decisions"], encoder.labels)
    return PairScorer(
        spec,
        encoder,
        model,
        query,
        candidate,
        seen,
        content["titles"],
        content["query"],
        content["candidate"],
        others,
        decisions,
    )

"""Another query side in a trained two-tower: brought into the space of its candidates, so that an index of them stays valid."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from towerkit.core.errors import RunError
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset
from towerkit.data.fingerprint import rows_fingerprint
from towerkit.evaluation.compare import compare
from towerkit.evaluation.result import Evaluation
from towerkit.matching.alignment import LinearMap, Method, fitted
from towerkit.measurable import held_out_part
from towerkit.measured import ranked_beside_baselines
from towerkit.metrics.significance import Difference
from towerkit.models.aligned import check_sides, seen_by_both, shared_rows, with_query_side, with_seen
from towerkit.models.answer import Retriever
from towerkit.outcomes.asked import Outcome
from towerkit.run import Run
from towerkit.run_writer import write_run
from towerkit.spec import ExperimentSpec, ModelingSpec
from towerkit.storage.atomic import check_target
from towerkit.storage.hashes import content_hash, read_json
from towerkit.training.loop import History


@dataclass(frozen=True)
class Realigned:
    """A Run with another query side, and what the exchange cost."""

    run: Run
    map: LinearMap
    shared: int
    """Queries that both Runs know: what the map was fitted on."""
    errors: Mapping[str, float]
    """Method -> what it misses of a fifth of these that it was not fitted on, as a share of their squared length."""
    before: Evaluation
    """The Run whose candidates stay, with its own query side."""
    swapped: Evaluation | None
    """The other query side as it is; None where its vectors have another width."""
    same_rows: bool
    """Whether both Runs were trained with the same rows; else the one that comes may have learned from rows measured here."""

    @property
    def after(self) -> Evaluation:
        """The other query side, through the map."""
        return self.run.evaluation

    def lost(self) -> dict[str, Difference]:
        """Metric -> what is gained (lost, if negative) by the exchange, over the same queries."""
        return compare(self.before, self.after)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        parts = {"before": self.before, "swapped": self.swapped, "realigned": self.after}
        return {
            "run": str(self.run.path),
            "space": self.run.space,
            "method": self.map.method,
            "shared_queries": self.shared,
            "errors": dict(self.errors),
            "same_rows": self.same_rows,
            "metrics": {name: None if each is None else each.as_dict()["metrics"] for name, each in parts.items()},
            "differences": {name: each.as_dict() for name, each in self.lost().items()},
        }


def realign(
    folder: Path,
    old: Run,
    new: Run,
    dataset: Dataset,
    *,
    method: Method | Literal["auto"] = "auto",
    overwrite: bool = False,
) -> Realigned:
    """Put the query side of one Run before the candidates of another, through a linear map, measure it, and write a Run.

    The map is fitted on the queries that both know. Candidate vectors are the same bits as before and so is the embedding-space
    id: an index that was built of the old Run is searched by the new one.

    Args:
        folder: The new Run's folder; must not exist, unless ``overwrite``.
        old: A two-tower whose candidates stay.
        new: A two-tower whose query side comes.
        dataset: The data that the old Run was trained with, under the same split; its held-out part is measured on.
        method: A rotation (``procrustes``), any linear map (``least_squares``), or whichever misses less.
        overwrite: Replace an existing Run.

    Raises:
        RunError: If a Run is no two-tower, the two do not fit each other, too few queries are known to both, or the old one was
            trained with other rows.
        SpecError: If the two sides cannot stand beside each other.
    """
    started = time.perf_counter()
    check_target(folder, overwrite)
    ours, theirs = _retriever(old), _retriever(new)
    same_rows = _check_rows(old, new, dataset)
    check_sides(ours, theirs)
    found, errors, shared = _map_between(ours, theirs, method)
    model = with_query_side(ours, theirs, found, old.space)
    spec = _spec(old, model)
    evaluation, baselines = _measured(model, spec, dataset)
    told = {
        "run": old.path.name,
        "sha256": _seal(old),
        "query_of": new.path.name,
        "fitted": f"a linear map ({found.method}) from its query vectors to those of {old.path.name}, on {shared:,} queries that "
        "both know",
    }
    outcome = Outcome(model, evaluation, baselines, History(), time.perf_counter() - started, replaces=told)
    written = write_run(folder, spec, dataset, outcome, overwrite=overwrite)
    plain = _without_baselines(spec)
    before = _measured(with_seen(ours, seen_by_both(ours, theirs), theirs.query), plain, dataset)[0]
    swapped = None
    if theirs.model.query.out_dim == ours.model.candidate.out_dim:
        swapped = _measured(with_query_side(ours, theirs, None, old.space), plain, dataset)[0]
    return Realigned(written, found, shared, errors, before, swapped, same_rows)


def _map_between(
    ours: Retriever, theirs: Retriever, method: Method | Literal["auto"]
) -> tuple[LinearMap, dict[str, float], int]:
    """From the query vectors of one Run to those of the other, as their match sees them."""
    rows, same = shared_rows(theirs.query, ours.query)
    source, target = theirs.query_vectors, ours.query_vectors
    least = max(source.shape[1], 2)
    if len(rows) < least:
        raise RunError(
            f"Both Runs know {len(rows):,} queries in common, and a map from {source.shape[1]} dimensions wants at least "
            f"{least:,}. Train the new one on more of the old queries, or build the index again with its own candidates."
        )
    shift = ours.model.match.similarity != "cosine"  # of vectors of length one only directions count
    found, errors = fitted(source[rows], target[same], method, shift=shift)
    return found, errors, len(rows)


def _retriever(run: Run) -> Retriever:
    model = run.model
    if not isinstance(model, Retriever):
        raise RunError(
            f"{run.path} is a {run.kind}, and two spaces of vectors are aligned: give a two_tower. A member of a late fusion is "
            "replaced by: towerkit replace."
        )
    return model


def _check_rows(old: Run, new: Run, dataset: Dataset) -> bool:
    """Whether both were trained with the rows of this data; the old one must."""
    known, other = (read_json(run.path / "data.json").get("fingerprint") for run in (old, new))
    found = rows_fingerprint(dataset)
    differs = sorted(part for part in found if (known or {}).get(part) != found[part])
    if differs:
        raise RunError(
            f"{old.path} was trained with other rows: its {', '.join(differs)} differ from this data, so held-out rows may have "
            "been learned from. Give the data that it was trained with."
        )
    return bool(other == known)


def _spec(old: Run, model: Retriever) -> ModelingSpec:
    """The spec of the old Run with the new query side; segments and starts of towers, which may name columns and towers that
    went, are left out.
    """
    kind = ExperimentSpec if "data" in old.spec else ModelingSpec
    changed = {
        "model": model.spec.model_dump(mode="json"),
        "training": {**old.spec["training"], "towers": {}, "engine": "auto"},
        "evaluation": {**old.spec["evaluation"], "segments": []},
    }
    return parse(kind, {**old.spec, **changed}, f"{old.path.name} with another query side")


def _without_baselines(spec: ModelingSpec) -> ModelingSpec:
    return spec.model_copy(update={"evaluation": spec.evaluation.model_copy(update={"baselines": ()})})


def _measured(model: Retriever, spec: ModelingSpec, dataset: Dataset) -> tuple[Evaluation, Mapping[str, Evaluation]]:
    refitted = spec.training.refit and len(dataset.parts.test) > 0
    learned = (held_out_part(dataset)[2] if refitted else dataset).parts.train
    return ranked_beside_baselines(replace(model), spec, dataset, np.asarray(learned))


def _seal(run: Run) -> str:
    return content_hash({name: entry.sha256 for name, entry in run.manifest.files.items()})

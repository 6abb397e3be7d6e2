"""A fusion of rankers to files and back: the catalogues once, each member in a folder of its own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_array

from towerkit.artifact.arrow import load_table, save_table
from towerkit.core.errors import RunError, listed
from towerkit.core.spec import parse
from towerkit.data.table import Table, values_of
from towerkit.ensembles.late import LATE_FUSION_KEYS, LateFusion, LateFusionSpec, load_late_fusion
from towerkit.ensembles.rank_fusion import RankFusion
from towerkit.ensembles.rank_members import load_rank_member, stored_matrix
from towerkit.features.encoded import Catalogue
from towerkit.storage.documents import read_document
from towerkit.storage.hashes import write_json
from towerkit.storage.migrations import FORMAT_VERSION
from towerkit.storage.tensors import load_tensors, save_tensors

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
    content = read_document(folder / "model.json", version, ("spec",), {*LATE_FUSION_KEYS, *_KEYS})
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
    }
    write_json(folder / "model.json", content)
    save_table(folder / "query.arrow", _with_key(fusion.query, dict.fromkeys([*fusion.query_columns, *query_columns])))
    save_table(folder / "candidate.arrow", _shown(fusion.candidate))
    starts, candidates = fusion.seen.indptr.astype(np.int64), fusion.seen.indices.astype(np.int32)
    save_tensors(folder / "seen.safetensors", {"starts": starts, "candidates": candidates})


def load_rank_fusion(folder: Path, version: int = FORMAT_VERSION) -> RankFusion:
    """Read a fusion of rankers and its members.

    Args:
        folder: Its files.
        version: The format of its Run.

    Raises:
        RunError: If a file is missing, damaged, or does not fit the others.
    """
    where = folder / "model.json"
    content = read_document(where, version, _KEYS)
    spec = parse(LateFusionSpec, content["spec"], str(where))
    query, candidate = _catalogue(folder / "query.arrow"), _catalogue(folder / "candidate.arrow")
    shape = len(query.keys), len(candidate.keys)
    seen = _seen(folder / "seen.safetensors", shape)
    members = {
        name: load_rank_member(folder / "members" / name, member, query, candidate, version)
        for name, member in spec.members.items()
    }
    titles, weights = content["titles"], content["weights"]
    _check_weights(where, weights, spec)
    _check_titles(where, titles, candidate, content["candidate"])
    return RankFusion(spec, members, weights, query, candidate, seen, titles, content["query"], content["candidate"])


def _seen(path: Path, shape: tuple[int, int]) -> csr_array:
    pairs = load_tensors(path)
    if pairs.keys() != {"starts", "candidates"}:
        raise RunError(f"{path} holds {listed(pairs)} in place of starts and candidates; train the Run again.")
    return stored_matrix(
        path, pairs["starts"], pairs["candidates"], np.ones(len(pairs["candidates"]), np.float32), shape
    )


def _check_weights(where: Path, weights: Any, spec: LateFusionSpec) -> None:
    good = isinstance(weights, Mapping) and weights.keys() == spec.members.keys()
    numbers = list(weights.values()) if good else []
    if not good or not all(isinstance(each, int | float) and math.isfinite(each) for each in numbers):
        raise RunError(
            f"{where}: needs one finite weight for each of {listed(spec.members)}; it has {weights!r}. Train the Run again."
        )


def _check_titles(where: Path, titles: Any, candidate: Catalogue, entity: str) -> None:
    """The title of an answer is looked up long after the Run was opened."""
    title = titles.get(entity) if isinstance(titles, dict) else titles
    if not isinstance(titles, dict) or (title is not None and title not in candidate.table.data.column_names):
        raise RunError(
            f"{where}: titles names {title!r} as the column shown of '{entity}'; candidate.arrow has "
            f"{listed(candidate.table.data.column_names)}. Train the Run again."
        )


def _shown(catalogue: Catalogue) -> pa.Table:
    """The key and every column but pictures and sounds: titles and filters want them."""
    fields = catalogue.table.data.schema
    return _with_key(catalogue, [field.name for field in fields if not pa.types.is_binary(field.type)])


def _with_key(catalogue: Catalogue, names: Iterable[str]) -> pa.Table:
    columns = {catalogue.key: catalogue.keys}
    return pa.table(columns | {name: catalogue.table.data.column(name) for name in names if name != catalogue.key})


def _catalogue(path: Path) -> Catalogue:
    """The first column is the key."""
    table = load_table(path)
    key = table.column_names[0]
    keys = values_of(table, key)
    return Catalogue(key, keys, len(keys), Table(table, path.name, 0))

"""Another query side over the candidates of a trained two-tower: as it is, or through a map into their space."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from torch import Tensor

from towerkit.core.errors import RunError, listed
from towerkit.core.spec import parse
from towerkit.features.columns import IdSpec
from towerkit.features.encoded import Catalogue
from towerkit.features.encoder import Encoder
from towerkit.fusion import AlignedSpec
from towerkit.matching.alignment import LinearMap
from towerkit.models.answer import Retriever
from towerkit.models.side import FusedSideSpec, SideSpec, reads_history, towers_of
from towerkit.models.two_tower import TwoTowerSpec
from towerkit.towers.ties import CANDIDATE


def shared_rows(one: Catalogue, other: Catalogue) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows, from 1, of the keys that two catalogues have in common.

    Args:
        one: Its rows come first.
        other: Its rows of the same keys.
    """
    found = other.rows(one.keys)
    return np.flatnonzero(found) + 1, found[found > 0]


def check_sides(old: Retriever, new: Retriever) -> None:
    """Refuse a query side that cannot stand beside the candidates of another training.

    Args:
        old: Whose candidates stay.
        new: Whose query side comes.

    Raises:
        RunError: If the two rank other things, compare vectors in other ways, or the query side is made of its own candidates.
    """
    ours, theirs = ((each.query_entity, each.candidate_entity) for each in (old, new))
    if ours != theirs:
        raise RunError(
            f"The two Runs rank other things: {ours[1]} for {ours[0]}, and {theirs[1]} for {theirs[0]}. Give the columns the "
            "same names, and train one of them again."
        )
    if old.model.match.similarity != new.model.match.similarity:
        raise RunError(
            f"One Run compares vectors by {old.model.match.similarity}, the other by {new.model.match.similarity}: no linear map "
            "makes one of the other. Train one of them again with the same model.match."
        )
    made = [name for name, tower in towers_of(new.spec.query).items() if getattr(tower, "of", None) == CANDIDATE]
    if made:
        raise RunError(
            f"The query side that comes has the weights of its own candidates in the tower(s) {listed(made)} (of: candidate), "
            "which stay behind. Train it with of: own."
        )
    if reads_history(new.spec.query) and _codes(old) != _codes(new):
        raise RunError(
            "The query side that comes reads histories, by the codes of the candidates that its Run knows; the Run whose "
            "candidates stay knows others, or reads no candidate by its id. Train both on the same candidates, each with an id."
        )


def with_query_side(old: Retriever, new: Retriever, into: LinearMap | None, space: str | None) -> Retriever:
    """The candidates of one training with the query side of another.

    Args:
        old: Its candidate side, catalogue and match stay.
        new: Its query side and catalogue of queries come.
        into: From the query vectors of the new one into the space of the old; None takes them as they are.
        space: The embedding-space id of the old one.

    Raises:
        RunError: See :func:`check_sides`.
        SpecError: If the two sides cannot stand beside each other.
    """
    check_sides(old, new)
    spec, encoder = _spec(old, new, into), _encoder(old, new)
    with torch.random.fork_rng(devices=[]):
        model = spec.build(encoder, (old.query_entity, old.candidate_entity))
    model.load_state_dict(_weights(old, new, into))
    return Retriever(
        spec,
        encoder,
        model.eval(),
        new.query,
        old.candidate,
        seen_by_both(old, new),
        queries_average_candidates=False,
        titles={old.query_entity: new.titles[old.query_entity], old.candidate_entity: old.titles[old.candidate_entity]},
        events=new.events,
        aligned_to=space,
    )


def seen_by_both(old: Retriever, new: Retriever) -> csr_array:
    """``[new queries, old candidates]`` the pairs that either of two trainings learned from, as far as both keys are there."""
    pairs = [
        _moved(each.seen, _places(each.query, new.query), _places(each.candidate, old.candidate)) for each in (old, new)
    ]
    rows, columns = (np.concatenate([pair[axis] for pair in pairs]) for axis in (0, 1))
    shape = (len(new.query.keys), len(old.candidate.keys))
    found = csr_array(coo_array((np.ones(len(rows), np.float32), (rows, columns)), shape=shape))
    found.sum_duplicates()
    found.data[:] = 1.0
    found.sort_indices()
    return found


def _places(source: Catalogue, wanted: Catalogue) -> NDArray[np.int64]:
    """``[keys]`` the place of each key in another catalogue, from 0; -1 where it is not there."""
    return wanted.rows(source.keys) - 1


def _moved(
    seen: csr_array, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    pairs = seen.tocoo()
    row, column = rows[pairs.row], columns[pairs.col]
    kept = (row >= 0) & (column >= 0)
    return row[kept], column[kept]


def _spec(old: Retriever, new: Retriever, into: LinearMap | None) -> TwoTowerSpec:
    query = new.spec.query if into is None else _through(new.spec.query, len(into.weight))
    plain = old.spec.model_dump(mode="json") | {"query": query.model_dump(mode="json")}
    return parse(TwoTowerSpec, plain, "the query side of one Run beside the candidates of another")


def _through(side: SideSpec, dim: int) -> FusedSideSpec:
    """The side with a map behind it; one that has a map already gets another in its place."""
    if not isinstance(side, FusedSideSpec):
        return FusedSideSpec.model_validate({"towers": towers_of(side), "backbone": AlignedSpec(dim=dim)})
    own = side.backbone.of if isinstance(side.backbone, AlignedSpec) else side.backbone
    return side.model_copy(update={"backbone": AlignedSpec.model_validate({"dim": dim, "of": own})})


def _encoder(old: Retriever, new: Retriever) -> Encoder:
    return Encoder(
        {
            old.query_entity: new.encoder.features.get(new.query_entity, ()),
            old.candidate_entity: old.encoder.features.get(old.candidate_entity, ()),
        },
        {},
    )


def _weights(old: Retriever, new: Retriever, into: LinearMap | None) -> dict[str, Tensor]:
    """The weights of both sides; a map that stood behind the query side and the one that comes are one map together."""
    found = {name: tensor for name, tensor in old.model.state_dict().items() if not name.startswith("query.")}
    own = {name: tensor for name, tensor in new.model.state_dict().items() if name.startswith("query.")}
    if into is None:
        return found | own
    side, weight, bias = new.spec.query, into.weight, into.bias
    if isinstance(side, FusedSideSpec) and isinstance(side.backbone, AlignedSpec):
        before = [own.pop(f"query.backbone.map.{part}").double().numpy() for part in ("weight", "bias")]
        weight, bias = weight @ before[0], weight @ before[1] + bias
    elif isinstance(side, FusedSideSpec):
        own = {name.replace("query.backbone.", "query.backbone.inner.", 1): tensor for name, tensor in own.items()}
    mapped = {"weight": weight, "bias": bias}
    return (
        found
        | own
        | {f"query.backbone.map.{part}": torch.from_numpy(array.astype(np.float32)) for part, array in mapped.items()}
    )


def _codes(model: Retriever) -> list[pa.Scalar] | None:
    """The candidates in the order of their id codes; None where no tower reads them so."""
    for fitted in model.encoder.features.get(model.candidate_entity, ()):
        if isinstance(fitted.spec, IdSpec):
            known = fitted.feature.state().vocabulary
            return None if known is None else list(known.values.to_pylist())
    return None


def with_seen(model: Retriever, seen: csr_array, query: Catalogue) -> Retriever:
    """A model that leaves out what others have seen, as far as it knows the queries.

    Args:
        model: Its candidates are those of the pairs.
        seen: ``[queries, candidates]``.
        query: The queries of these pairs.
    """
    row, column = _moved(seen, _places(query, model.query), np.arange(seen.shape[1]))
    found = csr_array(coo_array((np.ones(len(row), np.float32), (row, column)), shape=model.seen.shape))
    own = csr_array(found.maximum(model.seen))
    own.sort_indices()
    return replace(model, seen=own)

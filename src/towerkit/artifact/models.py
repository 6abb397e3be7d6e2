"""Trained models to files and back. Loading runs no code: weights are safetensors, the rest is JSON and Arrow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, get_args

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from towerkit.artifact.arrow import load_table, save_table
from towerkit.artifact.catalogues import check_titles, load_catalogue, load_known, save_known, shown_columns, with_key
from towerkit.artifact.events import load_events, save_events
from towerkit.artifact.known import RETRIEVER_KEYS, RETRIEVER_OPTIONAL_KEYS
from towerkit.artifact.pretrained import load_pretrained, save_pretrained
from towerkit.artifact.shapes import shapes_of
from towerkit.artifact.space import aligned_with
from towerkit.core.errors import RunError, listed
from towerkit.core.spec import Spec, parse, short
from towerkit.data.table import values_of
from towerkit.features.encoded import Catalogue
from towerkit.features.encoder import Encoder
from towerkit.features.labels import Labels, TaskKind
from towerkit.heads.decision import Decision
from towerkit.models.answer import Retriever, TaskPredictor
from towerkit.models.pair_scorer import PairScorer
from towerkit.models.tower_model import TowerModelSpec
from towerkit.models.two_tower import TwoTowerSpec
from towerkit.storage.documents import read_document
from towerkit.storage.hashes import read_json, write_json
from towerkit.storage.migrations import FORMAT_VERSION
from towerkit.storage.tensors import load_tensors, save_tensors, tensor_shapes
from towerkit.towers.id import num_ids

S = TypeVar("S", bound=Spec)
M = TypeVar("M", bound=nn.Module)
PREDICTOR_KEYS = ("spec", "entities")
"""The keys of ``model.json``."""
OPTIONAL_KEYS = ("decisions",)
"""Those of a tower model that Runs written before them lack."""


def save_predictor(
    folder: Path, predictor: TaskPredictor, columns: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> None:
    """Write a tower model into a folder.

    Args:
        folder: Made if it is not there.
        predictor: What to write.
        columns: Entity -> columns to keep beside those that the towers read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "entities": sorted(predictor.entities),
        "decisions": {task: decision.as_dict() for task, decision in predictor.decisions.items()},
    }
    save_parts(folder, predictor.spec, predictor.encoder, predictor.model, about)
    save_entities(folder, predictor.entities, predictor.encoder, columns)


def load_predictor(folder: Path, version: int = FORMAT_VERSION) -> TaskPredictor:
    """Read a tower model from a folder.

    Args:
        folder: Its files.
        version: The format of its Run.

    Raises:
        RunError: If a file is missing, damaged, or does not fit the others.
    """
    content, spec, encoder = load_parts(folder, TowerModelSpec, version, PREDICTOR_KEYS)
    model = built(folder, lambda: spec.build(encoder))
    entities = load_entities(folder, content["entities"])
    return TaskPredictor(
        spec, encoder, model, entities, decisions_in(folder, content.get("decisions", {}), encoder.labels)
    )


def save_entities(
    folder: Path,
    entities: Mapping[str, Catalogue],
    encoder: Encoder,
    columns: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> None:
    """Write the tables of some entities, by their place in the order of their names.

    Args:
        folder: Where to.
        entities: Entity -> its rows.
        encoder: It knows what is read of them.
        columns: Entity -> columns to keep beside.
    """
    for number, name in enumerate(sorted(entities)):
        save_table(
            folder / f"entity-{number}.arrow", kept_columns(entities[name], encoder, name, columns.get(name, ()))
        )


def load_entities(folder: Path, names: Sequence[str]) -> dict[str, Catalogue]:
    """What :func:`save_entities` wrote.

    Args:
        folder: Its files.
        names: Of the entities, in order.

    Raises:
        RunError: If a file is missing or damaged.
    """
    return {name: load_catalogue(folder / f"entity-{number}.arrow") for number, name in enumerate(names)}


def decisions_in(folder: Path, stored: Mapping[str, Any], tasks: Mapping[str, Labels]) -> dict[str, Decision]:
    """How the logits of each task become an answer, as ``model.json`` has it.

    Args:
        folder: Of the model, for messages.
        stored: Task -> decision in plain data.
        tasks: Those of the model.

    Raises:
        RunError: If a decision is none, or of a task that is not there.
    """
    found = {}
    for task, told in stored.items():
        try:
            decision = found[task] = Decision.from_dict(told)
            known = tasks[task].num_outputs
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"{folder / 'model.json'}: what it says of the task '{task}' cannot be used ({error}); train the Run again."
            ) from None
        if len(decision.thresholds) not in (1, known):
            raise RunError(
                f"{folder / 'model.json'}: the task '{task}' has {known} outputs and {len(decision.thresholds)} thresholds; "
                "train the Run again."
            )
    return found


def save_retriever(folder: Path, retriever: Retriever, *, query_columns: Sequence[str] = ()) -> None:
    """Write a two-tower with its catalogues and trained pairs into a folder.

    Args:
        folder: Made if it is not there.
        retriever: What to write.
        query_columns: Columns of the queries to keep beside those that the towers read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = retriever.model
    save_parts(
        folder,
        retriever.spec,
        retriever.encoder,
        model,
        {
            "query": model.query_entity,
            "candidate": model.candidate_entity,
            "queries_average_candidates": retriever.queries_average_candidates,
            "titles": dict(retriever.titles),
        },
    )
    save_both_sides(folder, retriever, (model.query_entity, model.candidate_entity), query_columns)
    if retriever.events is not None:
        save_events(folder / "history.safetensors", retriever.events)
    if retriever.aligned_to is not None:
        content = read_json(folder / "model.json")
        write_json(folder / "model.json", content | {"aligned": aligned_with(folder, retriever.aligned_to)})


def save_both_sides(
    folder: Path, model: Retriever | PairScorer, entities: tuple[str, str], query_columns: Sequence[str]
) -> None:
    """Write the queries and candidates that a model knows, and the pairs of them that it was trained on.

    Args:
        folder: Where to.
        model: It has them.
        entities: The names of the query and the candidate entity.
        query_columns: Columns of the queries to keep beside those that the towers read.
    """
    kept = kept_columns(model.query, model.encoder, entities[0], query_columns)
    shown = shown_columns(model.candidate, model.encoder.columns(entities[1]))
    whole = model.encoder.portable(entities[1], model.candidate.table)
    save_known(folder, kept, with_key(replace(model.candidate, table=whole), shown), model.seen)


def load_retriever(folder: Path, version: int = FORMAT_VERSION) -> Retriever:
    """Read a two-tower from a folder.

    Args:
        folder: Its files.
        version: The format of its Run.

    Raises:
        RunError: If a file is missing, damaged, or does not fit the others.
    """
    content, spec, encoder = load_parts(folder, TwoTowerSpec, version, RETRIEVER_KEYS)
    model = built(folder, lambda: spec.build(encoder, (content["query"], content["candidate"])))
    query, candidate, seen = load_known(folder)
    check_titles(folder / "model.json", content["titles"], candidate, content["candidate"])
    events = None
    if model.query.reaches():
        events = load_events(folder / "history.safetensors", query.num_known, num_ids(encoder, content["candidate"]))
    return Retriever(
        spec,
        encoder,
        model,
        query,
        candidate,
        seen,
        queries_average_candidates=content["queries_average_candidates"],
        titles=content["titles"],
        events=events,
        aligned_to=content.get("aligned", {}).get("space"),
    )


def built(folder: Path, build: Callable[[], M]) -> M:
    """Make a module, fill it with the weights of a folder and set it to evaluation.

    It is made without memory first, to compare names and shapes with the file: a spec that asks for more than the file holds
    is refused before anything of that size is allocated.

    Args:
        folder: Holds ``weights.safetensors``.
        build: Makes the module; called twice, so it must be a pure function but for its random start.

    Raises:
        RunError: If names or shapes differ from the module's.
    """
    path = folder / "weights.safetensors"
    stored = tensor_shapes(path)
    with torch.random.fork_rng(devices=[]):
        _check_weights(path, shapes_of(build), stored)
        model = build()
    model.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in load_tensors(path).items()})
    return model.eval()


def _check_weights(path: Path, wanted: Mapping[str, tuple[int, ...]], stored: Mapping[str, tuple[int, ...]]) -> None:
    if wanted.keys() != stored.keys():
        lacks, has = listed(wanted.keys() - stored.keys()), listed(stored.keys() - wanted.keys())
        raise RunError(
            f"{path} does not fit its spec: it lacks the tensors [{lacks}] and has [{has}] that no part of the model reads; "
            "train the Run again."
        )
    for name, shape in wanted.items():
        if stored[name] != shape:
            raise RunError(
                f"{path} does not fit its spec: the tensor '{name}' has the shape {list(stored[name])}, and the model needs "
                f"{list(shape)}; train the Run again."
            )


def save_encoder(folder: Path, encoder: Encoder) -> None:
    """Write a fitted encoder."""
    content, vocabularies = encoder.as_dict()
    write_json(folder / "encoder.json", content)
    for number, values in enumerate(vocabularies):
        save_table(folder / f"vocabulary-{number}.arrow", pa.table({"value": values}))
    save_pretrained(folder, encoder.pretrained().values())


def load_encoder(folder: Path, version: int = FORMAT_VERSION) -> Encoder:
    """Read a fitted encoder.

    Args:
        folder: Its files.
        version: The format of its Run.

    Raises:
        RunError: If a file is missing or damaged.
    """
    content = read_document(folder / "encoder.json", version, ("features", "labels"))
    try:
        numbers = {
            entry["vocabulary"]
            for entries in content["features"].values()
            for entry in entries
            if "vocabulary" in entry
        }
        files = [folder / f"vocabulary-{number}.arrow" for number in range(len(numbers))]
        vocabularies = [values_of(load_table(file), "value") for file in files]
        encoder = Encoder.from_dict(content, vocabularies, load_pretrained(folder, content["features"]))
        check_labels(folder / "encoder.json", encoder.labels)
        return encoder
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        if isinstance(error, RunError):
            raise
        raise RunError(f"{folder / 'encoder.json'} is not an encoder this version wrote ({error!r}).") from None


def save_parts(folder: Path, spec: Spec, encoder: Encoder, model: nn.Module, extra: Mapping[str, Any]) -> None:
    """Write ``model.json``, the fitted encoder and the weights.

    Args:
        folder: Where to.
        spec: Of the model.
        encoder: What it reads.
        model: The trained module.
        extra: Further keys of ``model.json``.
    """
    write_json(folder / "model.json", {"spec": spec.model_dump(mode="json"), **extra})
    save_encoder(folder, encoder)
    save_tensors(folder / "weights.safetensors", dict(model.state_dict()))


def check_labels(path: Path, labels: Mapping[str, Labels]) -> None:
    """Refuse stored labels whose column or classes are no texts, stand twice, or are not those of their kind.

    They are compared with raw rows much later.

    Raises:
        RunError: Names the task.
    """
    for task, label in labels.items():
        texts = all(isinstance(text, str) for text in (label.column, *label.classes))
        if not texts or len(set(label.classes)) < len(label.classes):
            raise RunError(
                f"{path}: the task '{task}' has the column {short(label.column)} and the classes {short(label.classes)}, which "
                "must be texts, each once; train the Run again."
            )
        least = 0 if label.is_number else 1 if label.kind == "multilabel" else 2
        if (
            label.kind not in get_args(TaskKind)
            or len(label.classes) < least
            or label.is_number != (label.scale is not None)
        ):
            raise RunError(
                f"{path}: the task '{task}' is of the kind {short(label.kind)} and has {len(label.classes)} classes, which no "
                "training stores; train the Run again."
            )


def load_parts(
    folder: Path, spec_type: type[S], version: int, keys: tuple[str, ...]
) -> tuple[dict[str, Any], S, Encoder]:
    """Read ``model.json`` and the fitted encoder.

    Args:
        folder: Their files.
        spec_type: Of the model.
        version: The format of its Run.
        keys: Those of ``model.json``.

    Raises:
        RunError: If a file is missing or damaged, or the spec is none of this type.
    """
    optional = {TowerModelSpec: OPTIONAL_KEYS, TwoTowerSpec: RETRIEVER_OPTIONAL_KEYS}.get(spec_type, ())
    content = read_document(folder / "model.json", version, keys, optional)
    return content, parse(spec_type, content["spec"], str(folder / "model.json")), load_encoder(folder, version)


def kept_columns(catalogue: Catalogue, encoder: Encoder, entity: str, others: Sequence[str] = ()) -> pa.Table:
    """The key, and only the columns that the towers read and those asked for: no more about a person than is needed.

    Args:
        catalogue: The rows.
        encoder: It knows what is read.
        entity: Whose rows.
        others: Columns to keep beside.
    """
    wanted = dict.fromkeys([*encoder.columns(entity), *others])
    catalogue = replace(catalogue, table=encoder.portable(entity, catalogue.table))
    return with_key(catalogue, [name for name in wanted if name in catalogue.table.data.column_names])

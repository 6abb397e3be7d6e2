"""Vectors as points in a plane (their first two principal components), and the nearest neighbors of a few of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from towerkit.core.random import generator
from towerkit.data.table import Table, values_of
from towerkit.models.answer import Retriever, TaskPredictor
from towerkit.reporting.blocks import Block, Example, Examples, Figures, Item, Listing, Part, Section, Words
from towerkit.reporting.charts import Point, scatter
from towerkit.reporting.palette import NUM_SERIES
from towerkit.reporting.subject import HeldOut, Subject
from towerkit.run import Run

_SHOWN, _NEIGHBORS = 12, 5
_MOST_GROUPS = 24


def map_section(subject: Subject, most: int, seed: int) -> Section:
    """The vectors of a Run; why there are none, where it has none.

    Args:
        subject: Any Run.
        most: Points in a drawing.
        seed: Draws them, where there are more.
    """
    run = subject.run
    if run.rankings:
        parts = [_candidates(subject, run.ranking(name), name, most, seed) for name in run.rankings]
    elif isinstance(run.model, Retriever):
        parts = [_candidates(subject, run, "", most, seed)]
    elif isinstance(run.model, TaskPredictor):
        parts = [_states(subject, run.model, most, seed)]
    else:
        why = (
            "its members share no vector"
            if run.kind == "late_fusion"
            else "it scores pairs and has no vectors of its own"
        )
        parts = [Part("", (Words(f"No map: {why}."),))]
    return Section(subject.anchor("map"), subject.title("Embedding map"), tuple(parts))


def _candidates(subject: Subject, run: Run, name: str, most: int, seed: int) -> Part:
    model = run.model
    assert isinstance(model, Retriever)
    vectors, keys = model.candidate_vectors[1:], model.candidate.keys
    chosen = _chosen(len(keys), most, seed)
    column = model.titles.get(model.candidate_entity)
    titles = titled_keys(model.candidate.table.data, column, keys)
    groups = _groups(model.candidate.table.data, {model.candidate.key, column})
    title = f"Vectors of {model.candidate_entity}"
    told = [f"{titles[place]}{f' · {groups.of[place]}' if groups.of else ''}" for place in chosen]
    drawn = _map(subject, title, vectors[chosen], told, groups.among(chosen), len(keys))
    return Part(name, (drawn, *_neighbors(run, model, titles, seed)))


def _states(subject: Subject, model: TaskPredictor, most: int, seed: int) -> Part:
    if subject.data is None:
        return Part("", (Words(f"No map, since the data of the Run is not there: {subject.why_not}", is_note=True),))
    table = held_out_table(subject.data)
    chosen = _chosen(table.data.num_rows, most, seed)
    rows = replace(table, data=table.data.take(pa.array(chosen)), first_row=0)
    task, labels = next(iter(model.tasks.items()))
    column = values_of(rows.data, labels.column)
    texts = ["" if each is None else str(each) for each in column.to_pylist()]
    is_one = not labels.is_number and labels.kind != "multilabel"
    groups = _Groups(texts if is_one else [], tuple(labels.classes)[:NUM_SERIES] if is_one else ())
    told = [f"{table.where(int(row))}: {task} {text or 'unknown'}" for row, text in zip(chosen, texts, strict=True)]
    return Part(
        "", (_map(subject, f"States of rows by {task}", model.states(rows), told, groups, table.data.num_rows),)
    )


def held_out_table(data: HeldOut) -> Table:
    """The rows that were measured, with all their columns."""
    examples = data.dataset.examples
    return replace(examples, data=examples.data.take(pa.array(data.rows)), first_row=0)


@dataclass(frozen=True)
class _Groups:
    """What points are colored by."""

    of: Sequence[str]
    """One of each point; empty where nothing groups them."""
    names: tuple[str, ...]
    """The groups that have a color, the largest first."""

    def among(self, chosen: NDArray[np.int64]) -> _Groups:
        return _Groups([self.of[place] for place in chosen] if self.of else [], self.names)


def _chosen(count: int, most: int, seed: int) -> NDArray[np.int64]:
    if count <= most:
        return np.arange(count)
    return np.sort(generator(seed, "report", "points").permutation(count)[:most])


def titled_keys(data: pa.Table, column: str | None, keys: pa.Array) -> list[str]:
    """The title and the key of each row; the key alone where it has no title."""
    named = (
        data.column(column).to_pylist() if column is not None and column in data.column_names else [None] * len(keys)
    )
    return [f"{title} ({key})" if title else str(key) for title, key in zip(named, keys.to_pylist(), strict=True)]


def _groups(data: pa.Table, but: set[str | None]) -> _Groups:
    """The first column of texts that says only a few things."""
    for name in data.column_names:
        if name in but or not pa.types.is_string(data.schema.field(name).type):
            continue
        counts = pc.value_counts(data.column(name).combine_chunks().drop_null()).to_pylist()
        if 2 <= len(counts) <= _MOST_GROUPS:
            order = sorted(counts, key=lambda each: (-each["counts"], each["values"]))
            return _Groups(
                [each or "" for each in data.column(name).to_pylist()],
                tuple(each["values"] for each in order[:NUM_SERIES]),
            )
    return _Groups([], ())


def _map(
    subject: Subject, title: str, vectors: NDArray[np.float32], told: Sequence[str], groups: _Groups, all_of: int
) -> Block:
    plane, share = principal_plane(vectors)
    place = {name: number for number, name in enumerate(groups.names)}
    points = [
        Point(float(x), float(y), words, place.get(groups.of[number], -1) if groups.of else 0)
        for number, ((x, y), words) in enumerate(zip(plane, told, strict=True))
    ]
    about = f"{len(points):,} of {all_of:,} vectors in the plane of their first two principal components, which hold "
    about += f"{share:.0%} of their variance: what lies apart here is apart, what lies together may still differ. "
    about += "Point at a mark to read its name."
    chart = scatter(
        title, points, groups.names, about=about, axes=("first component", "second"), name=subject.anchor(title)
    )
    return Figures((chart,))


def principal_plane(vectors: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float64], float]:
    """The plane in which vectors differ most.

    Args:
        vectors: ``[points, dim]``.

    Returns:
        ``[points, 2]``, and the share of the variance that lies in it. The signs are those that make the largest coordinate of
        each direction positive, so that the same vectors give the same picture.

    Reference:
        Pearson (1901), On lines and planes of closest fit to systems of points in space.
    """
    found = np.asarray(vectors, np.float64)
    found = found - found.mean(axis=0)
    values, directions = np.linalg.eigh(found.T @ found)  # ascending
    two = directions[:, ::-1][:, :2]
    two = two * np.where(two[np.abs(two).argmax(axis=0), np.arange(two.shape[1])] < 0, -1.0, 1.0)
    total = float(values.sum())
    plane = np.zeros((len(found), 2))
    plane[:, : two.shape[1]] = found @ two
    return plane, float(values[::-1][:2].sum()) / total if total > 0 else 0.0


def _neighbors(run: Run, model: Retriever, titles: Sequence[str], seed: int) -> list[Block]:
    """A few candidates with those nearest to them."""
    counts = np.bincount(model.seen.indices, minlength=len(titles)).astype(float) + 1e-9
    size = min(_SHOWN, len(titles))
    chosen = np.sort(
        generator(seed, "report", "neighbors").choice(len(titles), size, replace=False, p=counts / counts.sum())
    )
    keys = model.candidate.keys.take(pa.array(chosen)).to_pylist()
    found = run.similar(keys, k=_NEIGHBORS)
    column = next(
        name for name in found.column_names if name in (model.candidate_entity, f"{model.candidate_entity}_key")
    )
    place = {key: number for number, key in enumerate(model.candidate.keys.to_pylist())}
    rows: dict[Any, list[Item]] = {key: [] for key in keys}
    of, near, scores = (found.column(name).to_pylist() for name in ("similar_to", column, "score"))
    for key, each, score in zip(of, near, scores, strict=True):
        rows[key].append(Item(f"{titles[place[each]]}: {score:.2f}"))
    cards = tuple(Example(titles[place[key]], (), (Listing("Nearest", tuple(items)),)) for key, items in rows.items())
    return [
        Words("The nearest neighbors of a few, drawn by how often they were met, with their likeness."),
        Examples(cards),
    ]

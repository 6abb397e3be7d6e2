"""No leak: what lies in a held-out row reaches nothing that is learned (contract 4 of the blueprint).

Invariants:
- every model kind of the contract trains to the same bytes when the values of its test rows, of its validation rows, or
  of the entity rows that only those point to are replaced;
- which training rows are chosen, and what they weigh, does not depend on held-out rows, whatever the filters, the decay
  and the split; with ``filter_on: all`` it does, and the protocol says so;
- the check finds planted leaks of each sort: a statistic, a vocabulary, classes, entity rows, known pairs among the
  negatives, logQ, a catalogue, seen pairs, histories, rows chosen by rows that are held out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.test_contract import CASES, the_encoder

import towerkit as tk
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset
from towerkit.data.learning import Chosen, Learning
from towerkit.data.splits import Parts, Rows
from towerkit.ensembles import fit_ranks
from towerkit.features import encoded, encoder
from towerkit.features.encoder import Encoder
from towerkit.outcomes import rankings
from towerkit.spec import ModelingSpec
from towerkit.testing.leaks import assert_no_leak, parts_move, replaced_rows
from towerkit.training import recipes

__all__ = ["the_encoder"]
"""A fixture: cases that read by a pretrained encoder find it."""


def case(name: str) -> tuple[ModelingSpec, Dataset]:
    """A case of the contract as a spec and a data set."""
    found = CASES[name]
    data = tk.read(found.examples, **found.roles, split=found.split, entities=found.entities)
    return parse(ModelingSpec, dict(found.spec)), data


def popular() -> tuple[ModelingSpec, Dataset]:
    """Negatives drawn by popularity and from the batch, corrected by logQ."""
    spec, data = case("two_tower_ids")
    described = spec.model_dump()
    described["objective"] = {
        "loss": {"kind": "sampled_softmax"},
        "negatives": [{"kind": "popularity", "count": 3}, {"kind": "in_batch"}],
    }
    return parse(ModelingSpec, described), data


def test_log_q_is_counted_in_training_rows() -> None:
    assert_no_leak(*popular())


def test_a_planted_log_q_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = recipes.material_of

    def material(arrays: Any, rows: Rows, entities: tuple[str, str], training: Any) -> Any:
        found = honest(arrays, rows, entities, training)
        counts = np.bincount(arrays.index[entities[1]], minlength=len(found.counts)).astype(np.float64)
        return replace(found, counts=counts[: len(found.counts)])

    monkeypatch.setattr(recipes, "material_of", material)
    with pytest.raises(AssertionError, match=r"test rows.*learned this changed too: model/weights\.safetensors$"):
        assert_no_leak(*popular())


HEAVY = [name for name, each in CASES.items() if "'pretrained'" in str(each.spec["model"])]
"""Each trains an encoder or asks it, several times over."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long if name in HEAVY else ()) for name in CASES]
)
def test_no_kind_learns_from_held_out_rows(name: str) -> None:
    assert_no_leak(*case(name))


def test_without_a_test_part_the_validation_rows_must_not_matter() -> None:
    spec, data = case("tower_model")
    assert_no_leak(spec, data.with_parts(Parts(data.parts.train, data.parts.test, data.parts.validation[:0])))


def test_the_change_reaches_every_column_of_the_rows_and_no_other_row() -> None:
    _, data = case("tower_model")
    before, after = data.examples.data, replaced_rows(data, data.parts.test).examples.data
    assert before.schema == after.schema
    rest = np.union1d(data.parts.train, data.parts.validation)
    assert after.take(rest).equals(before.take(rest))
    for name in before.column_names:
        one, other = (table.column(name).take(data.parts.test).to_pylist() for table in (before, after))
        assert np.mean([first != second for first, second in zip(one, other, strict=True)]) > 0.4, name


# --- planted leaks ------------------------------------------------------------------------------------------------


def every_row(dataset: Dataset) -> Rows:
    return np.arange(dataset.examples.data.num_rows)


def leak_in_fit(patch: pytest.MonkeyPatch) -> None:
    """Statistics, vocabularies and classes of all rows."""
    honest = Encoder.fit.__func__  # type: ignore[attr-defined]
    patch.setattr(
        Encoder, "fit", classmethod(lambda cls, demand, data, rows: honest(cls, demand, data, every_row(data)))
    )


def leak_of_statistics(patch: pytest.MonkeyPatch) -> None:
    honest = encoder.training_rows
    patch.setattr(encoder, "training_rows", lambda data, entity, rows: honest(data, entity, every_row(data)))


def leak_of_keys(patch: pytest.MonkeyPatch) -> None:
    honest = encoder.training_keys
    patch.setattr(encoder, "training_keys", lambda data, entity, rows: honest(data, entity, every_row(data)))


def leak_of_classes(patch: pytest.MonkeyPatch) -> None:
    """How frequent the classes are: where the heads start."""
    honest: Callable[..., Encoder] = Encoder.fit.__func__  # type: ignore[attr-defined]

    def fit(cls: type[Encoder], demand: Any, data: Dataset, rows: Rows) -> Encoder:
        found = honest(cls, demand, data, rows)
        labels = {
            task: demand.labels[task].fit(data.labelled(label.column, every_row(data)))
            for task, label in found.labels.items()
        }
        return Encoder(found.features, labels)

    patch.setattr(Encoder, "fit", classmethod(fit))


def leak_of_entity_rows(patch: pytest.MonkeyPatch) -> None:
    """Statistics of all rows of an entity table, also of those that only test rows point to."""
    honest = encoder.training_rows

    def rows_of(data: Dataset, entity: str, rows: Rows) -> Any:
        return data.entities[entity].table if entity in data.entities else honest(data, entity, rows)

    patch.setattr(encoder, "training_rows", rows_of)


def leak_of_known_pairs(patch: pytest.MonkeyPatch) -> None:
    """Negatives that are never a positive of the test."""
    honest = recipes.pairs_matrix

    def pairs(arrays: Any, rows: Rows, entities: tuple[str, str]) -> Any:
        known = arrays.index[entities[1]] <= arrays.catalogues[entities[1]].num_known
        return honest(arrays, np.flatnonzero(known), entities)

    patch.setattr(recipes, "pairs_matrix", pairs)


def leak_of_seen_pairs(patch: pytest.MonkeyPatch) -> None:
    """What popularity and item-kNN count: half of the test pairs, so that something is left to ask for."""
    honest = rankings.pairs_matrix

    def pairs(arrays: Any, rows: Rows, entities: tuple[str, str]) -> Any:
        rest = np.setdiff1d(np.arange(len(arrays.index[entities[0]])), rows)
        return honest(arrays, np.union1d(rows, rest[::2]), entities)

    patch.setattr(rankings, "pairs_matrix", pairs)


def leak_of_the_catalogue(patch: pytest.MonkeyPatch) -> None:
    """Candidates first seen in the test among the negatives and the answers."""
    honest = encoded.catalogue_of
    patch.setattr(encoded, "catalogue_of", lambda data, entity, learned: honest(data, entity, every_row(data)))


def leak_of_weights(patch: pytest.MonkeyPatch) -> None:
    """Weights of a fusion of rankers chosen on the test rows too."""
    honest = fit_ranks.Trial.of

    def both(fusion: Any, data: Any, evaluation: Any) -> Any:
        held_out = np.union1d(data.parts.validation, data.parts.test)
        return honest(fusion, data.with_parts(replace(data.parts, validation=held_out)), evaluation)

    patch.setattr(fit_ranks.Trial, "of", both)


def leak_of_histories(patch: pytest.MonkeyPatch) -> None:
    """Events of all rows."""
    honest = recipes.with_histories
    patch.setattr(
        recipes, "with_histories", lambda arrays, data, rows, *rest: honest(arrays, data, every_row(data), *rest)
    )


@pytest.mark.parametrize(
    ("name", "plant", "found"),
    [
        ("tower_model", leak_in_fit, r"test rows.*encoder\.json"),
        ("late_fusion_average", leak_in_fit, r"test rows.*members/text/encoder\.json"),
        ("tower_model", leak_of_statistics, r"test rows.*encoder\.json"),
        ("tower_model", leak_of_classes, r"test rows.*encoder\.json.*weights"),
        ("two_tower_ids", leak_of_keys, r"test rows.*vocabulary-0\.arrow"),
        ("two_tower_features", leak_of_entity_rows, r"rows of user_id that no learned row points to.*encoder\.json"),
        ("tower_model_entity", leak_of_entity_rows, r"rows of product_id that no learned row points to.*encoder\.json"),
        ("two_tower_ids", leak_of_known_pairs, r"test rows.*learned this changed too: model/weights\.safetensors$"),
        ("two_tower_ids", leak_of_seen_pairs, r"test rows.*learned this changed too: model/seen\.safetensors$"),
        ("two_tower_history_alone", leak_of_histories, r"test rows.*history\.safetensors"),
        ("two_tower_ids", leak_of_the_catalogue, r"test rows.*candidate\.arrow"),
        ("rank_fusion_weighted", leak_of_weights, r"test rows.*learned this changed too: model/model\.json$"),
    ],
)
def test_a_planted_leak_is_found(
    name: str, plant: Callable[[pytest.MonkeyPatch], None], found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, data = case(name)
    if plant is leak_of_entity_rows:  # else few entities are pointed to by test rows alone
        data = data.with_parts(Parts(data.parts.train[:60], data.parts.validation, data.parts.test))
    plant(monkeypatch)
    with pytest.raises(AssertionError, match=f"^a leak: (the )?{found}"):
        assert_no_leak(spec, data)


# --- which rows are learned from ----------------------------------------------------------------------------------

ROWS = 240
SETTINGS: list[dict[str, Any]] = [
    {"decay": {"half_life": 40}, "event": {"column": "kind", "weights": {"view": 1, "buy": 4}}},
    {"duplicates": "count", "weight": "w"},
    {"duplicates": "last"},
    {"min_count": {"query": 6, "candidate": 4}, "duplicates": "first"},
    {"k_core": 4},
    {"positive": "stars >= 3", "k_core": 2, "decay": {"half_life": 9.5}, "duplicates": "count"},
]


def events(part: bool = True) -> pa.Table:
    draw = np.random.default_rng(5)
    columns: dict[str, Any] = {
        "user": [f"u{n}" for n in draw.integers(0, 24, ROWS)],
        "item": draw.integers(0, 40, ROWS),
        "when": np.arange(ROWS) + 100,
        "stars": draw.integers(1, 6, ROWS),
        "w": draw.integers(1, 4, ROWS).astype(np.float64),
        "kind": draw.choice(["view", "buy"], ROWS),
        "part": ["train"] * 160 + ["validation"] * 30 + ["test"] * 50,
    }
    return pa.table(columns)


def made(examples: pa.Table, **settings: Any) -> Dataset:
    split = {"split": {"kind": "given", "column": "part"}}
    return tk.read(examples, query="user", candidate="item", time="when", **{**split, **settings})


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: " ".join(settings))
@pytest.mark.parametrize("refit", [False, True])
def test_training_rows_and_weights_do_not_depend_on_the_test(settings: dict[str, Any], *, refit: bool) -> None:
    def make(examples: pa.Table) -> Dataset:
        data = made(examples, **settings)
        return data.for_refit() if refit else data

    held_out = np.arange(190 if refit else 160, ROWS)
    columns = ["user", "item", "when", "stars", "w"]
    assert parts_move(make, events(), held_out, columns) == []
    chosen = make(events()).parts.train
    assert 0 < len(chosen) < ROWS
    assert len(chosen) < (190 if refit else 160) or "decay" in settings


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: " ".join(settings))
def test_rows_chosen_by_all_rows_are_found(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Learning.choose

    def choose(self: Learning, rows: Rows) -> Chosen:
        found = honest(self, np.arange(ROWS))
        return Chosen(np.intersect1d(found.rows, rows), found.weights)

    monkeypatch.setattr(Learning, "choose", choose)
    columns = ["user", "item", "when", "stars", "w"]
    moved = parts_move(lambda examples: made(examples, **settings), events(), np.arange(160, ROWS), columns)
    assert moved != []


def test_filters_on_all_rows_read_the_test_and_say_so() -> None:
    settings: dict[str, Any] = {"k_core": 4, "filter_on": "all"}
    moved = parts_move(lambda examples: made(examples, **settings), events(), np.arange(160, ROWS), ["user", "item"])
    assert moved == ["train"]
    split = made(events(), **settings).split
    assert split["filter_on"] == "all"
    assert "held-out rows decided" in split["warnings"][0]

"""Trained models to files and back.

Pinned: every saved piece comes back equal (encoder and vocabularies with their types, weights bit for bit, catalogues,
trained pairs, titles, entity tables, members and combiner); a Run keeps only the columns that its towers read of an
entity that it does not show; loading leaves torch's random state alone; weights or pairs that do not fit are refused.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from towerkit.api import read
from towerkit.artifact.arrow import load_table, save_table
from towerkit.artifact.joint import load_joint, save_joint
from towerkit.artifact.models import (
    load_encoder,
    load_predictor,
    load_retriever,
    save_encoder,
    save_predictor,
    save_retriever,
)
from towerkit.artifact.rankers import load_pair_scorer, save_pair_scorer
from towerkit.core.errors import RunError
from towerkit.data.roles import EXAMPLE
from towerkit.data.table import Table
from towerkit.ensembles.late import LateFusion
from towerkit.ensembles.late_files import load_late_fusion, save_late_fusion
from towerkit.features.columns import CategorySpec, IdSpec, NumberSpec
from towerkit.features.encoder import Demand, Encoder, LabelSpec
from towerkit.features.ngrams import NgramsSpec
from towerkit.index.pairs import pair_ranker
from towerkit.models.answer import Retriever, TaskPredictor
from towerkit.models.joint_retriever import JointRetriever
from towerkit.models.pair_scorer import PairScorer
from towerkit.run import Run
from towerkit.storage.tensors import load_tensors, save_tensors


def test_a_table_comes_back_and_anything_else_is_refused(tmp_path: Path) -> None:
    table = pa.table({"key": pa.array([7, None], pa.int32()), "text": ["ä", None], "raw": pa.array([b"\0", b""])})
    save_table(tmp_path / "t.arrow", table)
    assert load_table(tmp_path / "t.arrow").equals(table)
    whole = (tmp_path / "t.arrow").read_bytes()
    for damaged in (b"", b"ARROW1", whole[:-9], whole[: len(whole) // 2]):
        (tmp_path / "t.arrow").write_bytes(damaged)
        with pytest.raises(RunError, match=r"t\.arrow cannot be read as an Arrow file"):
            load_table(tmp_path / "t.arrow")
    with pytest.raises(RunError, match=r"none\.arrow"):
        load_table(tmp_path / "none.arrow")


def test_text_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """Arrow reads such a file without a word; what is in it fails wherever it is first looked at."""
    length, text = pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b"\xff\xfe")
    save_table(tmp_path / "t.arrow", pa.table({"key": pa.Array.from_buffers(pa.string(), 1, [None, length, text])}))
    with pytest.raises(RunError, match=r"t\.arrow cannot be read as an Arrow file \(.*UTF8"):
        load_table(tmp_path / "t.arrow")


def test_an_encoder_of_every_feature_and_label_comes_back(tmp_path: Path) -> None:
    rows = {
        "user": [11, 12, 11, 13], "color": ["red", "red", "blue", None], "size": [1.0, None, 3.5, -2.0],
        "text": ["soft wool", None, "wool!", ""], "liked": [1, 0, None, 1], "stars": ["b", "a", "c", "a"],
    }  # fmt: skip
    data = read(rows, split={"kind": "random", "validation": 0.0, "test": 0.0})
    labels = {"z": LabelSpec("liked", "binary"), "a": LabelSpec("stars", "multiclass")}
    demand = Demand(labels=labels)
    demand.add("user", [IdSpec(column="user")])
    features = [NumberSpec(column="size"), CategorySpec(column="color"), NgramsSpec(columns=("text",), buckets=32)]
    demand.add(EXAMPLE, features)
    encoder = Encoder.fit(demand, data, np.arange(4))
    save_encoder(tmp_path, encoder)
    again = load_encoder(tmp_path)
    assert again.labels == encoder.labels
    assert again.features.keys() == encoder.features.keys()
    fresh = Table(
        pa.table({"color": ["red", "mauve"], "size": [9.0, None], "text": ["wool", None], "more": [1, 2]}), "rows"
    )
    before, after = encoder.encode(EXAMPLE, fresh), again.encode(EXAMPLE, fresh)
    assert before.keys() == after.keys() == {"number:size", "category:color", "ngrams:text:32:2"}
    assert torch.equal(before["number:size"], after["number:size"])
    keys = Table(pa.table({"user": ["13", "x"]}), "keys")
    assert again.encode("user", keys)["id"].tolist() == [0, 3, 0], "ids stay numbers, whose texts are found"


def test_a_retriever_comes_back(runs: dict[str, Run], tmp_path: Path) -> None:
    model = runs["two_tower"].model
    assert isinstance(model, Retriever)
    save_retriever(tmp_path / "again", model)
    again = load_retriever(tmp_path / "again")
    assert again.spec == model.spec and again.titles == model.titles == {"user_id": None, "product_id": "title"}
    assert again.queries_average_candidates == model.queries_average_candidates
    assert again.query.keys.equals(model.query.keys) and again.candidate.keys.equals(model.candidate.keys)
    assert (again.seen != model.seen).nnz == 0 and again.seen.nnz > 100
    assert again.candidate.table.data.equals(model.candidate.table.data)
    for one, other in zip(model.model.state_dict().items(), again.model.state_dict().items(), strict=True):
        assert one[0] == other[0] and torch.equal(one[1], other[1])
    assert np.array_equal(again.query_vectors, model.query_vectors)
    assert not again.model.training


@pytest.mark.parametrize("titles", [["title"], None, {"product_id": "name"}, {"product_id": ["title"]}])
def test_a_title_that_is_no_column_is_refused_when_loading(runs: dict[str, Run], tmp_path: Path, titles: Any) -> None:
    model = runs["two_tower"].model
    assert isinstance(model, Retriever)
    save_retriever(tmp_path / "again", model)
    content = json.loads((tmp_path / "again" / "model.json").read_text(encoding="utf-8"))
    (tmp_path / "again" / "model.json").write_text(json.dumps({**content, "titles": titles}), encoding="utf-8")
    with pytest.raises(
        RunError, match=r"model\.json: titles names .* candidate\.arrow has 'brand', 'price', 'product_id', 'title'"
    ):
        load_retriever(tmp_path / "again")


def test_a_predictor_comes_back_with_only_what_its_towers_read(runs: dict[str, Run], tmp_path: Path) -> None:
    model = runs["tower_model"].model
    assert isinstance(model, TaskPredictor)
    save_predictor(tmp_path / "again", model)
    again = load_predictor(tmp_path / "again")
    products = again.entities["product_id"].table.data
    assert products.column_names == ["product_id", "brand", "price"], "not the title, which no tower reads"
    texts = {name: ["a", None] for name in ("title", "text", "category")}
    columns = {"product_id": ["p0001", "?"], "age": [30, None], "helpful_count": [None, 2], **texts}
    rows = Table(pa.table(columns), "rows")
    before, after = model.predict(rows), again.predict(rows)
    assert before.keys() == after.keys() == {"liked", "stars"}
    for task, values in before.items():
        assert np.array_equal(values, after[task])


def test_a_ranker_comes_back(runs: dict[str, Run], tmp_path: Path) -> None:
    model = runs["ranker"].model
    assert isinstance(model, PairScorer)
    save_pair_scorer(tmp_path / "again", model)
    again = load_pair_scorer(tmp_path / "again")
    assert again.spec == model.spec and again.titles == {"user_id": None, "product_id": "title"}
    assert again.query.keys.equals(model.query.keys) and again.candidate.keys.equals(model.candidate.keys)
    assert (again.seen != model.seen).nnz == 0 and again.seen.nnz > 100
    assert again.decisions == model.decisions and again.tasks == model.tasks
    assert again.others["store"].table.data.column_names == ["store", "city"]
    pairs = np.arange(3)
    assert np.array_equal(pair_ranker(again).scores(pairs), pair_ranker(model).scores(pairs))
    rows = Table(pa.table({"user_id": ["u0001", "?"], "product_id": ["p0001", "p0002"], "store": ["s1", None]}), "rows")
    assert np.array_equal(again.predictor.scores(rows), model.predictor.scores(rows))
    with pytest.raises(RunError, match=r"model\.json"):
        content = json.loads((tmp_path / "again" / "model.json").read_text(encoding="utf-8"))
        del content["entities"]
        (tmp_path / "again" / "model.json").write_text(json.dumps(content), encoding="utf-8")
        load_pair_scorer(tmp_path / "again")


def test_a_joint_model_comes_back(runs: dict[str, Run], tmp_path: Path) -> None:
    model = runs["joint"].model
    assert isinstance(model, JointRetriever)
    save_joint(tmp_path / "again", model)
    again = load_joint(tmp_path / "again")
    assert again.spec == model.spec and again.members.keys() == {"product_id", "store"}
    for name, member in model.members.items():
        assert np.array_equal(again.members[name].query_vectors, member.query_vectors)
        assert np.array_equal(again.members[name].candidate_vectors, member.candidate_vectors)
    (tmp_path / "again" / "members" / "store").rename(tmp_path / "away")
    (tmp_path / "again" / "members" / "product_id").rename(tmp_path / "again" / "members" / "store")
    (tmp_path / "away").rename(tmp_path / "again" / "members" / "product_id")
    with pytest.raises(RunError, match=r"does not fit its members 'product_id', 'store': they retrieve something else"):
        load_joint(tmp_path / "again")


def test_columns_that_are_asked_for_are_kept_where_they_are(runs: dict[str, Run], tmp_path: Path) -> None:
    """Also in a folder that is there already, below one that is not."""
    rows, pairs = runs["tower_model"].model, runs["two_tower"].model
    assert isinstance(rows, TaskPredictor) and isinstance(pairs, Retriever)
    products = rows.entities["product_id"].table.data
    kept = replace(rows.entities["product_id"], table=Table(products.append_column("title", products["brand"]), "p"))
    for columns in (("title", "nowhere", "product_id"), ()):
        save_predictor(tmp_path / "a" / "rows", replace(rows, entities={"product_id": kept}), {"product_id": columns})
        names = load_predictor(tmp_path / "a" / "rows").entities["product_id"].table.data.column_names
        assert names == ["product_id", "brand", "price", *columns[:1]]
    people = pa.table({"user_id": pairs.query.keys, "city": ["Rome"] * len(pairs.query.keys)})
    known = replace(pairs, query=replace(pairs.query, table=Table(people, "people")))
    for wanted in (["city", "nowhere"], []):
        save_retriever(tmp_path / "b" / "pairs", known, query_columns=wanted)
        assert load_retriever(tmp_path / "b" / "pairs").query.table.data.column_names == ["user_id", *wanted[:1]]


def test_a_picture_that_no_tower_reads_is_left_out(runs: dict[str, Run], tmp_path: Path) -> None:
    model = runs["two_tower"].model
    assert isinstance(model, Retriever)
    catalogue = model.candidate.table.data
    pictures = catalogue.append_column("picture", pa.array([b"x"] * len(catalogue)))
    save_retriever(tmp_path, replace(model, candidate=replace(model.candidate, table=Table(pictures, "products"))))
    assert load_retriever(tmp_path).candidate.table.data.column_names == catalogue.column_names


def test_an_encoder_that_nobody_wrote_is_refused(tmp_path: Path) -> None:
    data = read({"color": ["red", "blue"], "liked": [1, 0]}, split={"kind": "random", "validation": 0.0, "test": 0.0})
    demand = Demand(labels={"liked": LabelSpec("liked", "binary")})
    demand.add(EXAMPLE, [CategorySpec(column="color")])
    save_encoder(tmp_path, Encoder.fit(demand, data, np.arange(2)))
    whole = (tmp_path / "encoder.json").read_text(encoding="utf-8")
    for features, error in (([1], "AttributeError"), ({"example": [{}]}, "KeyError"), ({"example": 3}, "TypeError")):
        broken = {**json.loads(whole), "features": features}
        (tmp_path / "encoder.json").write_text(json.dumps(broken), encoding="utf-8")
        with pytest.raises(RunError, match=rf"encoder\.json is not an encoder this version wrote \({error}\("):
            load_encoder(tmp_path)
    (tmp_path / "encoder.json").write_text(whole, encoding="utf-8")
    (tmp_path / "vocabulary-0.arrow").unlink()
    with pytest.raises(RunError, match=r"vocabulary-0\.arrow cannot be read as an Arrow file"):
        load_encoder(tmp_path)


def test_a_late_fusion_comes_back_with_its_members_in_their_own_folders(runs: dict[str, Run], tmp_path: Path) -> None:
    model = runs["late_fusion"].model
    assert isinstance(model, LateFusion)
    save_late_fusion(tmp_path / "again", model)
    assert sorted(path.name for path in (tmp_path / "again" / "members").iterdir()) == ["trees", "words"]
    again = load_late_fusion(tmp_path / "again")
    assert list(again.members) == list(model.members) and again.tasks == model.tasks
    assert np.array_equal(again.combiners["liked"].coefficients, model.combiners["liked"].coefficients)
    rows = Table(
        pa.table({"title": ["a", None], "text": ["good", None], "age": [30, None], "category": ["bath", "?"]}), "rows"
    )
    assert np.array_equal(model.predict(rows)["liked"], again.predict(rows)["liked"])


@pytest.mark.parametrize("kind", ["two_tower", "tower_model", "late_fusion"])
def test_loading_leaves_the_random_state_alone(runs: dict[str, Run], kind: str) -> None:
    before = torch.get_rng_state()
    Run.load(runs[kind].path).model
    assert torch.equal(before, torch.get_rng_state())


def test_weights_of_another_model_are_refused(runs: dict[str, Run], tmp_path: Path) -> None:
    model = runs["two_tower"].model
    assert isinstance(model, Retriever)
    save_retriever(tmp_path, model)
    weights = dict(load_tensors(tmp_path / "weights.safetensors"))
    name = next(name for name in weights if name.endswith("table"))
    save_tensors(tmp_path / "weights.safetensors", {**weights, name: weights[name][:-1]})
    with pytest.raises(
        RunError,
        match=rf"weights\.safetensors does not fit its spec: the tensor '{name}' has the shape \[\d+, 4\], and the model needs",
    ):
        load_retriever(tmp_path)
    del weights[name]
    save_tensors(tmp_path / "weights.safetensors", weights)
    with pytest.raises(RunError, match=rf"it lacks the tensors \['{name}'\] and has \[\] that no part"):
        load_retriever(tmp_path)


@pytest.mark.parametrize(("small", "large"), [('"dim": 4', '"dim": 8192'), ('"buckets": 64', f'"buckets": {2**24}')])
def test_a_table_larger_than_its_weights_is_refused_before_it_is_made(
    runs: dict[str, Run], tmp_path: Path, small: str, large: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the size that the spec names is allocated: the module is only ever made without memory."""
    model = runs["two_tower"].model
    assert isinstance(model, Retriever)
    save_retriever(tmp_path, model)
    for path in (tmp_path / "model.json", tmp_path / "encoder.json"):
        path.write_text(path.read_text(encoding="utf-8").replace(small, large), encoding="utf-8")
    devices: list[str] = []
    original = torch.nn.Parameter.__new__

    def watched(cls: Any, data: Any = None, requires_grad: bool = True) -> Any:
        devices.append(str(data.device))
        return original(cls, data, requires_grad)

    monkeypatch.setattr(torch.nn.Parameter, "__new__", watched)
    with pytest.raises(
        RunError, match=rf"weights\.safetensors does not fit its spec: the tensor .* needs \[.*{large.split()[1]}"
    ):
        load_retriever(tmp_path)
    assert set(devices) == {"meta"}


def test_labels_that_are_no_texts_are_refused(runs: dict[str, Run], tmp_path: Path) -> None:
    model = runs["tower_model"].model
    assert isinstance(model, TaskPredictor)
    save_predictor(tmp_path, model)
    whole = json.loads((tmp_path / "encoder.json").read_text(encoding="utf-8"))
    for column, classes in (("recommended", ["0", 1.5]), ("recommended", ["0", "0"]), (None, ["0", "1"])):
        labels = {**whole["labels"], "liked": {**whole["labels"]["liked"], "column": column, "classes": classes}}
        (tmp_path / "encoder.json").write_text(json.dumps({**whole, "labels": labels}), encoding="utf-8")
        with pytest.raises(
            RunError, match=r"encoder\.json: the task 'liked' has the column .* which must be texts, each once"
        ):
            load_predictor(tmp_path)


@pytest.mark.parametrize("changed", [{"kind": 255}, {"kind": "regression"}, {"kind": ["binary"]}, {"classes": ["0"]}])
def test_labels_that_do_not_fit_their_kind_are_refused(
    runs: dict[str, Run], tmp_path: Path, changed: dict[str, Any]
) -> None:
    model = runs["tower_model"].model
    assert isinstance(model, TaskPredictor)
    save_predictor(tmp_path, model)
    whole = json.loads((tmp_path / "encoder.json").read_text(encoding="utf-8"))
    labels = {**whole["labels"], "liked": {**whole["labels"]["liked"], **changed}}
    (tmp_path / "encoder.json").write_text(json.dumps({**whole, "labels": labels}), encoding="utf-8")
    with pytest.raises(RunError, match=r"encoder\.json: the task 'liked' is of the kind .* which no training stores"):
        load_predictor(tmp_path)


def test_pairs_that_point_nowhere_are_refused(runs: dict[str, Run], tmp_path: Path) -> None:
    model = runs["two_tower"].model
    assert isinstance(model, Retriever)
    save_retriever(tmp_path, model)
    pairs = dict(load_tensors(tmp_path / "seen.safetensors"))
    beyond = pairs["candidates"].copy()
    beyond[0] = len(model.candidate.keys)
    for damaged in (
        {**pairs, "candidates": beyond},
        {**pairs, "candidates": beyond - 2 * beyond[0]},
        {**pairs, "starts": pairs["starts"][:-1]},
        {
            **pairs,
            "starts": np.where(np.arange(len(pairs["starts"])) == 2, pairs["starts"], 0),
        },  # read from outside once
        {**pairs, "starts": pairs["starts"].astype(np.int32)},
        {**pairs, "starts": pairs["starts"] + (np.arange(len(pairs["starts"])) == 0)},
        {**pairs, "candidates": pairs["candidates"][:-1]},
        {**pairs, "candidates": pairs["candidates"].astype(np.int64)},
        {**pairs, "candidates": pairs["candidates"][:, None]},
        {**pairs, "more": pairs["starts"]},
        {"starts": pairs["starts"]},
    ):
        save_tensors(tmp_path / "seen.safetensors", damaged)
        with pytest.raises(RunError, match=r"seen\.safetensors does not fit the catalogues"):
            load_retriever(tmp_path)


@pytest.mark.parametrize("deviation", [0.0, -1.0, [0.5, 0.5], None, "1"])
def test_a_mean_and_deviation_that_no_fit_gives_are_refused(tmp_path: Path, deviation: Any) -> None:
    rows = read(pa.table({"age": [1.0, 2.0, 4.0, 8.0] * 9, "size": [3.0, 1.0, 2.0, 2.5] * 9}))
    demand = Demand(labels={"size": LabelSpec("size", "regression")})
    demand.add(EXAMPLE, [NumberSpec(column="age")])
    save_encoder(tmp_path, Encoder.fit(demand, rows, rows.parts.train))
    load_encoder(tmp_path)
    content = json.loads((tmp_path / "encoder.json").read_text(encoding="utf-8"))
    for place in (content["features"][EXAMPLE][0]["state"], content["labels"]["size"]["scale"]):
        kept, place["deviation"] = place["deviation"], deviation
        (tmp_path / "encoder.json").write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(RunError, match=r"encoder\.json is not an encoder this version wrote.*deviation"):
            load_encoder(tmp_path)
        place["deviation"] = kept

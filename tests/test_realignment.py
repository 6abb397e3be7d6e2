"""Another query side over the candidates of a trained two-tower.

Pinned: a planted rotation is found exactly, and with it every score and every figure of the old Run (under each match); between
two trainings of the shop the map brings back most of what the exchange alone loses; candidate vectors are the same bits, the
embedding-space id stays, an index of the old Run is searched by the new one with the answers of an exact ranking, and one of
another space is still refused; the Run opens in its own right, its card says where it comes from, and a second exchange folds two
maps into one; files that do not belong together are told; what cannot be brought together is refused by name.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from towerkit import cli
from towerkit.api import fit, read
from towerkit.core.errors import IndexFileError, RunError
from towerkit.data.dataset import Dataset, read_dataset
from towerkit.matching.alignment import fitted, least_squares, procrustes
from towerkit.models.answer import Retriever
from towerkit.realignment import Realigned, realign
from towerkit.run import Run
from towerkit.run_writer import save_model, train_run
from towerkit.spec import load_spec
from towerkit.training.progress import Silent
from towerkit.training.state import seeded_torch

DIM = 6


def pairs(extra: int = 0) -> dict[str, list[str]]:
    """Sixty people in four circles, who take what their circle takes."""
    draw = np.random.default_rng(3)
    rows = [(u, int(i)) for u in range(60 + extra) for i in draw.permutation(12)[:7] + 12 * (u % 4)]
    return {"user": [f"u{u}" for u, _ in rows], "item": [f"i{i}" for _, i in rows]}


def data(extra: int = 0) -> Dataset:
    return read(
        pairs(extra), query="user", candidate="item", split={"kind": "per_query", "validation": 0.1, "test": 0.2}
    )


def spec(dim: int = DIM, seed: int = 0, match: str = "dot", **parts: Any) -> dict[str, Any]:
    return {
        "model": {
            "kind": "two_tower",
            "query": {"kind": "id", "dim": dim},
            "candidate": {"kind": "id", "dim": dim},
            **parts,
        }
        | {"match": {"kind": match}},
        "training": {"epochs": 25, "seed": seed, "batch_size": 64, "optimizer": {"kind": "adam", "lr": 0.03}},
        "evaluation": {"k": [5]},
    }


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trainings of the same rows, one of another width, and what the first two make together."""
    folder = tmp_path_factory.mktemp("runs")
    fit(spec(), data(), run=folder / "old")
    fit(spec(seed=5), data(), run=folder / "new")
    fit(spec(dim=9, seed=7), data(), run=folder / "wide")
    return folder


@pytest.fixture(scope="module")
def found(runs: Path) -> Realigned:
    return realign(runs / "both", Run.load(runs / "old"), Run.load(runs / "new"), data())


def turned(model: Retriever, rotation: np.ndarray) -> Retriever:
    """The same model in a space that is turned: both sides, so that no score changes."""
    turn = torch.from_numpy(rotation.astype(np.float32))
    weights = {name: tensor @ turn for name, tensor in model.model.state_dict().items()}
    built = model.spec.build(model.encoder, (model.query_entity, model.candidate_entity))
    built.load_state_dict(weights)
    return replace(model, model=built.eval())


@pytest.mark.parametrize("match", ["dot", "cosine", "euclidean"])
def test_a_planted_rotation_is_found(tmp_path: Path, match: str) -> None:
    old = fit(spec(match=match, seed=1), data(), run=tmp_path / "old")
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(DIM, DIM)))[0]
    model = old.model
    assert isinstance(model, Retriever)
    other = Run.load(tmp_path / "old")
    with seeded_torch(0):
        vars(other)["model"] = turned(model, rotation)
    found = realign(tmp_path / "both", old, other, data(), method="procrustes")
    np.testing.assert_allclose(found.map.weight, rotation, atol=1e-5)
    back = found.run.model
    assert isinstance(back, Retriever)
    np.testing.assert_allclose(back.query_vectors, model.query_vectors, atol=1e-4)
    for name, pair in found.lost().items():
        assert pair.second == pytest.approx(pair.first, abs=1e-9), name
    assert found.swapped is not None
    assert (
        found.swapped.metrics["recall@5"].value < found.before.metrics["recall@5"].value - 0.1
    )  # the exchange alone loses


def test_maps_are_those_of_a_few_lines() -> None:
    draw = np.random.default_rng(0)
    source, target = draw.normal(size=(40, 5)), draw.normal(size=(40, 3))
    ones = np.column_stack([source, np.ones(40)])
    plain = np.linalg.lstsq(ones, target, rcond=None)[0]
    shifted = least_squares(source, target, shift=True)
    np.testing.assert_allclose(shifted(source), ones @ plain, atol=1e-4)
    turn = procrustes(source, target)
    scale = np.linalg.norm(turn.weight, 2)
    np.testing.assert_allclose(turn.weight @ turn.weight.T, scale**2 * np.eye(3), atol=1e-9)
    best = turn.error(source, target)
    for _ in range(50):  # no other such map is nearer
        other = np.linalg.qr(draw.normal(size=(5, 3)))[0].T
        length = (source @ other.T * target).sum() / np.square(source @ other.T).sum()
        assert replace(turn, weight=length * other).error(source, target) >= best
    map_, errors = fitted(source @ np.diag([1, 2, 3, 4, 5]), source)  # no rotation: a stretch
    assert map_.method == "least_squares"
    assert errors["least_squares"] < 1e-6 < errors["procrustes"]


def test_the_candidates_their_index_and_their_space_stay(runs: Path, found: Realigned) -> None:
    old, run = Run.load(runs / "old"), Run.load(runs / "both")
    assert isinstance(old.model, Retriever) and isinstance(run.model, Retriever)
    assert run.model.candidate_vectors.tobytes() == old.model.candidate_vectors.tobytes()
    assert run.space == old.space == run.manifest.space
    assert run.space != Run.load(runs / "new").space
    old.index(out=runs / "index")
    told = run.recommend("u3", k=5, index=runs / "index").to_pydict()
    assert told["item"] == run.recommend("u3", k=5).to_pydict()["item"]
    assert (
        told["item"] != old.recommend("u3", k=5).to_pydict()["item"]
        or told["score"] != old.recommend("u3", k=5)["score"].to_pylist()
    )
    with pytest.raises(IndexFileError, match=str(Run.load(runs / "new").space)[:12]):
        Run.load(runs / "new").recommend("u3", k=5, index=runs / "index")


def test_most_of_what_the_exchange_loses_comes_back(found: Realigned) -> None:
    assert found.swapped is not None and found.shared == 60 and found.same_rows
    before, swapped, after = (each.metrics["recall@5"].value for each in (found.before, found.swapped, found.after))
    assert before > swapped + 0.2
    assert after > swapped + 0.5 * (before - swapped)
    assert found.lost()["recall@5"].n == 60


def test_its_files_say_where_it_comes_from(runs: Path, found: Realigned) -> None:
    extra = found.run.manifest.extra["replaces"]
    assert (extra["run"], extra["query_of"]) == ("old", "new")
    card = (found.run.path / "card.md").read_text(encoding="utf-8")
    assert "candidates are those of the Run `old`" in card and "60 queries that both know" in card
    assert found.run.spec["model"]["query"]["backbone"] == {"kind": "aligned", "dim": DIM, "of": None}
    content = json.loads((found.run.path / "model" / "model.json").read_text(encoding="utf-8"))
    assert content["aligned"]["space"] == Run.load(runs / "old").space


def test_a_second_exchange_is_one_map(runs: Path, found: Realigned, tmp_path: Path) -> None:
    again = realign(tmp_path / "again", Run.load(runs / "wide"), found.run, data(), method="least_squares")
    names = [name for name in again.run.model.model.state_dict() if "map" in name]  # type: ignore[union-attr]
    assert names == ["query.backbone.map.weight", "query.backbone.map.bias"]
    source = found.run.model.query_vectors  # type: ignore[union-attr]
    np.testing.assert_allclose(again.run.model.query_vectors, again.map(source), atol=1e-4)  # type: ignore[union-attr]
    assert again.swapped is None  # six dimensions beside nine


def test_files_of_another_run_are_told(runs: Path, found: Realigned, tmp_path: Path) -> None:
    from towerkit.storage.manifest import write_manifest

    shutil.copytree(found.run.path, tmp_path / "mixed")
    manifest = found.run.manifest
    wide = realign(tmp_path / "other", Run.load(runs / "old"), Run.load(runs / "wide"), data())
    save_model(tmp_path / "put", wide.run.model)
    shutil.copy(tmp_path / "put" / "weights.safetensors", tmp_path / "mixed" / "model" / "weights.safetensors")
    (tmp_path / "mixed" / "manifest.json").unlink()
    write_manifest(tmp_path / "mixed", kind="two_tower", extra=manifest.extra, space=manifest.space)
    with pytest.raises(RunError, match="do not belong together"):
        _ = Run.load(tmp_path / "mixed").space


def test_what_cannot_be_brought_together_is_told(runs: Path, tmp_path: Path) -> None:
    old = Run.load(runs / "old")
    cosine = fit(spec(match="cosine"), data(), run=tmp_path / "cosine")
    with pytest.raises(RunError, match="by dot, the other by cosine"):
        realign(tmp_path / "x", old, cosine, data())
    renamed = {"person": pairs()["user"], "item": pairs()["item"]}
    other = fit(
        spec(), read(renamed, query="person", candidate="item", split={"kind": "per_query"}), run=tmp_path / "named"
    )
    with pytest.raises(RunError, match="item for user, and item for person"):
        realign(tmp_path / "x", old, other, data())
    strangers = {"user": [f"x{u}" for u in pairs()["user"]], "item": pairs()["item"]}
    apart = fit(
        spec(), read(strangers, query="user", candidate="item", split={"kind": "per_query"}), run=tmp_path / "s"
    )
    with pytest.raises(RunError, match=r"know 0 queries in common.*6 dimensions wants at least 6"):
        realign(tmp_path / "x", old, apart, data())
    with pytest.raises(RunError, match="trained with other rows"):
        realign(tmp_path / "x", old, Run.load(runs / "new"), data(extra=4))
    read_ = spec()
    read_["model"]["query"] = {"kind": "history", "dim": DIM, "of": "candidate"}
    with pytest.raises(RunError, match=r"history.*of: candidate.*Train it with of: own"):
        realign(tmp_path / "x", old, fit(read_, data(), run=tmp_path / "history"), data())
    assert not (tmp_path / "x").exists()


def test_a_history_that_reads_its_own_table_comes_along(runs: Path, tmp_path: Path) -> None:
    reads = spec(seed=2)
    reads["model"]["query"] = {"kind": "history", "dim": DIM, "of": "own"}
    new = fit(reads, data(), run=tmp_path / "history")
    found = realign(tmp_path / "both", Run.load(runs / "old"), new, data())
    model = found.run.model
    assert isinstance(model, Retriever) and model.reads_history
    assert found.run.recommend(history=["i0", "i1"], k=3).num_rows == 3


def test_the_command(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["towerkit", *words])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        told = capsys.readouterr()
        return int(stopped.value.code or 0), told.out, told.err

    rows = pairs()
    lines = ["user,item", *(f"{u},{i}" for u, i in zip(rows["user"], rows["item"], strict=True))]
    (tmp_path / "pairs.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    described = spec() | {
        "data": {
            "examples": {"path": "pairs.csv", "query": "user", "candidate": "item"},
            "split": {"kind": "per_query", "validation": 0.1, "test": 0.2},
        }
    }
    for name, dim in (("old", DIM), ("new", 8)):
        for side in ("query", "candidate"):
            described["model"][side]["dim"] = dim
        (tmp_path / f"{name}.json").write_text(json.dumps(described), encoding="utf-8")
        assert call("train", str(tmp_path / f"{name}.json"), "--run", str(tmp_path / name))[0] == 0
    words = ["realign", str(tmp_path / "old"), str(tmp_path / "new"), "--base", str(tmp_path), "--run"]
    status, out, _ = call(*words, str(tmp_path / "one"), "--json")
    told = json.loads(out)
    assert status == 0 and told["shared_queries"] == 60 and told["same_rows"] and told["metrics"]["swapped"] is None
    assert told["differences"]["recall@5"]["second"] == told["metrics"]["realigned"]["recall@5"]["value"]
    assert told["space"] == Run.load(tmp_path / "old").space
    status, out, _ = call(*words, str(tmp_path / "two"), "--method", "procrustes")
    assert status == 0 and "another width" in out and "an index of the old Run stays valid" in out
    status, _, err = call("realign", str(runs / "old"), str(tmp_path / "new"), "--run", str(tmp_path / "x"))
    assert status == 1 and "table in memory" in err


@pytest.mark.long
def test_on_the_shop_a_new_side_of_another_width_is_as_good_as_the_old_one(tmp_path: Path) -> None:
    path = Path(__file__).parents[1] / "examples" / "shop_one_backprop.yaml"
    settings = ["update.kind=two_backprop", "training.epochs=15"]
    dataset = read_dataset(load_spec(path, settings).data, base=path.parent, seed=0)
    runs = []
    for seed, dim in ((0, 32), (1, 48)):
        sides = [f"model.{side}={{kind: id, dim: {dim}}}" for side in ("query", "candidate")]
        spec_ = load_spec(path, [*settings, *sides, f"training.seed={seed}"])
        runs.append(train_run(tmp_path / str(seed), spec_, dataset, Silent())[0])
    found = realign(tmp_path / "both", *runs, dataset)
    pair = found.lost()["recall@20"]
    assert found.map.method == "least_squares" and found.shared == 1200
    assert pair.low > -0.03 and pair.high > 0  # no more is lost than chance explains

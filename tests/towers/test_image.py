"""Towers over pictures, and Runs that hold them.

Invariants:
- augmentation changes pictures in training only, keeps them between 0 and 1, mirrors half of them; all at 0 change nothing;
- the convolution learns what pictures show; its vectors do not depend on a row's company;
- a Run whose entity was described by paths answers as before when the files are gone; bad files stand in its protocol and in
  the notes of an answer;
- an interrupted training with augmentation goes on bit for bit; in chunks loss and weights are those of the whole batch.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

import towerkit as tk
from towerkit.core.errors import DataError, SpecError
from towerkit.core.spec import parse
from towerkit.data.shop import shop_table
from towerkit.experiment import estimates_of
from towerkit.run_writer import train_run
from towerkit.spec import ModelingSpec
from towerkit.towers.augmentation import Augmentation, AugmentationSpec
from towerkit.towers.convolution import SmallConvolution
from towerkit.training.progress import Silent
from towerkit.training.state import seeded_torch

IMAGE: dict[str, Any] = {
    "kind": "image",
    "column": "image",
    "size": 12,
    "encoder": {"kind": "convolution", "channels": [8, 8], "augment": {}},
    "dim": 8,
}
TRAINING = {"epochs": 2, "batch_size": 32, "optimizer": {"kind": "adam", "lr": 0.01}}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWERKIT_CACHE", str(tmp_path / "cache"))


def test_augmentation_is_for_training_only() -> None:
    pictures = torch.rand(64, 3, 10, 10, generator=torch.Generator().manual_seed(0))
    module = AugmentationSpec().build()
    with seeded_torch(1):
        changed = module(pictures)
        assert not torch.equal(module(pictures), changed)
    with seeded_torch(1):
        assert torch.equal(module(pictures), changed)
    assert changed.shape == pictures.shape
    assert bool(((changed >= 0.0) & (changed <= 1.0)).all())
    assert torch.equal(module.eval()(pictures), pictures)
    nothing = Augmentation(flip=False, crop=0.0, color=0.0)
    assert torch.equal(nothing(pictures), pictures)


def test_half_are_mirrored_and_colors_move_by_their_share() -> None:
    pictures = torch.rand(400, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    with seeded_torch(0):
        mirrored = Augmentation(flip=True, crop=0.0, color=0.0)(pictures)
        colored = Augmentation(flip=False, crop=0.0, color=0.1)(pictures * 0.5 + 0.2)
    same = (mirrored - pictures).abs().amax(dim=(1, 2, 3)) < 1e-5
    turned = (mirrored - pictures.flip(3)).abs().amax(dim=(1, 2, 3)) < 1e-5
    assert bool((same ^ turned).all()) and 0.4 < float(turned.float().mean()) < 0.6
    change = colored.mean(dim=(1, 2, 3)) / (pictures * 0.5 + 0.2).mean(dim=(1, 2, 3))
    assert 0.9 - 1e-5 <= float(change.min()) < 0.93 and 1.07 < float(change.max()) <= 1.1 + 1e-5


def test_a_row_does_not_depend_on_its_company() -> None:
    with seeded_torch(0):
        module, pictures = SmallConvolution(3, (4, 6, 8)), torch.rand(5, 3, 17, 17)
    together = module(pictures)
    assert together.shape == (5, 8)
    for row in range(5):
        torch.testing.assert_close(module(pictures[row : row + 1])[0], together[row], rtol=0, atol=1e-6)


def products(folder: Path) -> pa.Table:
    """The shop's products with paths of pictures; one is lost and one is damaged."""
    table = shop_table("products", size="small").select(["product_id", "category", "image"])
    (folder / "pictures").mkdir()
    names = []
    for place, content in enumerate(table["image"].to_pylist()):
        names.append(f"pictures/{place}.png")
        (folder / names[-1]).write_bytes(content[:500] if place == 4 else content)
    (folder / names[2]).unlink()
    return table.set_column(2, "image", pa.array(names))


def test_a_run_carries_the_pictures_that_paths_named(tmp_path: Path) -> None:
    pa.parquet.write_table(products(tmp_path), tmp_path / "products.parquet")
    pa.parquet.write_table(shop_table("purchases", size="small").slice(0, 800), tmp_path / "bought.parquet")
    spec = {
        "data": {
            "examples": {"path": str(tmp_path / "bought.parquet"), "query": "user_id", "candidate": "product_id"},
            "entities": {"product_id": {"path": str(tmp_path / "products.parquet")}},
        },
        "model": {
            "kind": "two_tower",
            "query": {"kind": "id", "dim": 8},
            "candidate": {"towers": {"id": {"kind": "id", "dim": 8}, "image": IMAGE}},
        },
        "training": TRAINING,
    }
    trained = tk.fit(spec, run=tmp_path / "run")
    (warning,) = [text for text in trained.evaluate().protocol["split"]["warnings"] if "pictures" in text]
    assert "products.parquet: 2 of 80 pictures in the column 'image'" in warning
    assert "row 3 ('pictures/2.png') is not there; row 5 ('pictures/4.png') is damaged" in warning
    expected = trained.recommend("u0001", k=5)
    shutil.rmtree(tmp_path / "pictures")
    opened = tk.load(tmp_path / "run")
    assert opened.recommend("u0001", k=5).equals(expected)
    np.testing.assert_array_equal(
        np.stack(opened.embed(side="candidate")["vector"].to_pylist()),
        np.stack(trained.embed(side="candidate")["vector"].to_pylist()),
    )


def test_predictions_from_paths_of_the_request(tmp_path: Path) -> None:
    rows = products(tmp_path)
    model = {
        "kind": "tower_model",
        "towers": {"image": IMAGE},
        "heads": {"category": {"kind": "multiclass", "column": "category"}},
    }
    pa.parquet.write_table(rows, tmp_path / "rows.parquet")
    spec = {"data": {"examples": {"path": str(tmp_path / "rows.parquet")}}, "model": model, "training": TRAINING}
    run = tk.load(tk.fit(spec, run=tmp_path / "run").path)
    (warning,) = run.evaluate().protocol["split"]["warnings"]  # of all rows, and not again of those held out
    assert "2 of 80 pictures" in warning
    answer = run.predict(tmp_path / "rows.parquet")
    (note,) = tk.notes_of(answer)
    assert "rows.parquet: 2 of 80 pictures" in note
    bytes_of_them = rows.set_column(
        2,
        "image",
        pa.array(
            [
                (tmp_path / name).read_bytes() if (tmp_path / name).exists() else None
                for name in rows["image"].to_pylist()
            ]
        ),
    )
    given = run.predict(bytes_of_them)
    assert given["category"].equals(answer["category"])
    absent = run.predict(rows.set_column(2, "image", pa.nulls(80, pa.string())))
    assert len(set(absent["category"].to_pylist())) == 1 and tk.notes_of(absent) == []
    strict = {**model, "towers": {"image": {**IMAGE, "on_error": "refuse"}}}
    with pytest.raises(
        DataError, match=r"rows.parquet: The column 'image' must hold pictures .* row 3 \('pictures/2.png'\)"
    ):
        tk.fit({**spec, "model": strict}, run=tmp_path / "other")


class Stopped(Exception):
    """As if the process had been killed."""


class Stop(Silent):
    """Ends the training after its second epoch."""

    count = 0

    def epoch(self, record: Any, **about: Any) -> None:
        """Count."""
        self.count += 1
        if self.count == 3:
            raise Stopped


def test_resumed_is_uninterrupted(tmp_path: Path) -> None:
    table = shop_table("products", size="small").select(["product_id", "category", "image"])
    model = {
        "kind": "tower_model",
        "towers": {"image": IMAGE},
        "heads": {"category": {"kind": "multiclass", "column": "category"}},
    }
    spec = {"model": model, "training": {**TRAINING, "epochs": 3, "checkpoint_every": "epoch"}}
    whole = tk.fit(spec, tk.read(table), run=tmp_path / "whole")

    parsed = parse(ModelingSpec, spec)
    with pytest.raises(Stopped):
        train_run(tmp_path / "resumed", parsed, tk.read(table), Stop())
    resumed, _ = train_run(tmp_path / "resumed", parsed, tk.read(table), Silent(), resume=True)
    assert (resumed.path / "model" / "weights.safetensors").read_bytes() == (
        whole.path / "model" / "weights.safetensors"
    ).read_bytes()


def test_chunks_are_the_whole_batch() -> None:
    goods = shop_table("products", size="small").select(["product_id", "image"])
    plain = {**IMAGE, "encoder": {"kind": "convolution", "channels": [4]}}
    candidate = {"towers": {"id": {"kind": "id", "dim": 8}, "image": plain}}
    model = {"kind": "two_tower", "query": {"kind": "id", "dim": 8}, "candidate": candidate}
    bought = shop_table("purchases", size="small").slice(0, 400)
    losses = []
    for chunk in (None, 16):
        dataset = tk.read(bought, query="user_id", candidate="product_id", entities={"product_id": goods})
        run = tk.fit({"model": model, "training": {**TRAINING, "chunk": chunk, "refit": False}}, dataset)
        losses.append(
            [record["loss"] for record in map(json.loads, (run.path / "history.jsonl").read_text().splitlines())]
        )
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_the_estimate_counts_the_pixels_of_a_batch() -> None:
    table = shop_table("products", size="small").select(["category", "image"])
    heads = {"category": {"kind": "multiclass", "column": "category"}}
    spec = {"model": {"kind": "tower_model", "towers": {"image": IMAGE}, "heads": heads}, "training": TRAINING}
    found = estimates_of(parse(ModelingSpec, spec), tk.read(table))["model"]
    assert 32 * 3 * 12 * 12 < found.batch_bytes < 2 * 32 * 3 * 12 * 12


def test_it_learns_what_pictures_show() -> None:
    table = shop_table("products").select(["category", "image"])
    image = {**IMAGE, "size": 16, "encoder": {"kind": "convolution", "channels": [16, 32]}, "dim": 32}
    model = {
        "kind": "tower_model",
        "towers": {"image": image},
        "heads": {"category": {"kind": "multiclass", "column": "category"}},
    }
    run = tk.fit({"model": model, "training": {**TRAINING, "epochs": 12}}, tk.read(table))
    assert run.evaluate().metrics["accuracy"].value > 0.5  # chance is an eighth


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"column": "category", "encoder": {"kind": "convolution", "channels": []}}, "needs 1 or more entries"),
        (
            {"encoder": {"kind": "convolution", "channels": [0]}},
            "each stage has between 1 and 1,024 channels; received 0",
        ),
        ({"pattern": "{}{}"}, "a pattern has one {}, where the value"),
        ({"size": 4}, "greater than or equal to 8"),
        (
            {"column": "price"},
            "reads a column of the types .*; the column 'price' holds number values such as .*Name the column of paths",
        ),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    table = shop_table("products", size="small")
    model = {"towers": {"image": {**IMAGE, **settings}}, "heads": {"c": {"kind": "multiclass", "column": "category"}}}
    with pytest.raises(SpecError, match=message):
        tk.fit({"model": {"kind": "tower_model", **model}, "training": TRAINING}, tk.read(table))

"""Towers over pretrained encoders of pictures.

Invariants: the second training reads vectors and does not load the encoder; a changed picture is computed again; a Run answers
without the encoder's folder, as before; missing pictures have a learned vector; what is frozen does not move, what is trained
moves, at its own pace; a stored feature that no training wrote is refused; settings that exclude each other are refused.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import towerkit as tk
from towerkit.core.errors import RunError, SpecError
from towerkit.data.shop import shop_table
from towerkit.features import image_pretrained, media
from towerkit.features.base import State
from towerkit.features.image_pretrained import EncoderPixelsSpec, ImageVectorsSpec
from towerkit.pretrained import pictures
from towerkit.pretrained.folder import Pretrained
from towerkit.pretrained.source import PretrainedSource
from towerkit.storage.tensors import load_tensors

TRAINING = {"epochs": 2, "batch_size": 32, "optimizer": {"kind": "adam", "lr": 0.01}}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWERKIT_CACHE", str(tmp_path / "cache"))


def goods(rows: int = 60) -> pa.Table:
    table = shop_table("products", size="small").slice(0, rows).select(["product_id", "category", "image"])
    files = [None if place == 7 else content for place, content in enumerate(table["image"].to_pylist())]
    return table.set_column(2, "image", pa.array(files, pa.binary()))


def spec(folder: Path, train: Any = "frozen", **encoder: Any) -> dict[str, Any]:
    image = {
        "kind": "image",
        "column": "image",
        "encoder": {"kind": "pretrained", "path": str(folder), "train": train, **encoder},
        "dim": 8,
    }
    heads = {"category": {"kind": "multiclass", "column": "category"}}
    return {"model": {"kind": "tower_model", "towers": {"image": image}, "heads": heads}, "training": TRAINING}


def test_the_second_training_does_not_load_the_encoder(
    small_picture_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tk.fit(spec(small_picture_encoder), tk.read(goods()))
    calls: list[int] = []
    compute = pictures.PictureEncoder.compute

    def counted(self: pictures.PictureEncoder, pixels: Any) -> Any:
        calls.append(len(pixels))
        return compute(self, pixels)

    monkeypatch.setattr(pictures.PictureEncoder, "compute", counted)
    second = tk.fit(spec(small_picture_encoder), tk.read(goods()))
    assert [count for count in calls if count > 1] == []  # one empty picture tells the width
    assert second.evaluate().as_dict() == first.evaluate().as_dict()
    changed = goods().set_column(2, "image", pa.array(goods()["image"].to_pylist()[::-1], pa.binary()))
    tk.fit(spec(small_picture_encoder), tk.read(changed))
    assert [count for count in calls if count > 1] == []  # the same pictures in other rows
    tk.fit(spec(small_picture_encoder), tk.read(shop_table("products", size="small")))
    assert sum(count for count in calls if count > 1) == 21


def test_only_what_is_computed_is_told(small_picture_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "_CHUNK", 20)
    told = list[str]()
    monkeypatch.setattr(image_pretrained, "notice", told.append)
    tk.fit(spec(small_picture_encoder), tk.read(goods()))
    first = list(told)
    tk.fit(spec(small_picture_encoder), tk.read(goods()))
    assert "encoding pictures: 20 of 60" in first
    assert told == first


@pytest.mark.parametrize(
    ("train", "more"),
    [
        ("frozen", {"layers": [8]}),
        ("frozen", {"precision": "bfloat16"}),
        ("full", {"lr_factor": 0.1, "augment": {}}),
        ({"last": 1}, {}),
    ],
)
def test_a_run_needs_no_encoder_beside_it(
    tmp_path: Path, small_picture_encoder: Path, train: Any, more: dict[str, Any]
) -> None:
    folder = shutil.copytree(small_picture_encoder, tmp_path / "encoder")
    run = tk.fit(spec(folder, train, **more), tk.read(goods()), run=tmp_path / "run")
    expected = run.predict(goods())
    shutil.rmtree(folder)
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    answer = tk.load(tmp_path / "run").predict(goods())
    for name in expected.column_names[1:]:
        np.testing.assert_allclose(answer[name].to_numpy(), expected[name].to_numpy(), atol=1e-5)
    (home,) = (tmp_path / "run" / "model" / "pretrained").iterdir()
    assert (home / "model.safetensors").exists() == (train == "frozen")


def test_what_is_frozen_stays_and_what_is_trained_moves(tmp_path: Path, small_picture_encoder: Path) -> None:
    own = load_tensors(small_picture_encoder / "model.safetensors")
    moved = {}
    for name, train, factor in (("full", "full", 1.0), ("slow", "full", 1e-4), ("last", {"last": 1}, 1.0)):
        run = tk.fit(spec(small_picture_encoder, train, lr_factor=factor), tk.read(goods()), run=tmp_path / name)
        weights = load_tensors(run.path / "model" / "weights.safetensors")
        prefix = "towers.image.encoder.module.network."
        moved[name] = {key: float(np.abs(weights[prefix + key] - value).max()) for key, value in own.items()}
    learned = [key for key in own if not key.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    assert all(moved["full"][key] > 0 for key in learned)
    assert all(0 < moved["slow"][key] < 0.01 * max(moved["full"].values()) for key in learned)
    for name in moved:
        assert all(moved[name][key] == 0.0 for key in own if key not in learned), name
    first = [key for key in learned if "embedder" in key or "stages.0" in key]
    last = [key for key in learned if "stages.1" in key]
    assert first and last
    assert all(moved["last"][key] == 0.0 for key in first) and all(moved["last"][key] > 0.0 for key in last)


def test_stored_features_that_no_training_wrote(small_picture_encoder: Path) -> None:
    source = PretrainedSource(path=str(small_picture_encoder))
    table = goods()
    for kind in (ImageVectorsSpec, EncoderPixelsSpec):
        one = kind(column="image", source=source)
        state = one.fit(table).state()
        assert one.restore(state).name == one.fit(table).name
        for key, value in (("reader", {"size": 10**9}), ("reader", 3), ("pooling", "sum"), ("dim", -1), ("dim", 10**9)):
            if key in state.values:
                with pytest.raises(RunError, match="train the Run again"):
                    one.restore(State({**state.values, key: value}, None, Pretrained.of(small_picture_encoder)))
    with pytest.raises(RunError, match="lacks its pretrained encoder"):
        ImageVectorsSpec(column="image", source=source).restore(State(state.values))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr_factor": 0.1}, "'lr_factor' and 'augment' are for an encoder that is trained"),
        ({"augment": {}}, "'lr_factor' and 'augment' are for an encoder that is trained"),
        ({"train": "full", "layers": [3]}, "'precision' and 'layers' are for a frozen encoder"),
        ({"train": {"last": 9}}, "asks for more blocks than the encoder has, 2"),
        ({"train": {"lora": 2}}, "corrects linear layers, and the blocks of this encoder have none"),
        ({"path": "/nowhere"}, "cannot be read"),
    ],
)
def test_settings_that_cannot_be(small_picture_encoder: Path, settings: dict[str, Any], message: str) -> None:
    given = spec(small_picture_encoder)
    given["model"]["towers"]["image"]["encoder"] |= settings
    with pytest.raises(SpecError, match=message):
        tk.fit(given, tk.read(goods()))

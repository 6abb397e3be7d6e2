"""Bad pictures, sounds and vectors; see ``cases.py``."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import towerkit as tk
from towerkit.data.shop.pictures import png
from towerkit.data.shop.sounds import wav
from towerkit.run import Run

from .cases import TRAINING, case

CONVOLUTION = {"kind": "convolution", "channels": [4]}
PICTURE: dict[str, Any] = {"kind": "image", "column": "picture", "size": 8, "encoder": CONVOLUTION, "dim": 4}
SOUND: dict[str, Any] = {
    "kind": "audio",
    "column": "sound",
    "rate": 8000,
    "seconds": 0.25,
    "mels": 8,
    "encoder": CONVOLUTION,
    "dim": 4,
}
VECTOR: dict[str, Any] = {"kind": "vector", "columns": ["vector"], "dim": 4}


def good(place: int) -> bytes:
    """A picture of one color."""
    return png(np.full((10, 10, 3), 40 * (place % 6), np.uint8))


def promising(width: int, height: int) -> bytes:
    """A PNG whose header promises more than it holds."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def things(rows: int = 30) -> dict[str, list[Any]]:
    """Rows with a file each."""
    return {
        "picture": [good(place) for place in range(rows)],
        "sound": [wav(np.full(2000, 1000.0 * (place % 6))) for place in range(rows)],
        "vector": [[float(place % 3), 1.0, -2.0] for place in range(rows)],
        "liked": [place % 2 for place in range(rows)],
    }


def table(folder: Path, **columns: list[Any]) -> Path:
    """The things, with some other columns, as a Parquet file."""
    path = folder / "things.parquet"
    pq.write_table(pa.table({**things(), **columns}), path)
    return path


def told(run: Run) -> object:
    """The warnings of a training."""
    return run.evaluate().protocol["split"].get("warnings")


def trained(path: Path, tower: dict[str, Any]) -> Run:
    """A tower model over one tower."""
    model = {"kind": "tower_model", "towers": {"one": tower}, "heads": {"task": {"kind": "binary", "column": "liked"}}}
    return tk.fit({"data": {"examples": {"path": str(path)}}, "model": model, "training": TRAINING})


@cache
def seer() -> Run:
    """A trained image tower."""
    model = {
        "kind": "tower_model",
        "towers": {"one": PICTURE},
        "heads": {"task": {"kind": "binary", "column": "liked"}},
    }
    return tk.fit({"model": model, "training": TRAINING}, tk.read(pa.table(things())), run=Path(mkdtemp()) / "seer")


# ---------------------------------------------------------------- pictures, sounds and vectors


@case(
    "pictures that are cut short, promise too much, or are texts",
    "things.parquet",
    "row 2",
    "row 4",
    "row 6",
    "4 of 30",
    "more",
)
def _(folder: Path) -> object:
    pictures = things()["picture"]
    pictures[1] = pictures[1][:150]
    pictures[3] = promising(60_000, 60_000)
    pictures[5] = pictures[6] = b"a text"
    return told(trained(table(folder, picture=pictures), PICTURE))


@case("a damaged picture where none may be", "things.parquet", "'picture'", "row 9", "on_error: absent")
def _(folder: Path) -> object:
    pictures = things()["picture"]
    pictures[8] = b"\x89PNG\r\n\x1a\n"
    return trained(table(folder, picture=pictures), {**PICTURE, "on_error": "refuse"})


@case("paths of pictures that are not there", "things.parquet", "'picture'", "row 1", "'0.jpg'", "root")
def _(folder: Path) -> object:
    return trained(table(folder, picture=[f"{place}.jpg" for place in range(30)]), PICTURE)


@case(
    "a path that leads out of its root", "things.parquet", "row 3", "'../secret.png'", "leads out of the root pictures"
)
def _(folder: Path) -> object:
    (folder / "pictures").mkdir()
    (folder / "secret.png").write_bytes(good(1))
    for place in range(30):
        (folder / "pictures" / f"{place}.png").write_bytes(good(place))
    names = [f"{place}.png" for place in range(30)]
    names[2] = "../secret.png"
    return told(trained(table(folder, picture=names), {**PICTURE, "root": "pictures"}))


@case(
    "an address in place of a path, and a member that the archive lacks",
    "row 1",
    "row 2",
    "is an address",
    "pictures.zip",
)
def _(folder: Path) -> object:
    with zipfile.ZipFile(folder / "pictures.zip", "w") as archive:
        for place in range(30):
            archive.writestr(f"{place}.png", good(place))
    names = [f"pictures.zip::{place}.png" for place in range(30)]
    names[:2] = ["https://example.org/0.png", "pictures.zip::none.png"]
    return told(trained(table(folder, picture=names), PICTURE))


@case("a root that is not there", "things.parquet", "nowhere")
def _(folder: Path) -> object:
    return trained(table(folder, picture=[f"{place}.png" for place in range(30)]), {**PICTURE, "root": "nowhere"})


@case("numbers in place of pictures", "'liked'", "number", "pattern")
def _(folder: Path) -> object:
    return trained(table(folder), {**PICTURE, "column": "liked"})


@case("lists in place of pictures", "'vector'", "vector")
def _(folder: Path) -> object:
    return trained(table(folder), {**PICTURE, "column": "vector"})


@case("a damaged picture in a request", "things.parquet", "row 2", "absent")
def _(folder: Path) -> object:
    path = folder / "things.parquet"
    pq.write_table(pa.table({"picture": [good(1), b"no picture", None]}), path)
    return tk.notes_of(seer().predict(path))


@case("lists in place of pictures in a request", "rows.jsonl", "'picture'", "list")
def _(folder: Path) -> object:
    (folder / "rows.jsonl").write_text(json.dumps({"picture": ["a.png"]}))
    return seer().predict(folder / "rows.jsonl")


@case("sounds that are none, or hold nothing", "things.parquet", "row 1", "row 2", "no WAV file", "holds no sound")
def _(folder: Path) -> object:
    sounds = things()["sound"]
    sounds[:2] = [b"ID3 mp3", wav(np.zeros(0))]
    return told(trained(table(folder, sound=sounds), SOUND))


@case("a vector of another width", "things.parquet", "'vector'", "row 5", "[1.0, 2.0]")
def _(folder: Path) -> object:
    vectors = things()["vector"]
    vectors[4] = [1.0, 2.0]
    return trained(table(folder, vector=vectors), VECTOR)


@case("a vector with a number that is none", "things.parquet", "'vector'", "row 5", "nan", "place 2 of 3")
def _(folder: Path) -> object:
    vectors = things()["vector"]
    vectors[4] = [1.0, float("nan"), 2.0]
    return trained(table(folder, vector=vectors), VECTOR)


@case("vectors written as texts", "'vector'", "Parquet")
def _(folder: Path) -> object:
    return trained(table(folder, vector=[str(vector) for vector in things()["vector"]]), VECTOR)


@case("no vector in any row", "things.parquet", "'vector'", "training rows")
def _(folder: Path) -> object:
    return trained(table(folder, vector=pa.nulls(30, pa.list_(pa.float32()))), VECTOR)

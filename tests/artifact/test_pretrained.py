"""The pretrained encoders of a Run (`towerkit.artifact.pretrained`).

Invariants: a Run answers in a new process with the encoder's folder gone, no network and an empty cache; an encoder's files
are in it once, whatever number of towers and members read by it, and weights that were trained are there once; files that do
not belong to the Run, under a new seal too, are typed errors; opening a Run imports no transformers.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

import towerkit as tk
from towerkit.core.errors import SpecError, TowerkitError
from towerkit.core.spec import parse
from towerkit.data.shop import shop_table
from towerkit.experiment import checkpoints_of
from towerkit.pretrained import Pretrained
from towerkit.run import Run
from towerkit.spec import ModelingSpec
from towerkit.storage.tensors import tensor_shapes
from towerkit.testing.encoders import small_text_encoder
from towerkit.testing.sealing import seal_again
from towerkit.training.checkpoint import differences

ROWS = shop_table("reviews", size="small").select(["title", "text", "age", "recommended"]).slice(0, 150)
LIKED = {"liked": {"kind": "binary", "column": "recommended"}}


def tower(folder: Path, train: Any, *columns: str) -> dict[str, Any]:
    encoder = {"kind": "pretrained", "path": str(folder), "train": train, "max_tokens": 8}
    return {"kind": "text", "columns": columns or ["title"], "encoder": encoder, "dim": 4}


def trained(where: Path, model: dict[str, Any]) -> Run:
    return tk.fit({"model": model, "training": {"epochs": 1, "batch_size": 64}}, tk.read(ROWS), run=where)


@pytest.fixture(scope="module")
def made(small_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A Run with a frozen encoder in two towers and a trained one in a third; the encoder's folder is gone."""
    folder = Path(shutil.copytree(small_encoder, tmp_path_factory.mktemp("encoder") / "here"))
    towers = {
        "title": tower(folder, "frozen"),
        "both": tower(folder, "frozen", "title", "text"),
        "tuned": tower(folder, "full"),
        "again": tower(folder, {"last": 1}),
    }
    run = trained(tmp_path_factory.mktemp("runs") / "run", {"kind": "tower_model", "towers": towers, "heads": LIKED})
    fingerprint = Pretrained.of(folder).fingerprint
    before = run.predict(ROWS.slice(0, 9))
    shutil.rmtree(folder)
    return {"run": run, "fingerprint": fingerprint, "before": before}


def test_the_files_are_there_once(made: dict[str, Any]) -> None:
    model = made["run"].path / "model"
    folders = {path.name: {each.name for each in path.iterdir()} for path in (model / "pretrained").iterdir()}
    assert folders.pop(made["fingerprint"][:16]) == {"config.json", "model.safetensors", "tokenizer.json"}
    assert list(folders.values()) == [{"config.json", "tokenizer.json"}]  # for both that were trained
    names = [name for name in tensor_shapes(model / "weights.safetensors") if "word_embeddings" in name]
    assert sorted(name.split(".")[2 - 1] for name in names) == ["again", "tuned"]


def test_a_new_process_answers_offline_without_the_folder_and_the_cache(made: dict[str, Any], tmp_path: Path) -> None:
    pyarrow.parquet.write_table(ROWS.slice(0, 9), tmp_path / "rows.parquet")
    script = (
        "import sys, socket\n"
        "def refused(*_): raise OSError('no network here')\n"
        "socket.socket.connect = socket.getaddrinfo = refused\n"
        "from towerkit.run import Run\n"
        "run = Run.load(sys.argv[1])\n"
        "run.spec, run.evaluation\n"
        "assert 'transformers' not in sys.modules\n"
        "import pyarrow.parquet as pq\n"
        "pq.write_table(run.predict(sys.argv[2]), sys.argv[3])\n"
    )
    environment = {**os.environ, "TOWERKIT_CACHE": str(tmp_path / "cache"), "HF_HOME": str(tmp_path / "nothing")}
    paths = [str(made["run"].path), str(tmp_path / "rows.parquet"), str(tmp_path / "answers.parquet")]
    subprocess.run([sys.executable, "-c", script, *paths], check=True, env=environment, timeout=300)
    answers = pyarrow.parquet.read_table(paths[2])
    assert answers.column("liked").to_pylist() == made["before"].column("liked").to_pylist()
    gaps = [a - b for a, b in zip(answers[1].to_pylist(), made["before"][1].to_pylist(), strict=True)]
    assert max(map(abs, gaps)) < 1e-5


def test_members_of_a_late_fusion_share_the_files(small_encoder: Path, tmp_path: Path) -> None:
    member = {"kind": "tower_model", "towers": {"text": tower(small_encoder, "frozen")}, "heads": LIKED}
    other = {**member, "towers": {"text": tower(small_encoder, "frozen", "text")}}
    model = {"kind": "late_fusion", "members": {"one": member, "other": other}, "combine": {"kind": "average"}}
    run = trained(tmp_path / "run", model)
    assert len(list(run.path.rglob("tokenizer.json"))) == len(list(run.path.rglob("model.safetensors"))) == 1
    again = Run.load(run.path)
    assert again.predict(ROWS.slice(0, 5)).equals(run.predict(ROWS.slice(0, 5)))


def damaged(change: Callable[[Path], Any]) -> Callable[[Path], None]:
    def apply(model: Path) -> None:
        change(next(path.parent for path in sorted(model.rglob("model.safetensors"))))

    return apply


def renamed_fingerprint(model: Path) -> None:
    """Other weights under a fingerprint of their own, as one would who wants to pass a look at the folder."""
    folder = next(path.parent for path in model.rglob("model.safetensors"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 10**9}))
    files = Pretrained.of(folder)
    content = json.loads((model / "encoder.json").read_text())
    for entry in content["features"]["example"]:
        if entry["pretrained"].startswith(folder.name):
            entry["pretrained"] = files.fingerprint
    (model / "encoder.json").write_text(json.dumps(content))
    folder.rename(folder.parent / files.folder_name)


def edited_state(key: str, value: Any) -> Callable[[Path], None]:
    def apply(model: Path) -> None:
        content = json.loads((model / "encoder.json").read_text())
        for entry in content["features"]["example"]:
            entry["state"][key] = value
        (model / "encoder.json").write_text(json.dumps(content))

    return apply


def unnamed(value: Any) -> Callable[[Path], None]:
    def apply(model: Path) -> None:
        content = json.loads((model / "encoder.json").read_text())
        for entry in content["features"]["example"]:
            entry["pretrained"] = value
        (model / "encoder.json").write_text(json.dumps(content))

    return apply


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            damaged(lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 4000)),
            "the encoder's fingerprint is",
        ),
        (damaged(lambda folder: (folder / "config.json").write_text("{}")), "the encoder's fingerprint is"),
        (damaged(shutil.rmtree), "is not there, and the Run's features read by it"),
        (
            damaged(lambda folder: (folder / "evil.py").write_text("raise SystemExit")),
            r"knows no file 'model/pretrained/\w+/evil\.py'",
        ),
        (
            damaged(lambda folder: folder.rename(folder.parent / "evil")),
            "knows no file 'model/pretrained/evil/config.json'",
        ),
        (renamed_fingerprint, "num_hidden_layers must be at most 512"),
        (edited_state("max_tokens", 10**12), "max_tokens 1000000000000; train the Run again"),
        (edited_state("max_tokens", True), "max_tokens True; train the Run again"),
        (edited_state("pooling", "../evil"), "has the pooling '../evil'; train the Run again"),
        (unnamed("../../../evil"), "named by 64 hexadecimal digits, received '../../../evil'"),
        (unnamed(["a"]), "is not an encoder this version wrote"),
        (unnamed("0" * 64), "is not there, and the Run's features read by it"),
    ],
)
def test_a_hostile_folder_under_a_new_seal_is_a_typed_error(
    made: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, told: str
) -> None:
    monkeypatch.setenv("TOWERKIT_CACHE", str(tmp_path / "cache"))
    copy = Path(shutil.copytree(made["run"].path, tmp_path / "run"))
    change(copy / "model")
    seal_again(copy)
    with pytest.raises(TowerkitError, match=told):
        Run.load(copy).predict(ROWS.slice(0, 2))


def test_another_encoder_under_the_same_path_is_another_encoder(small_encoder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small_encoder, tmp_path / "here"))
    model = {"kind": "tower_model", "towers": {"text": tower(folder, "frozen")}, "heads": LIKED}
    run = trained(tmp_path / "run", model)
    small_text_encoder(folder, seed=1)
    other = trained(tmp_path / "other", model)
    first, second = (next((each.path / "model" / "pretrained").iterdir()).name for each in (run, other))
    assert first != second


def test_a_training_goes_on_from_a_run_with_its_encoder(small_encoder: Path, tmp_path: Path) -> None:
    for train in ("frozen", "full"):
        model = {"kind": "tower_model", "towers": {"text": tower(small_encoder, train)}, "heads": LIKED}
        first = trained(tmp_path / f"{train}-1", model)
        spec = {"model": model, "training": {"epochs": 1, "batch_size": 64, "optimizer": {"kind": "adam", "lr": 1e-9}}}
        second = tk.fit(spec, tk.read(ROWS), run=tmp_path / f"{train}-2", base=first)
        gaps = [
            a - b for a, b in zip(first.predict(ROWS)[1].to_pylist(), second.predict(ROWS)[1].to_pylist(), strict=True)
        ]
        assert max(map(abs, gaps)) < 1e-4


def test_what_cannot_be_an_encoder_is_told_before_training(tmp_path: Path) -> None:
    model = {"kind": "tower_model", "towers": {"text": tower(tmp_path / "gone", "frozen")}, "heads": LIKED}
    with pytest.raises(SpecError, match=r"The encoder's folder .*gone cannot be read"):
        trained(tmp_path / "run", model)
    assert not (tmp_path / "run").exists()


def test_a_training_does_not_go_on_with_another_encoder(small_encoder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small_encoder, tmp_path / "here"))
    model = {"kind": "tower_model", "towers": {"text": tower(folder, "full")}, "heads": LIKED}
    spec, data = parse(ModelingSpec, {"model": model}), tk.read(ROWS)
    before = checkpoints_of(tmp_path / "run", spec, data).identity
    assert checkpoints_of(tmp_path / "run", spec, data).identity == before
    small_text_encoder(folder, seed=1)
    assert differences(before, checkpoints_of(tmp_path / "run", spec, data).identity).startswith("encoders")

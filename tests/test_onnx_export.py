"""Towers as ONNX files.

Invariants:
- the vectors of the files are those of the towers for 1, 7 and 64 rows of the raw data: ids, tables through a perceptron, bags of
  words, numbers, histories; a product of both sides' vectors is the score of the Run;
- ``export.json`` says what each file reads; what cannot be exported is refused with the reason and leaves nothing; a file that
  answers otherwise (the control) is refused too.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.recommend.conftest import ITEMS, USERS

import towerkit as tk
from towerkit.core.errors import RunError
from towerkit.run import Run

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("onnx") is None or importlib.util.find_spec("onnxruntime") is None,
    reason="needs towerkit[onnx]",
)
_DRAW = np.random.default_rng(5)
PAIRS: dict[str, Any] = {
    "user": [f"u{n}" for n in _DRAW.integers(0, 50, 300)],
    "item": [f"i{n}" for n in _DRAW.integers(0, 40, 300)],
    "time": list(range(300)),
}
ABOUT = {"id": {"kind": "id", "dim": 6}, "about": {"kind": "table", "columns": ["age"], "dim": 6}}
TEXT = {"id": {"kind": "id", "dim": 6}, "words": {"kind": "text", "columns": ["name"], "dim": 6}}


def trained(folder: Path, query: Any, candidate: Any, match: str = "cosine") -> Run:
    """A small Run."""
    model = {"kind": "two_tower", "query": query, "candidate": candidate, "match": {"kind": match}}
    data = tk.read(PAIRS, query="user", candidate="item", time="time", entities={"item": ITEMS, "user": USERS})
    return tk.fit({"model": model, "training": {"epochs": 1}, "evaluation": {"k": [3]}}, data, run=folder)


def session(folder: Path, name: str) -> Any:
    """Asks a file."""
    import onnxruntime

    return onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    """A Run of ids, tables, texts and histories, and its files."""
    from towerkit.onnx_export import export_onnx

    root = tmp_path_factory.mktemp("onnx")
    run = trained(
        root / "run", {"towers": {**ABOUT, "past": {"kind": "history", "dim": 6, "length": 5}}}, {"towers": TEXT}
    )
    files = export_onnx(run, root / "files")
    assert [(each.name, each.entity, each.dim) for each in files] == [("query", "user", 6), ("candidate", "item", 6)]
    assert all(each.difference < 1e-5 for each in files)
    return run, root / "files"


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_the_files_answer_as_the_towers_do(exported: tuple[Run, Path], rows: int) -> None:
    import torch

    from towerkit.data.batch import take
    from towerkit.onnx_export import _flat, _parts

    run, folder = exported
    model: Any = run.model
    for part in _parts(run):
        right = model.query_vectors if part.name == "query" else model.candidate_vectors
        places = _DRAW.integers(0, len(right), rows)
        asked = {name: each.numpy() for name, each in _flat(take(part.columns, torch.from_numpy(places))).items()}
        found = session(folder, part.name).run(["vector"], asked)[0]
        np.testing.assert_allclose(found, right[places], atol=1e-5)


def test_what_each_file_reads_is_told(exported: tuple[Run, Path]) -> None:
    run, folder = exported
    told = json.loads((folder / "export.json").read_text())
    assert (told["kind"], told["space"]) == ("two_tower", run.space)
    assert set(told["files"]) == {"query.onnx", "candidate.onnx"}
    inputs = told["files"]["candidate.onnx"]["inputs"]
    assert inputs["id"] == {"type": "tensor(int64)", "shape": ["rows"]}
    assert {name.rpartition(".")[2] for name in inputs} == {"id", "codes", "offsets", "weights"}


def test_each_tower_of_a_tower_model(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from towerkit.cli import app

    rows = {
        "text": ["good lamp", "bad lamp", "good toy", "bad toy"] * 20,
        "size": [1.0, 2.0] * 40,
        "stars": ["5", "1"] * 40,
    }
    towers = {
        "words": {"kind": "text", "columns": ["text"], "dim": 4},
        "more": {"kind": "table", "columns": ["size"], "dim": 4},
    }
    heads = {"stars": {"kind": "multiclass", "column": "stars"}}
    spec = {"model": {"kind": "tower_model", "towers": towers, "heads": heads}, "training": {"epochs": 1}}
    tk.fit(spec, tk.read(rows), run=tmp_path / "run")
    result = CliRunner().invoke(app, ["export", str(tmp_path / "run"), "--onnx", str(tmp_path / "files"), "--json"])
    assert result.exit_code == 0, result.output
    assert [each["name"] for each in json.loads(result.stdout)["files"]] == ["more", "words"]
    again = CliRunner().invoke(app, ["export", str(tmp_path / "run"), "--onnx", str(tmp_path / "files")])
    assert isinstance(again.exception, RunError)
    assert "already exists" in str(again.exception)


def test_what_cannot_be_exported_leaves_nothing(
    exported: tuple[Run, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from towerkit import onnx_export

    monkeypatch.setattr(onnx_export, "_TOLERANCE", -1.0)  # every answer differs by more
    with pytest.raises(RunError, match="'query' cannot be exported.*difference of"):
        onnx_export.export_onnx(exported[0], tmp_path / "files")
    assert list(tmp_path.iterdir()) == []

"""The emoji example: the table that it reads, and the way from its spec to answers for raw rows.

Pinned here:
- the table joins names, categories and keywords whether or not a sign says that it is a picture; the keyword that is the name once
  more is left out, and an emoji without keywords has none;
- with the public data set, `examples/emoji.yaml` trains on it (a share of it, with a small encoder in place of the pretrained
  one), compares each task with a model of it alone, and the Run answers raw rows that lack a picture or a name.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import towerkit as tk
from towerkit.data.dataset import read_dataset
from towerkit.run import Run
from towerkit.spec import load_spec

ROOT = Path(__file__).resolve().parents[1]


def table_of(folder: Path, target: Path) -> list[dict[str, object]]:
    """What the tool makes of a folder."""
    command = [sys.executable, "tools/emoji_table.py", str(folder), str(target)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert str(target) in done.stdout
    return [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]


def test_the_table(tmp_path: Path) -> None:
    signs = [
        ("2764-FE0F", "HEAVY BLACK HEART", "2764-fe0f.png"),
        ("1F1E6-1F1E8", "Ascension Island Flag", "1f1e6-1f1e8.png"),
        ("1F600", "GRINNING FACE", "1f600.png"),
    ]
    emoji = [
        {"unified": code, "name": name, "image": image, "category": "C", "subcategory": "s", "sort_order": place}
        for place, (code, name, image) in enumerate(signs)
    ]
    (tmp_path / "emoji.json").write_text(json.dumps(emoji))
    keywords = {"\u2764": ["red_heart", "love", "like"], "\U0001f1e6\U0001f1e8": ["ascension_island", "flag", "nation"]}
    (tmp_path / "emojilib-en-US.json").write_text(json.dumps(keywords))
    rows = table_of(tmp_path, tmp_path / "tables" / "emoji.jsonl")
    assert rows[0] == {
        "image": "2764-fe0f.png",
        "name": "heavy black heart",
        "category": "C",
        "subcategory": "s",
        "keywords": ["love", "like"],
    }
    assert [row["keywords"] for row in rows[1:]] == [["flag", "nation"], None]


def test_from_the_spec_to_answers(
    data_root: Path, small_picture_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOWERKIT_DATA", str(data_root))
    rows = table_of(data_root / "mm-emoji", tmp_path / "emoji.jsonl")
    assert len(rows) == 1911 and sum(row["keywords"] is None for row in rows) == 5
    (tmp_path / "emoji.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[::6]))
    settings = {
        "data.examples.path": str(tmp_path / "emoji.jsonl"),
        "model.towers.image.encoder.path": str(small_picture_encoder),
        "model.towers.image.size": 32,
        "training.epochs": 2,
        "evaluation.single_task": "true",
    }
    spec = load_spec(ROOT / "examples" / "emoji.yaml", [f"{key}={value}" for key, value in settings.items()])
    run = tk.fit(spec, read_dataset(spec.data, seed=0), run=tmp_path / "run")
    assert {"category/accuracy", "subcategory/accuracy", "keywords/f1_micro"} <= run.evaluation.metrics.keys()
    assert "single_task" in run.baselines
    asked = {"image": ["1f600.png", "nowhere.png", None], "name": ["grinning face", None, "flag of chad"]}
    told = Run.load(run.path).predict(asked)
    assert told.num_rows == 3 and {"category", "subcategory", "keywords"} <= set(told.column_names)

"""A Run's JSON files.

Invariants: exactly the known keys, with those that may be absent; what is missing, unknown or no object is told with the file,
the key and the nearest known one; an older format is brought to this one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from towerkit.core.errors import RunError
from towerkit.storage.documents import read_document


def written(folder: Path, content: Any, name: str = "model.json") -> Path:
    (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder / name


def test_the_known_keys_are_read(tmp_path: Path) -> None:
    assert read_document(written(tmp_path, {"spec": 1}), 2, ["spec"], ["more"]) == {"spec": 1}
    assert read_document(written(tmp_path, {"spec": 1, "more": 2}), 2, ["spec"], ["more"]) == {"spec": 1, "more": 2}


def test_an_older_format_is_upgraded(tmp_path: Path) -> None:
    path = written(tmp_path, {"format": 1, "answers": {}}, "golden.json")
    assert read_document(path, 1, ["answers"]) == {"answers": {}}
    with pytest.raises(
        RunError, match=r"golden\.json: unknown key 'format'\. .* Runs up to format 2, .* has 'answers'"
    ):
        read_document(path, 2, ["answers"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], r"model\.json: must hold a JSON object, received a list"),
        ({}, r"model\.json: the keys 'spec', 'titles' are missing"),
        (
            {"spec": 1, "titles": 2, "title": 3},
            r"model\.json: unknown key 'title'; did you mean 'titles'\? .* upgrade towerkit",
        ),
    ],
)
def test_what_does_not_fit_is_told(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(RunError, match=message):
        read_document(written(tmp_path, content), 2, ["spec", "titles"], ["spec_more"])

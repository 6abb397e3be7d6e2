"""Older formats, read as if this version had written them.

Invariants: each step is pure (its input stays as it was) and gives what the next format has; a file that is not named does not
change; every format from 1 to the one before this version's has its steps; upgrading does nothing to today's format.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest

from towerkit.storage.migrations import FORMAT_VERSION, STEPS, golden_1_to_2, manifest_1_to_2, upgraded

MANIFEST = {"format": 1, "towerkit": "0.1", "kind": "x", "created": "2026", "files": {}, "extra": {"a": 1}, "seal": "s"}


def test_every_older_format_has_a_step_to_the_next() -> None:
    assert sorted(STEPS) == list(range(1, FORMAT_VERSION))


def test_manifest_1_to_2() -> None:
    before = copy.deepcopy(MANIFEST)
    assert manifest_1_to_2(MANIFEST) == {**MANIFEST, "space": None}
    assert before == MANIFEST


def test_golden_1_to_2() -> None:
    golden: dict[str, Any] = {"format": 1, "answers": {"scores": [[1.0]]}}
    assert golden_1_to_2(golden) == {"answers": {"scores": [[1.0]]}}
    assert golden == {"format": 1, "answers": {"scores": [[1.0]]}}


@pytest.mark.parametrize("name", ["model.json", "encoder.json", "metrics.json", "spec.json"])
def test_what_did_not_change_is_left_alone(name: str) -> None:
    content = {"format": 1, "space": "x"}
    assert upgraded(name, content, 1) is content


def test_todays_format_is_left_alone() -> None:
    for name in ("manifest.json", "golden.json"):
        content = {"format": FORMAT_VERSION}
        assert upgraded(name, content, FORMAT_VERSION) is content


def test_steps_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one more format to come, an old file takes both steps in their order."""
    monkeypatch.setattr("towerkit.storage.migrations.FORMAT_VERSION", 3)
    monkeypatch.setattr(
        "towerkit.storage.migrations.STEPS", {**STEPS, 2: {"golden.json": lambda old: {**old, "new": len(old)}}}
    )
    assert upgraded("golden.json", {"format": 1, "answers": {}}, 1) == {"answers": {}, "new": 1}
    assert upgraded("golden.json", {"answers": {}}, 2) == {"answers": {}, "new": 1}


def test_what_is_no_object_is_left_to_the_reader() -> None:
    assert upgraded("golden.json", [1], 1) == [1]

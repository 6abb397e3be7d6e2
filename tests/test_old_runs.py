"""Runs of every released format, kept as they were written.

Invariants: each opens, answers every question and evaluates as on the day it was written (its stored figures to the last bit,
what is computed again within rounding); opening and asking it changes no byte of its folder; every format up to this version's
has its fixtures, one for each kind of model that it has, and from format 2 on one of a late fusion that ranks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from towerkit.evaluation.result import Evaluation
from towerkit.run import LOADERS, load_run
from towerkit.storage.hashes import read_json, sha256_file
from towerkit.storage.migrations import FORMAT_VERSION

FIXTURES = Path(__file__).parent / "fixtures" / "runs"
SINCE = {"ranker": 2, "joint": 2}
"""Kind -> the first format that has it; 1 where it is not named."""
RUNS = sorted(path.parent for path in FIXTURES.glob("format-*/*/answers.json"))


def require_close(found: Any, expected: Any, place: str) -> None:
    """The same, but for rounding in numbers; a mapping may hold more than was expected, for later versions tell more."""
    if isinstance(expected, Mapping):
        assert expected.keys() <= found.keys(), place
        for key, value in expected.items():
            require_close(found[key], value, f"{place}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), place
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            require_close(one, other, f"{place}[{number}]")
    elif isinstance(expected, float) and isinstance(found, float | int):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5, err_msg=place)
    else:
        assert found == expected, place


def figures(evaluation: Evaluation) -> dict[str, float | None]:
    return {name: each["value"] for name, each in evaluation.as_dict()["metrics"].items()}


@pytest.mark.parametrize("folder", RUNS, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_an_old_run_answers_as_when_it_was_written(folder: Path) -> None:
    before = {path: sha256_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    stored = read_json(folder / "answers.json")
    run = load_run(folder / "run")
    assert run.kind == stored["kind"]
    assert {"model": figures(run.evaluation)} | {name: figures(b) for name, b in run.baselines.items()} == stored[
        "evaluation"
    ]
    assert len(stored["questions"]) >= 3
    for number, question in enumerate(stored["questions"]):
        answer = getattr(run, question["call"])(**question["given"])
        found = figures(answer) if isinstance(answer, Evaluation) else json.loads(json.dumps(answer.to_pydict()))
        require_close(found, question["answer"], f"question {number} ({question['call']})")
    assert before == {path: sha256_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("version", range(1, FORMAT_VERSION + 1))
def test_every_format_has_runs_of_every_kind(version: int) -> None:
    folders = [folder for folder in RUNS if folder.parent.name == f"format-{version}"]
    kinds = {read_json(folder / "answers.json")["kind"] for folder in folders}
    assert kinds == set(LOADERS) - {kind for kind, since in SINCE.items() if since > version}, (
        "make them with tools/make_run_fixtures.py before the format is released"
    )
    fusions = [load_run(folder / "run") for folder in folders if folder.name.startswith("late_fusion")]
    assert any(not run.tasks for run in fusions) == (version >= 2), "a late fusion that ranks"


def test_another_answer_would_be_found() -> None:
    with pytest.raises(AssertionError, match=r"a\[1\]\.score"):
        require_close([{"score": 1.0}, {"score": 0.5002, "more": 1}], [{"score": 1.0}, {"score": 0.5}], "a")
    with pytest.raises(AssertionError, match=r"a\.x"):
        require_close({"x": "p0001"}, {"x": "p0002"}, "a")
    with pytest.raises(AssertionError, match="a"):
        require_close({}, {"x": 1}, "a")

"""What ablate, tune and crossval keep is shown as it stands in their files.

- A report without a Run shows each file: its verdicts, differences, trials, folds and the drawings of them.
- Of an ablation the signs tell what helps; the best and the default trial are set off; pooled figures stand on top.
- Texts of files are texts; what a file does not have is left out.
- The command takes ``--with`` more than once and says what it wrote.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from towerkit.cli import app
from towerkit.reporting import write_report

DIFFERENCE = {"first": 0.5, "second": 0.25, "difference": -0.25, "low": -0.375, "high": -0.125, "n": 40, "clear": True}
FIGURE = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 40}
TOWER = {"group": "query", "reads": ["age"], "parameters": 1200, "bytes": 4800, "ms_per_row": 0.5, "share": 0.25}
CONTENT: dict[str, dict[str, Any]] = {
    "ablation": {
        "run": "runs/<b>mine",
        "metrics": {"ndcg@10": {**FIGURE, "higher_is_better": True}},
        "towers": {"words": {**TOWER, "verdict": "dropping words costs 0.2500"}, "age": TOWER},
        "modes": {
            "absent": {
                "without": {"words": {"ndcg@10": DIFFERENCE}, "age": {"ndcg@10": {**DIFFERENCE, "clear": False}}},
                "shapley": {"words": {"ndcg@10": {"value": 0.375, "low": 0.25, "high": 0.5, "error": None}}},
                "shapley_is": "exact",
                "subsets": [{"present": [], "metrics": {"ndcg@10": 0.0625}}],
            }
        },
        "columns": {"age": {"years": {"ndcg@10": DIFFERENCE}}},
        "notes": ["a <script> in a note"],
    },
    "tuning": {
        "metric": "validation/ndcg@10",
        "higher_is_better": True,
        "sampler": "tpe",
        "space": {"model.query.dim": {"log": True}},
        "trials": [
            {
                "number": 0,
                "state": "complete",
                "default": True,
                "values": {"model.query.dim": 8},
                "value": 0.5,
                "seconds": 2.0,
            },
            {"number": 1, "state": "complete", "values": {"model.query.dim": 16}, "value": 0.625, "seconds": 3.0},
            {
                "number": 2,
                "state": "failed",
                "values": {"model.query.dim": 32},
                "value": None,
                "reason": "not a <number>",
            },
        ],
        "importance": {"measure": "PED-ANOVA", "parameters": {"model.query.dim": 1.0}, "parts": {"query": 1.0}},
        "growth": [{"trial": 0, "seconds": 2.0, "best": 0.5}, {"trial": 1, "seconds": 5.0, "best": 0.625}],
        "comparison": {"metrics": {"ndcg@5": DIFFERENCE, "ndcg@10": DIFFERENCE}},
    },
    "crossval": {
        "plan": {"kind": "kfold", "folds": 2, "by": None},
        "metrics": {"auc": FIGURE},
        "spread": {"auc": {"mean": 0.5, "deviation": 0.125, "least": 0.375, "most": 0.625}},
        "baselines": {"majority": {"auc": 0.5}},
        "folds": [
            {"fold": "fold 1", "seed": 0, "metrics": {"auc": FIGURE}},
            {"fold": "fold 2", "seed": 0, "metrics": {"auc": FIGURE}},
        ],
    },
}
SAID = {
    "ablation": [
        "Dropping words costs 0.2500",
        "-0.2500 [-0.3750, -0.1250], clear",
        "within chance",
        "1,200",
        "0.3750 [0.2500, 0.5000]",
        "years",
        "(none)",
        "a tower that helps is below zero",
        "a &lt;script&gt; in a note",
        "Ablation of &lt;b&gt;mine",
    ],
    "tuning": [
        "3 trials (2 complete, 1 failed)",
        "best trial",
        "trial 0 (default): 0.5000",
        "trial 1: 0.6250",
        "query.dim",
        "PED-ANOVA",
        "not a &lt;number&gt;",
        "Budget curve",
        "Every figure, at every k",
    ],
    "crossval": [
        "2 folds: kind kfold, folds 2.",
        "all folds",
        "fold 1, seed 0",
        "0.5000 [0.2500, 0.7500]",
        "0.3750 to 0.6250",
        "majority",
    ],
}
FIGURES = {"ablation": 3, "tuning": 4, "crossval": 1}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    for kind, content in CONTENT.items():
        (tmp_path / f"{kind}.json").write_text(json.dumps({"kind": kind, **content}), encoding="utf-8")
    return {kind: tmp_path / f"{kind}.json" for kind in CONTENT}


@pytest.mark.parametrize("kind", list(CONTENT))
def test_a_kept_file_is_shown(files: dict[str, Path], kind: str, tmp_path: Path) -> None:
    found = write_report([], tmp_path / "report.html", kept=[files[kind]])
    text = found.path.read_text(encoding="utf-8")
    assert [words for words in SAID[kind] if words not in text] == []
    assert len(found.figures) == FIGURES[kind] and found.sections == ("kept-1",)
    assert "<script" not in text and "None" not in text.split("<main>")[1]


def test_the_best_and_the_default_trial_are_set_off(files: dict[str, Path], tmp_path: Path) -> None:
    found = write_report([], tmp_path / "report.html", kept=[files["tuning"]], plots=tmp_path / "plots")
    drawing = (tmp_path / "plots" / "kept-1-trials.svg").read_text(encoding="utf-8")
    best, default = (drawing.index(f"<title>{each}") for each in ("trial 1: 0.6250", "trial 0 (default): 0.5000"))
    assert best > default  # on top
    assert 'class="ln s0 d0"' in drawing[best - 200 : best] and 'class="ln s1 d1"' in drawing[default - 200 : default]
    assert {path.stem for path in found.files} == set(found.figures)


def test_the_command(files: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "all.html"
    words = [word for path in files.values() for word in ("--with", str(path))]
    found = CliRunner().invoke(app, ["report", *words, "--out", str(out), "--json"])
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert told["sections"] == ["kept-1", "kept-2", "kept-3"] and told["bytes"] == out.stat().st_size
    assert len(told["figures"]) == sum(FIGURES.values()) and told["notes"] == []


def test_png_files(files: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("resvg_py", reason="needs towerkit[report]")
    write_report([], tmp_path / "report.html", kept=[files["crossval"]], plots=tmp_path / "plots", png=True)
    assert (tmp_path / "plots" / "kept-1-0.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"

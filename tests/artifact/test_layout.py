"""Which files a Run may hold.

Invariants: what training writes passes (every other test here sees to it); a lost or a strange file is refused and named even
where the manifest agrees with it, in members' folders too; numbers and members' names are patterns and not prefixes.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from towerkit.artifact.layout import MODEL_FILES, check_layout
from towerkit.core.errors import RunError
from towerkit.run import LOADERS, Run
from towerkit.testing.sealing import seal_again

ABOUT = ["spec.json", "data.json", "metrics.json", "history.jsonl", "golden.json", "card.md"]


def test_every_kind_has_its_files() -> None:
    assert MODEL_FILES.keys() == LOADERS.keys()


@pytest.mark.parametrize(
    "name",
    [
        "details-0.arrow", "details-17.arrow", "model/model.json", "model/members/a-B_9/entity-3.arrow",
        "model/members/x/trees.json", "model/combiner.safetensors", "model/query.arrow", "model/seen.safetensors",
        "model/members/x/words.arrow", "model/members/x/counts.safetensors", "model/members/x/history.safetensors",
    ]
)  # fmt: skip
def test_known_files_pass(name: str) -> None:
    check_layout("late_fusion", [*ABOUT, name], "the Run")


@pytest.mark.parametrize(
    "name",
    [
        "x.pkl", "model/x.so", "details-.arrow", "details-01.arrow", "details-0_arrow", "details-0.arrow.pkl", "model/trees.json",
        "model/words.arrow", "model/members/a/words.pkl",
        "model/members/trees.json", "model/members/9x/trees.json", "model/members/a/b/trees.json", "spec.json/x",
        "Model/model.json",
    ],
)  # fmt: skip
def test_strange_files_are_refused(name: str) -> None:
    with pytest.raises(RunError, match="the Run: this version knows no file '.*' in a late_fusion; .* upgrade"):
        check_layout("late_fusion", [*ABOUT, name], "the Run")


def test_a_late_fusion_predicts_or_ranks_and_never_holds_files_of_both() -> None:
    ranking = [*ABOUT, "model/model.json", "model/seen.safetensors", "model/members/a/words.arrow"]
    check_layout("late_fusion", ranking, "the Run")
    for other in ("model/combiner.safetensors", "model/members/b/trees.json", "model/held-out.safetensors"):
        with pytest.raises(RunError, match=f"knows no file '{other}' in a late_fusion"):
            check_layout("late_fusion", [*ranking, other], "the Run")


def test_a_lost_file_is_named() -> None:
    with pytest.raises(RunError, match=r"the Run: 'card\.md', 'golden\.json' missing, which every Run has"):
        check_layout("two_tower", [name for name in ABOUT if name not in ("golden.json", "card.md")], "the Run")


def test_a_kind_from_the_future_is_left_to_who_loads_it() -> None:
    check_layout("three_tower", ["x.pkl"], "the Run")


def test_a_strange_file_under_a_new_seal_is_refused(runs: dict[str, Run], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(runs["tower_model"].path, tmp_path / "run"))
    seal_again(copy)
    Run.load(copy)
    (copy / "model" / "weights.pt").write_bytes(b"\x80\x04.")
    seal_again(copy)
    with pytest.raises(RunError, match=r"knows no file 'model/weights\.pt' in a tower_model"):
        Run.load(copy)

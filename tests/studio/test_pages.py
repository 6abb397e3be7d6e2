"""The studio's pages.

- Every page of every kind of Run is there, under a policy that lets no foreign or inline script run; texts of the data are texts.
- A folder that cannot be read is listed with the reason; unknown pages, query strings, other hosts and origins are refused.
- The list names the best baseline; Runs compared show the settings that differ; figures are those of the Runs.
- The picture of a model holds all its learned numbers, and an ablation counts only for the very files that it was made of.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.serving.conftest import Asked
from tests.studio.conftest import run_of

from towerkit.ablation.opening import seal_of
from towerkit.core.errors import RunError, SpecError
from towerkit.run_writer import num_parameters
from towerkit.serving.settings import Settings
from towerkit.studio.door import POLICY
from towerkit.studio.library import Library
from towerkit.studio.plan import plan_of

RUNS = ("shop", "deep~ids", "reviews", "late")
TOPICS = ("", "/towers", "/try", "/space", "/data")


@pytest.mark.parametrize("path", ["/", "/by/ndcg@5", *(f"/runs/{run}{topic}" for run in RUNS for topic in TOPICS)])
def test_every_page(studio: Asked, path: str) -> None:
    status, page, headers = studio.send("GET", path)
    assert status == 200, page
    assert headers["content-security-policy"] == POLICY and headers["cache-control"] == "no-store"
    assert "<script>alert" not in page and "onerror=alert" not in page.replace("onerror=alert(1)&gt;", "")
    assert not re.search(r"<script(?! type=\"module\" src=\"/static/)", page) and not re.search(
        r" style=| on\w+=\"", page
    )


def test_the_policy_lets_only_our_own_files_run() -> None:
    assert "default-src 'none'" in POLICY and "script-src 'self';" in POLICY and "unsafe" not in POLICY


def test_the_list_of_runs(studio: Asked, root: Path) -> None:
    _, page, _ = studio.send("GET", "/")
    figure = run_of(root, "shop").evaluation.metrics["ndcg@5"]
    assert f"{figure.value:.4f}" in page and f"[{figure.low:.4f}, {figure.high:.4f}]" in page
    assert "deep/ids" in page and "(item_knn)" in page
    assert "must be a whole number" in page  # what is wrong with the folder 'broken'


def test_files_are_kept_by_their_content(studio: Asked) -> None:
    _, page, _ = studio.send("GET", "/")
    for path in re.findall(r"/static/[^\"]+", page):
        status, _, headers = studio.send("GET", path)
        assert status == 200 and "immutable" in headers["cache-control"]
    assert studio.send("GET", "/static/000000000000/studio.css")[0] == 404


@pytest.mark.parametrize(
    ("path", "headers", "status", "told"),
    [
        ("/runs/none", {}, 404, "There is no Run none"),
        ("/runs/..~..~etc", {}, 404, "There is no Run"),
        ("/runs/shop/space/sideways", {}, 404, "no map of sideways"),
        ("/compare/shop", {}, 404, "Two to 8 Runs"),
        ("/runs/broken", {}, 422, "broken"),
        ("/?q=1", {}, 404, "no query string"),
        ("/", {"Host": "evil.example"}, 421, "evil.example"),
        ("/", {"Origin": "http://evil.example"}, 403, "evil.example"),
        ("/", {"Origin": "http://127.0.0.1:1"}, 403, "127.0.0.1:1"),
        ("/live/trainings", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}, 403, "cross-site"),
    ],
)
def test_refusals(studio: Asked, path: str, headers: dict[str, str], status: int, told: str) -> None:
    found, page, sent = studio.send("GET", path, headers=headers)
    assert found == status and told in (page if isinstance(page, str) else json.dumps(page))
    assert sent["content-security-policy"] == POLICY


def test_who_may_listen_and_what_is_shown(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"0\.0\.0\.0"):
        Settings(host="0.0.0.0")  # noqa: S104  (it is refused)
    with pytest.raises(RunError, match="nothing-here"):
        Library(tmp_path / "nothing-here")


def test_a_run_that_is_written_appears_and_one_that_changes_is_read_again(root: Path, tmp_path: Path) -> None:
    library = Library(tmp_path)
    assert library.entries() == []
    (tmp_path / "shop").symlink_to(root / "shop")
    (entry,) = library.entries()
    assert entry.id == "shop" and entry.kind == "two_tower" and entry.headline == "ndcg@5"
    (tmp_path / "shop").unlink()
    (tmp_path / "shop").symlink_to(root / "reviews")
    assert library.entries()[0].kind == "tower_model"


def test_compare(studio: Asked, root: Path) -> None:
    _, page, _ = studio.send("GET", "/compare/shop/deep~ids")
    assert "update.kind" in page and "one_backprop" in page and "training.epochs" not in page
    first, second = (run_of(root, name).evaluation.metrics["ndcg@5"].value for name in ("shop", "deep~ids"))
    assert f"{second - first:+.4f}" in page
    _, page, _ = studio.send("GET", "/compare/shop/reviews")
    assert "Not compared" in page


@pytest.mark.parametrize("name", RUNS)
def test_the_picture_holds_the_whole_model(root: Path, name: str) -> None:
    model = run_of(root, name).model
    plan = plan_of(model)
    names = [box.name for box in plan.boxes]
    towers = [box for box in plan.boxes if box.is_tower]
    assert len(set(names)) == len(names) and all({*wire} <= {*names} for wire in plan.wires)
    assert len(towers) == {"shop": 4, "deep~ids": 2, "reviews": 2, "late": 2}[name]
    assert sum(box.parameters or 0 for box in plan.boxes) == num_parameters(model)
    reads = {box.name: box.lines for box in plan.boxes if box.layer == 0}
    if name == "reviews":
        assert reads == {"text reads": ("text",), "table reads": ("age", "category")}


def test_an_ablation_is_of_the_very_files(studio: Asked, root: Path) -> None:
    run = run_of(root, "reviews")
    metric = "rating/auc"
    pair = {"difference": -0.1234, "low": -0.2, "high": -0.1, "n": 9}
    content = {
        "kind": "ablation",
        "run": "reviews",
        "seal": "of another Run",
        "towers": {
            "text": {
                "parameters": 1,
                "bytes": 4,
                "ms_per_row": 0.1,
                "share": 0.9,
                "reads": ["text"],
                "verdict": "dropping",
            }
        },
        "metrics": {metric: {"value": 0.8, "low": 0.7, "high": 0.9, "n": 9}},
        "modes": {"absent": {"without": {"text": {metric: pair}}}},
    }
    path = root / "ablation-of-reviews.json"
    try:
        path.write_text(json.dumps(content), encoding="utf-8")
        assert "-0.1234" not in studio.send("GET", "/runs/reviews/towers")[1]
        path.write_text(json.dumps({**content, "seal": seal_of(run)}), encoding="utf-8")
        page = studio.send("GET", "/runs/reviews/towers")[1]
        assert "without it: -0.1234 auc" in page and "90% of a row" in page
    finally:
        path.unlink()

"""Try it and the maps: a page says what the library says.

- Recommendations, their scores and shares are those of ``Run.recommend``; conditions and histories count; titles are texts.
- Probabilities are those of ``Run.predict``; a tower that is switched off says what it says of a row that nothing is known of.
- No text names a file of this machine; a row holds the model's columns, and what is wrong is told in our words.
- A map has a place and a group for each point; its neighbors are those of ``Run.similar``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.serving.conftest import Asked
from tests.studio.conftest import Part, run_of

from towerkit.studio.library import Library
from towerkit.studio.opened import Opened, Shelf
from towerkit.studio.predicting import Row, predicted
from towerkit.studio.space import MOST_POINTS, OTHER, colored, columns_of, packed, space_of


def asked(part: Part, run: str, **question: Any) -> list[tuple[str, float]]:
    """Keys and scores of the answers that a page shows."""
    page = part(f"/ask/{run}", question=question)
    scores = [float(each) for each in re.findall(r"score (-?\d+\.\d+)", page)]
    keys = re.findall(r"<bdi>(p\d{4})</bdi>", page.partition('class="answers"')[2])
    return list(zip([key for place, key in enumerate(keys) if key not in keys[:place]], scores, strict=False))


def test_recommendations(part: Part, root: Path) -> None:
    run = run_of(root, "shop")
    expected = run.recommend("u0001", k=10)
    found = asked(part, "shop", query="u0001")
    assert [key for key, _ in found] == expected.column("product_id").to_pylist()
    np.testing.assert_allclose([score for _, score in found], expected.column("score").to_numpy(), atol=6e-5)


def test_shares_sum_to_the_score(part: Part) -> None:
    page = part("/ask/shop", question={"query": "u0001", "k": 3})
    for item in page.split('class="rank"')[1:]:
        score = float(re.search(r"score (-?\d+\.\d+)", item)[1])  # type: ignore[index]
        towers = [float(each) for each in re.findall(r'class="value">([+-]\d+\.\d+)', item.partition("met: ")[0])][:2]
        assert sum(towers) == pytest.approx(score, abs=2e-3)


def test_conditions_histories_and_features(part: Part, root: Path) -> None:
    run = run_of(root, "shop")
    cheap = asked(part, "shop", query="u0001", where="price < 20")
    assert (
        cheap
        and [key for key, _ in cheap] == run.recommend("u0001", where="price < 20").column("product_id").to_pylist()
    )
    met = asked(part, "shop", history=["p0004", "p0010"])
    assert [key for key, _ in met] == run.recommend(history=["p0004", "p0010"]).column("product_id").to_pylist()
    row = {"user_id": None, "age": 30, "plan": "free"}
    described = asked(part, "shop", features=row)
    assert [key for key, _ in described] == run.recommend(rows=pa.Table.from_pylist([row])).column(
        "product_id"
    ).to_pylist()
    assert "&lt;script&gt;alert(1)" in part(
        "/ask/shop", question={"query": "u0001", "where": 'product_id == "p0001"', "exclude_seen": False}
    )


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/ask/shop", {"question": {}}, "one asker"),
        ("/ask/shop", {"question": {"query": "u0001", "where": "price <"}}, "price <"),
        ("/ask/shop", {"question": {"query": "u0001", "colour": 1}}, "colour"),
        ("/ask/deep~ids", {"question": {"history": ["p0001"]}}, "history"),
        ("/ask/reviews", {"question": {"query": "u0001"}}, "does not rank"),
        ("/predict/shop", {"row": {}}, "predicts nothing"),
        ("/predict/reviews", {"row": {"age": "old"}}, "old"),
        ("/predict/reviews", {"row": {"image": "/etc/passwd"}}, "image"),
        ("/predict/reviews", {"row": {}, "off": ["sound"]}, "sound"),
        ("/predict/reviews", {"row": {}, "files": {"text": "????"}}, "text"),
        ("/row/shop", {"number": 1}, "predicts nothing"),
        ("/point/shop/candidate", {"place": 100000}, "no such point"),
    ],
)
def test_what_does_not_fit(studio: Asked, path: str, body: dict[str, Any], told: str) -> None:
    status, content, _ = studio.send("POST", path, body)
    assert status in (404, 422) and told in str(content["error"])


def shown(page: str) -> list[float]:
    """The probabilities on a page."""
    return [float(each) / 100 for each in re.findall(r'class="value">(\d+\.\d)%', page)]


@pytest.mark.parametrize("name", ["reviews", "late"])
def test_predictions(part: Part, root: Path, name: str) -> None:
    run = run_of(root, name)
    row = {"text": "Great lamp, sturdy and bright.", "age": 30.0, "category": "lighting"}
    expected = run.predict(pa.Table.from_pylist([row]))
    found = shown(part(f"/predict/{name}", row=row))
    np.testing.assert_allclose(found[-1], expected.column("recommended=1")[0].as_py(), atol=6e-4)
    assert "points)" in part(f"/predict/{name}", row=row, off=["text"])


def test_a_part_that_is_switched_off(root: Path) -> None:
    row: dict[str, Any] = {"text": "Great lamp, sturdy and bright.", "age": 30.0, "category": "lighting"}
    for name in ("reviews", "late"):
        one = opened(root, name)
        answer = predicted(one, Row(row=row, off=["text"]))
        assert answer.without is not None
        assert not np.allclose(answer.without["recommended"], answer.whole["recommended"], atol=1e-9)
        if name == "late":  # a member that is switched off sees an empty row; here the other one reads no text
            empty = predicted(one, Row(row={**row, "text": None})).whole
            np.testing.assert_allclose(answer.without["recommended"], empty["recommended"], atol=1e-9)


def test_proposals(studio: Asked) -> None:
    told = studio.post("/find/shop", wanted={"side": "candidate", "text": "SCRIPT"})
    assert ["p0001", "<script>alert(1)</script>"] in told["found"]
    assert studio.post("/find/shop", wanted={"side": "query", "text": "u0007"})["found"] == [["u0007", ""]]
    assert studio.post("/find-points/shop/candidate", text="p0002")["found"][0][0] == 1


def opened(root: Path, name: str) -> Opened:
    """A Run as pages see it."""
    shelf = Shelf(Library(root), root)
    with shelf.lock:
        return shelf.open(name)


def test_a_map(root: Path, part: Part, studio: Asked) -> None:
    one = opened(root, "shop")
    space = space_of(one, "candidate")
    assert columns_of(space) == ["category", "price"] and len(space.names) == 80 <= MOST_POINTS
    groups = colored(space, "category")
    values = space.rows.column("category").to_pylist()
    told = [groups.names[code] if code != OTHER else None for code in groups.groups.tolist()]
    assert all(name in (value, None) for name, value in zip(told, values, strict=True))
    bands = colored(space, "price")
    assert bands.is_order and np.bincount(bands.groups[bands.groups != OTHER]).min() >= 10
    content = packed(space, "category")
    assert len(content) == 80 * 9 and np.abs(np.frombuffer(content[: 80 * 8], "<f4")).max() == 1.0
    expected = one.run.similar("p0001", k=12)
    page = part("/point/shop/candidate", place=0)
    names = re.findall(r"\((p\d{4})\)", page.partition("Nearest")[2])
    assert names == expected.column("product_id").to_pylist()
    assert "&lt;script&gt;" in page

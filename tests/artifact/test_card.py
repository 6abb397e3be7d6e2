"""The model card.

Invariants: it tells data, protocol, figures beside baselines, limits, size and how to load it; an undefined figure is "undefined"
and one that was not measured a dash; whatever columns, metrics, files or warnings are called, the page keeps its headings, tables
and blocks, and shows the name as a text; a whole card of a real Run renders to the tables it was written with.
"""

from __future__ import annotations

import html
import math
import re
from pathlib import Path
from typing import Any

import pytest

from towerkit.artifact.card import CardFacts, model_card
from towerkit.artifact.markdown import block, name, table
from towerkit.evaluation.result import Evaluation
from towerkit.metrics.intervals import Interval

MarkdownIt = pytest.importorskip("markdown_it").MarkdownIt
HOSTILE = [
    "a|b", "`code`", "``", "<script>alert(1)</script>", "[x](javascript:alert(1))", "![x](http://evil/p.png)",
    "# heading", "a\n\n# b", "a\r\n|---|", "**bold**", "_under_", "https://evil.example", "www.evil.example", "\\",
    "\\|", "a`|`b", "- list", "&lt;", "~~~", "```", "\u202egnp.exe", "\x00", "x" * 500, " ", "", "me@evil.example",
    "1. one", "> quote", "$x$", "ä ö 漢字",
]  # fmt: skip


def interval(value: float, low: float = 0.1, high: float = 0.9, n: int = 500) -> Interval:
    return Interval(value=value, low=low, high=high, n=n)


def card(column: str = "age", metrics: dict[str, Any] | None = None, **changes: Any) -> str:
    data = {
        "examples": changes.pop("examples", "clicks.csv"),
        "roles": {"query": "user", "candidate": column, "time": None, "weight": None},
        "entities": {column: {"key": column, "title": None, "table": "things.csv"}},
        "rows": {"train": 1_200, "validation": 100, "test": 100},
        "times": {"train": ["2025-01-01 00:00:00", "2025-02-01 00:00:00"]},
        "columns": {
            "example": [{"name": column, "type": "number", "role": "feature", "missing": 0.25, "distinct": 1_234}]
        },
        "split": {
            "kind": "time",
            "validation": 0.1,
            "left_out": {"no_time": 7},
            "warnings": changes.pop("warnings", []),
        },
    }
    facts = CardFacts(
        spec={"model": {"kind": "two_tower", "column": column}}, data=data, protocol=f"100 queries · {column}", seconds=1.5,
        parameters=1_234_567, bytes=2_500_000, space="ab" * 32, **changes,
    )  # fmt: skip
    found = metrics or {"ndcg@5": interval(0.5), f"{column}/auc": interval(math.nan, math.nan, math.nan)}
    measured = Evaluation({"kind": "ranking", "positives": 50, "cold_candidates": 5, "interval": "95 %"}, found)
    weaker = Evaluation({}, {"ndcg@5": interval(0.25, math.nan, math.nan)})
    return model_card(facts, measured, {"popularity": weaker})


def rendered(text: str) -> str:
    """As a page, with tables, links made of addresses, and raw HTML let through as a careless site would."""
    return str(MarkdownIt("commonmark", {"html": True}).enable("table").render(text))


def test_the_card_tells_what_it_should() -> None:
    text = card(continues={"run": "week-1", "sha256": "c" * 64}, warnings=["few rows"])
    for part in (
        "# A two_tower trained by towerkit", "1,234,567 learned numbers", "2.5 MB", f"Embedding space `{'ab' * 32}`",
        "went on from the Run `week-1`", "Examples: clicks.csv (query user, candidate age)", "Rows of age: things.csv",
        "| train | 1,200 | 2025-01-01 00:00:00 | 2025-02-01 00:00:00 |", "Split: kind time, validation 0.1.",
        "Left out of the data: 7 (no_time) rows.", "| age | number | feature | 1,234 | 25.0% |",
        "| ndcg@5 | 500 | 0.2500 | 0.5000 [0.1000, 0.9000] |", "| age/auc | 500 | – | undefined |",
        "Undefined here, for lack of rows that could decide: age/auc.", "5 of 50 held-out positives are candidates",
        "- few rows", 'run = tk.load("RUN")',
    ):  # fmt: skip
        assert part in text, part
    assert "Some figures rest on" not in text
    assert "Some figures rest on 20 queries or rows alone" in card(metrics={"ndcg@5": interval(0.5, n=20)})


@pytest.mark.parametrize("text", HOSTILE)
def test_no_name_becomes_markup(text: str) -> None:
    page, plain = rendered(card(text, examples=text, warnings=[text])), rendered(card("age", warnings=["few rows"]))
    tags = re.compile(r"<(?!code>|/code>)[a-z0-9/]+")
    assert tags.findall(page) == tags.findall(plain), "the same headings, tables, lists and blocks, and nothing more"
    assert "<script" not in page and "<a " not in page and "<img" not in page


@pytest.mark.parametrize("text", ["a|b", "`code`", "a`|`b", "<b>", "\\|", "ä ö 漢字", "**bold**", "a`b"])
def test_a_name_is_shown_as_it_is(text: str) -> None:
    page = rendered("\n".join(table(["column"], [[name(text)]])))
    cell = re.search(r"<td>(?:<code>)?(.*?)(?:</code>)?</td>", page)
    assert cell is not None and html.unescape(cell[1]).strip() == text


def test_a_block_holds_its_fence() -> None:
    page = rendered("\n".join(block({"a": "```\n# x", "b": "````"})))
    assert page.count("<pre>") == 1 and "<h1>" not in page


def test_the_card_of_a_real_run_renders() -> None:
    folder = Path(__file__).parents[1] / "fixtures" / "runs" / "format-2" / "two_tower" / "run"
    text = (folder / "card.md").read_text(encoding="utf-8")
    page = rendered(text)
    assert page.count("<table>") == 5 and page.count("<h2>") == 6 and page.count("<h1>") == 1
    assert re.search(r"<td>ndcg@5</td>\s*<td>20</td>", page)

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
        "times": changes.pop("times", {"train": ["2025-01-01 00:00:00", "2025-02-01 00:00:00"]}),
        "columns": changes.pop(
            "columns",
            {"example": [{"name": column, "type": "number", "role": "feature", "missing": 0.25, "distinct": 1_234}]},
        ),
        "split": {
            **changes.pop("split", {"kind": "time", "validation": 0.1, "left_out": {"no_time": 7}}),
            "warnings": changes.pop("warnings", []),
        },
    }
    protocol = changes.pop("protocol", {"kind": "ranking", "positives": 50, "cold_candidates": 5, "interval": "95 %"})
    found = metrics or {"ndcg@5": interval(0.5), f"{column}/auc": interval(math.nan, math.nan, math.nan)}
    measured = Evaluation(protocol, found, segments=changes.pop("segments", {}))
    weaker = Evaluation({}, {"ndcg@5": interval(0.25, math.nan, math.nan)}, segments=changes.pop("theirs", {}))
    told: dict[str, Any] = {
        "spec": {"model": {"kind": changes.pop("kind", "two_tower"), "column": column}}, "data": data, "seconds": 1.5,
        "protocol": f"100 queries · {column}", "parameters": 1_234_567, "bytes": 2_500_000, "space": "ab" * 32,
    }  # fmt: skip
    return model_card(CardFacts(**{**told, **changes}), measured, {"popularity": weaker})


def rendered(text: str) -> str:
    """As a page, with tables, links made of addresses, and raw HTML let through as a careless site would."""
    return str(MarkdownIt("commonmark", {"html": True}).enable("table").render(text))


def test_the_card_of_a_fusion_with_a_new_member_says_where_it_comes_from() -> None:
    replaced = {"run": "runs/week-1", "sha256": "d" * 64, "member": "text", "fitted": "the combiner"}
    text = card(replaces=replaced)
    assert "It is the Run `runs/week-1` (SHA-256 of its files `dddddddddddddddd…`) with another member `text`" in text
    assert "Fitted: the combiner." in text and "It is the Run" not in card()


def test_the_card_says_how_the_fusion_was_chosen() -> None:
    text = card(
        fusions=(
            ["fusion", "loss"],
            [["gated", "0.5000"], ["a | b", "0.6000"]],
            "gated is the cheapest of those that tie.",
        )
    )
    assert "## How the fusion was chosen" in text and "gated is the cheapest of those that tie" in text
    assert "| gated | 0.5000 |" in text and "| a | b |" not in text, "a name does not break the table"
    assert "How the fusion was chosen" not in card()


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
    assert "Some figures rest on" not in card(metrics={"ndcg@5": interval(0.5, n=200)})
    assert "Some figures rest on 199 queries or rows alone" in card(
        metrics={"auc": interval(0.5), "f1": interval(0.5, n=199)}
    )
    assert "Some figures rest on 20 queries or rows alone" in card(metrics={"ndcg@5": interval(0.5, n=20)})


def test_columns_are_told_of_examples_and_of_each_entity() -> None:
    price = {"name": "price", "type": "number", "role": "feature", "missing": 0.0, "distinct": 7}
    text = card(columns={"example": [], "item_id": [price]})
    head = "| column | type | role | distinct | missing |\n|---|---|---|---|---|\n"
    assert (
        f"Columns of the examples:\n\n{head}\nColumns of item_id:\n\n{head}| price | number | feature | 7 | 0.0% |"
        in text
    )


def test_a_long_warning_is_cut() -> None:
    text = card(warnings=["x" * 400, "y" * 401])
    assert f"- {'x' * 400}\n- `{'y' * 399}…`\n" in text


def test_the_card_leaves_out_what_there_is_not() -> None:
    text = card(split={"kind": "given", "test": None, "by": []}, times={}, space=None, metrics={"auc": interval(0.5)})
    assert "| part | rows |\n|---|---|\n| train | 1,200 |" in text, "no first and last time"
    assert "Split: kind given." in text and "Left out of the data" not in text
    for absent in ("Embedding space", "went on from", "Undefined here", "for lack of rows"):
        assert absent not in text, absent
    assert "never saw is answered by the mean vector" in text and "held-out positives" not in card(protocol={})
    assert "In brackets: the interval. A dash: not measured." in card(protocol={})


@pytest.mark.parametrize(
    ("count", "size"), [(0, "0.0 kB"), (99_949, "99.9 kB"), (100_000, "0.1 MB"), (10**12, "1,000,000.0 MB")]
)
def test_the_size_is_in_a_unit_that_reads_well(count: int, size: str) -> None:
    assert f"the model's files take {size}." in card(bytes=count)


def test_the_card_says_how_to_ask_its_kind_of_model() -> None:
    ranking, rows = card(ranks=True), card(kind="tower_model")
    assert "# A tower_model trained by towerkit" in rows
    for ours, others, asked, command in (
        (ranking, rows, 'run.recommend("a key", k=10)', "towerkit recommend RUN --query KEY"),
        (rows, ranking, 'run.predict("rows.csv")', "towerkit predict RUN rows.csv"),
    ):
        assert f"\n{asked}\n```\n\nOn the command line: `{command}`." in ours
        assert asked not in others and command not in others


def test_the_card_tells_the_decisions_of_each_task() -> None:
    liked = {"threshold": 0.25, "threshold_by": "f1", "temperature": 1.5, "decided_on": "80 validation rows"}
    text = card(protocol={"tasks": {"liked": liked, "stars": {"threshold": 0.5}}})
    line = "- liked: threshold 0.25 (best f1), temperature 1.500, of 80 validation rows; every answer goes through it."
    assert f"A dash: not measured.\n\n{line}\n\n## Protocol" in text and "- stars" not in text
    assert "every answer goes through it" not in card(protocol={"tasks": {"stars": {"threshold": 0.5}}})


def test_each_segment_has_a_table_of_one_figure_of_each_model() -> None:
    ours = {
        "14 or more": {"ndcg@5": interval(0.75, n=1_400), "mrr@5": interval(0.5)},
        "below 7": {"ndcg@5": interval(0.5, math.nan, math.nan, n=7)},
        "(missing)": {"mrr@5": interval(0.5)},
    }
    theirs = {"14 or more": {"ndcg@5": interval(0.25)}, "elsewhere": {"ndcg@5": interval(0.1)}}
    text = card(
        segments={"age|band": ours},
        theirs={"age|band": theirs},
        metrics={"ndcg@5": interval(0.5), "mrr@5": interval(0.5)},
    )
    assert (
        "## ndcg@5 by `age|band`\n\n| `age\\|band` | n | popularity | model |\n|---|---|---|---|\n"
        "| below 7 | 7 | – | 0.5000 |\n"
        "| 14 or more | 1,400 | 0.2500 [0.1000, 0.9000] | 0.7500 [0.1000, 0.9000] |\n\n## Protocol"
    ) in text, "bands in order; a value without the figure is left out, and so is one that only a baseline has"
    assert text.count(" by `age|band`") == 1 and " by `age" not in card()


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

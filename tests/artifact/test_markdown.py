"""Words of users in Markdown, character by character.

Invariants: what is plain stays as it is, whatever could begin markup becomes code whose fence its own backticks cannot close;
a name is cut to its limit, on one line; a block of JSON keeps its letters and is fenced by one backtick more than it holds.
That pages render so is tested with the card.
"""

from __future__ import annotations

import pytest

from towerkit.artifact.markdown import block, name, table


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ndcg@5", "ndcg@5"),
        ("user.city (3), 50%: a-b=c/d", "user.city (3), 50%: a-b=c/d"),
        ("a_b", "a_b"),
        (3.5, "3.5"),
        ("a b\n c\t", "a b c"),
        ("a\u200bb\x07", "a b"),
        ("a _b", "`a _b`"),
        ("a_ b", "`a_ b`"),
        ("_a", "`_a`"),
        ("1. one", "`1. one`"),
        ("12)", "`12)`"),
        ("1.5 one", "1.5 one"),
        ("WWW.example", "`WWW.example`"),
        ("a://b", "`a://b`"),
        ("me@example.org", "`me@example.org`"),
        ("a@b", "a@b"),
        ("ä", "`ä`"),
        ("a|b", "`a|b`"),
        ("", "`  `"),
        ("`", "`` ` ``"),
        ("`a", "`` `a ``"),
        ("a`", "``a` ``"),
        ("a``b`c", "```a``b`c```"),
    ],
)
def test_a_name(text: object, shown: str) -> None:
    assert name(text) == shown


def test_a_name_is_cut_to_its_limit() -> None:
    assert name("x" * 80) == "x" * 80
    assert name("x" * 81) == f"`{'x' * 79}…`"
    assert (name("abc", limit=3), name("abcd", limit=3)) == ("abc", "`ab…`")


def test_a_table_escapes_its_pipes() -> None:
    assert table(["a", "`b|c`"], [["1", "2"], ["|", ""]]) == ["| a | `b\\|c` |", "|---|---|", "| 1 | 2 |", "| \\| |  |"]
    assert table(["a"], []) == ["| a |", "|---|"]


def test_a_block_keeps_its_letters() -> None:
    assert block({"ä": [1]}) == ["```json", '{\n  "ä": [\n    1\n  ]\n}', "```"]
    assert block("a``b") == ["```json", '"a``b"', "```"]
    assert block("a```b") == ["````json", '"a```b"', "````"]

"""Errors and the phrases that messages share.

Invariants:
- every error raised on purpose is a ``TowerkitError`` and the builtin that a caller would expect;
- a password in an address reaches no message, whatever it is made of, while the rest of the address stays;
- ``listed`` sorts, quotes and cuts names, and says how many there are; ``nearest`` names the nearest or nothing.
"""

from __future__ import annotations

import pytest

from towerkit.core import errors
from towerkit.core.errors import DataError, MissingExtraError, TowerkitError, listed, nearest, redacted


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("SpecError", ValueError),
        ("DataError", ValueError),
        ("RunError", ValueError),
        ("ShapeError", ValueError),
        ("TrainingError", RuntimeError),
        ("MissingExtraError", ImportError),
    ],
)
def test_an_error_is_ours_and_a_builtin(name: str, builtin: type[Exception]) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, TowerkitError) and issubclass(kind, builtin)
    assert str(kind("said")) == "said"


def test_names_are_sorted_quoted_and_cut() -> None:
    assert listed(["b", 10, "a"]) == "'10', 'a', 'b'"
    assert listed([]) == ""
    assert listed(range(13)) == ("'0', '1', '10', '11', '12', '2', '3', '4', '5', '6', '7', '8', … (13 in all)")
    assert listed(range(2000), limit=1) == "'0', … (2,000 in all)"


@pytest.mark.parametrize(
    ("name", "said"),
    [("ITM", "; did you mean 'Item'?"), ("usr", "; did you mean 'user'?"), ("zzz", ""), ("", ""), (3, "")],
)
def test_the_nearest_name(name: object, said: str) -> None:
    assert nearest(name, ["Item", "user"]) == said
    assert nearest(name, []) == ""


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("postgresql+psycopg://ann:s3:cr/e@t@db:5432/shop", "postgresql+psycopg://ann:***@db:5432/shop"),
        ("received 'mysql://ann:x@db/s'; correct it", "received 'mysql://ann:***@db/s'; correct it"),
        ("a://u:p@h and b://v:q@h", "a://u:***@h and b://v:***@h"),
        ("a://h/d?user=u&password=p&Token=t;pwd=z x", "a://h/d?user=u&password=***&Token=***;pwd=*** x"),
        ("a://u:${SECRET}@h/d?password=${OTHER}", "a://u:${SECRET}@h/d?password=${OTHER}"),
        ("a://u:${SECRET}x@h", "a://u:***@h"),
    ],
)
def test_passwords_of_addresses_are_taken_out(written: str, shown: str) -> None:
    assert redacted(written) == shown
    for kind in (DataError, MissingExtraError):
        assert str(kind(written)) == shown


@pytest.mark.parametrize(
    "text", ["sqlite:///shop.db", "archive.zip::a@b.csv", "a: b@c", "http://host/a@b", "note: 12:30 @ x"]
)
def test_other_text_stays(text: str) -> None:
    assert redacted(text) == text

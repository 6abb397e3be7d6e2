"""The base of every spec, and how its problems are told.

Invariants:
- a spec is frozen, and refuses unknown keys, unknown kinds, wrong types and infinities;
- every problem of a file is told at once, one line each, at the place as the user wrote it, with what was received and
  the nearest right name;
- a message is never a bare pydantic error, and long values are cut;
- parts with names of their own stand sorted, in whatever order they were written.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError, field_validator

from towerkit._version import __version__
from towerkit.core.errors import SpecError
from towerkit.core.spec import Spec, parse


class Red(Spec):
    """One kind."""

    kind: Literal["red"] = "red"
    depth: float = Field(1.0, gt=0.0)


class Blue(Spec):
    """Another kind."""

    kind: Literal["blue"] = "blue"
    names: tuple[str, ...] = ()


class Painting(Spec):
    """Holds parts."""

    width: int = Field(ge=1)
    color: Annotated[Red | Blue, Field(discriminator="kind")] = Red()
    layers: dict[str, Annotated[Red | Blue, Field(discriminator="kind")]] = Field(default_factory=dict)
    title: str = ""

    @field_validator("title")
    @classmethod
    def _no_shouting(cls, title: str) -> str:
        if title.isupper():
            raise ValueError(f"a title does not shout; received '{title}'. Write it in lower case.")
        return title


def told(data: Any) -> str:
    with pytest.raises(SpecError, match=r"^p\.yaml") as caught:
        parse(Painting, data, "p.yaml")
    assert caught.value.__suppress_context__
    return str(caught.value)


def test_a_right_spec() -> None:
    spec = parse(Painting, {"width": 3, "color": {"kind": "blue", "names": ["a"]}})
    assert spec.color == Blue(names=("a",))
    assert Painting.model_validate_json(spec.model_dump_json()) == spec
    assert hash(Red()) == hash(Red(depth=1.0))


def test_a_spec_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Red().depth = 2.0  # type: ignore[misc]


def test_an_unknown_key() -> None:
    assert told({"width": 1, "colour": {}}) == (
        "p.yaml: the top level: unknown key 'colour'; did you mean 'color'? "
        "The keys here are 'color', 'layers', 'title', 'width'."
    )


def test_an_unknown_key_of_a_part_at_its_place() -> None:
    assert told({"width": 1, "color": {"kind": "red", "dept": 2}}) == (
        "p.yaml: color: unknown key 'dept'; did you mean 'depth'? The keys here are 'depth', 'kind'."
    )
    assert told({"width": 1, "layers": {"sky": {"kind": "blue", "zzz": 2}}}) == (
        "p.yaml: layers.sky: unknown key 'zzz'. The keys here are 'kind', 'names'."
    )


def test_an_unknown_kind() -> None:
    assert told({"width": 1, "color": {"kind": "bleu"}}) == (
        "p.yaml: color: unknown kind 'bleu'; did you mean 'blue'? The kinds here are 'blue', 'red'; this is "
        f"towerkit {__version__}, and a newer one may have more."
    )


def test_no_kind() -> None:
    assert "color: needs a key 'kind' that says which part this is; received {'depth': 2}" in told(
        {"width": 1, "color": {"depth": 2}}
    )


def test_a_missing_key() -> None:
    assert told({}) == "p.yaml: width: is required and was not given."


def test_the_words_of_a_validator() -> None:
    assert told({"width": 1, "title": "LOUD"}) == (
        "p.yaml: title: a title does not shout; received 'LOUD'. Write it in lower case."
    )


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (
            {"width": "wide"},
            "width: input should be a valid integer, unable to parse string as an integer; received 'wide'.",
        ),
        ({"width": 0}, "width: input should be greater than or equal to 1; received 0."),
        ({"width": 1, "color": {"kind": "red", "depth": float("inf")}}, "color.depth: input should be a finite number"),
        (
            {"width": 1, "color": {"kind": "blue", "names": [1]}},
            "color.names.0: input should be a valid string; received 1.",
        ),
    ],
)
def test_wrong_values_at_their_place(data: dict[str, Any], line: str) -> None:
    assert line in told(data)


def test_all_problems_at_once() -> None:
    lines = told({"width": 0, "color": {"kind": "green"}, "title": 3}).splitlines()
    assert lines[0] == "p.yaml has 3 problems:"
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["width", "color", "title"]


@pytest.mark.parametrize("data", [None, [], "text", 3])
def test_no_mapping_at_all(data: Any) -> None:
    assert told(data) == f"p.yaml: the top level: must be a mapping of keys; received {data!r}."


def test_a_long_value_is_cut() -> None:
    line = told({"width": "x" * 5_000})
    assert len(line) < 250
    assert "received 'xxx" in line


def test_the_order_of_named_parts_means_nothing() -> None:
    spec = parse(Painting, {"layers": {"b": {"kind": "red"}, "a": {"kind": "blue"}}, "width": 1})
    assert list(spec.layers) == ["a", "b"]


class Numbers(Spec):
    """Fields of many types."""

    whole: int = 1
    part: float | None = None
    some: tuple[int, ...] = ()
    flag: bool = False
    either: bool | int = 0
    yes: Literal[True, "maybe"] = "maybe"
    alias: int = Field(0, alias="as")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"whole": True}, r"whole: input should be a valid integer; received True"),
        ({"part": False}, r"part: input should be a valid number; received False"),
        ({"some": [3, True]}, r"some\.1: input should be a valid integer; received True"),
        ({"as": True}, r"as: input should be a valid integer; received True"),
    ],
)
def test_true_and_false_are_no_numbers(data: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse(Numbers, data)


def test_true_and_false_stay_where_they_belong() -> None:
    found = parse(Numbers, {"flag": True, "either": True, "yes": True, "some": (1, 2), "whole": 1})
    assert (found.flag, found.either, found.yes, found.some) == (True, True, True, (1, 2))

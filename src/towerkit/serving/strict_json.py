"""JSON from strangers: no repeated key, no endless nesting, no NaN, no half characters."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from towerkit.serving.problems import Problem

DEEPEST = 12
"""Levels of lists and objects; the deepest request that is understood has 6."""
_LONGEST_NUMBER = 40


def parse_strictly(body: bytes) -> Any:
    """The value of a body.

    Args:
        body: JSON in UTF-8.

    Raises:
        Problem: With status 400, if it is not JSON as RFC 8259 writes it, nests too deep, or repeats a key.

    Example:
        >>> parse_strictly(b'{"k": [1, 2.5]}')
        {'k': [1, 2.5]}
    """
    try:
        text = body.decode("utf-8")
        value = _DECODER.decode(text)
    except UnicodeDecodeError as error:
        raise Problem(400, "A body is UTF-8.", f"byte {error.object[error.start]:#x} at {error.start}", _SEND) from None
    except json.JSONDecodeError as error:
        raise Problem(400, "A body is JSON.", str(error), _SEND) from None
    except RecursionError:  # the decoder counts levels too, many more of them
        raise _too_deep() from None
    if body.count(b"{") + body.count(b"[") > DEEPEST:  # fewer cannot nest deeper
        _check_depth(value)
    if "\\u" in text:
        _check_halves(value)
    return value


_SEND = "Send what a JSON library writes."


def _check_depth(value: Any) -> None:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEEPEST):
        inside = [each.values() if isinstance(each, dict) else each for each in level]
        level = [each for values in inside for each in values if isinstance(each, dict | list)]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> Problem:
    return Problem(400, f"JSON nests {DEEPEST} levels at most.", "a deeper one", "Flatten it.")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise Problem(400, "A key of an object stands there once.", f"{repeated!r} again", "Leave one of them.")
    return found


def _no_number(name: str) -> NoReturn:
    raise Problem(400, "A number in JSON is finite.", name, "Send null where there is no value.")


def _whole(digits: str) -> int:
    if len(digits) > _LONGEST_NUMBER:
        raise Problem(400, "A whole number has 40 digits at most.", digits, "Send it as a text.")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise Problem(400, "A number fits into 64 bits.", digits, "Send a smaller one.")
    return value


def _check_halves(value: Any) -> None:
    """Refuse texts that UTF-8 cannot write, which ``\\ud800`` alone makes."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Problem(400, "A text holds whole characters.", "half a surrogate pair", _SEND) from None
    elif isinstance(value, list):
        for each in value:
            _check_halves(each)
    elif isinstance(value, dict):
        for name, each in value.items():
            _check_halves(name)
            _check_halves(each)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_without_repeats, parse_constant=_no_number, parse_int=_whole, parse_float=_finite
)

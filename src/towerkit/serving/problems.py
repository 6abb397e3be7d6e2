"""What goes wrong in a request, told as our errors are: the rule, what was received, the next step."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from towerkit.core.errors import TowerkitError, redacted

_RECEIVED = re.compile(r"^(?P<rule>.*?)[;,:] received (?P<received>.*?)(?:\.\s+(?P<next>[A-Z].*)|\.?)$", re.DOTALL)
_LONGEST = 600
MOST_SHOWN = 200
"""Characters of what was received that an answer repeats."""


class Problem(Exception):
    """A request that is answered with an error.

    Args:
        status: The HTTP status.
        rule: What holds here.
        received: What came instead.
        next_step: What to do about it.
        headers: Further headers of the answer.
    """

    def __init__(
        self, status: int, rule: str, received: str = "", next_step: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(rule)
        self.status, self.rule, self.next_step = status, clean(rule), clean(next_step)
        self.received = clean(received, MOST_SHOWN)
        self.headers = dict(headers or {})

    def content(self) -> dict[str, dict[str, str]]:
        """The body of the answer."""
        return {"error": {"rule": self.rule, "received": self.received, "next": self.next_step}}

    def body(self) -> bytes:
        """The body as JSON."""
        return json.dumps(self.content()).encode()


def clean(text: str, longest: int = _LONGEST) -> str:
    """A text that can stand in an answer: no half characters, no control signs, not long.

    Example:
        >>> clean("a\\x00b\\ud800")
        'a�b�'
    """
    shown = "".join(sign if sign.isprintable() else "�" for sign in text[: longest + 1])
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def problem_of(error: TowerkitError, hidden: Sequence[tuple[str, str]] = ()) -> Problem:
    """An error of the library as one of a request.

    Args:
        error: Its message names the rule, what was received and the next step.
        hidden: Texts, such as the folder of a Run, and what stands in their place: an answer names no path.
    """
    text = redacted(str(error))
    for private, public in hidden:
        text = text.replace(private, public)
    found = _RECEIVED.match(text)
    if found is None:
        rule, _, next_step = text.rpartition(". ")
        return Problem(422, rule or text, "", next_step if rule else "")
    return Problem(422, found["rule"], found["received"], found["next"] or "")


def problem_of_validation(errors: Sequence[Any]) -> Problem:
    """The first fault that the check of a body found, in our words.

    Args:
        errors: As pydantic lists them.
    """
    first = errors[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
    more = f" ({len(errors)} faults in all)" if len(errors) > 1 else ""
    rule = str(first["msg"]).removeprefix("Value error, ")
    return Problem(
        422, f"{place}: {rule}{more}", _shown(first.get("input")), "See /openapi.json for what each call takes."
    )


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value):,}"
    return repr(value[: MOST_SHOWN + 1] if isinstance(value, (str, bytes)) else value)

"""The base of every spec: frozen, closed to unknown keys, tagged by a literal ``kind``.

A spec is plain data. It says what a part is and how to build it; the built part never sees it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from towerkit.core.errors import SpecError, listed, nearest

S = TypeVar("S", bound="Spec")


class Spec(BaseModel):
    """A frozen piece of configuration; an unknown key is refused with the nearest known one."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            for key in data:
                if key not in cls.model_fields:
                    raise PydanticCustomError(
                        "unknown_key",
                        "unknown key '{key}'{nearest} The keys here are {known}.",
                        {
                            "key": str(key),
                            "nearest": nearest(key, cls.model_fields) or ".",
                            "known": listed(cls.model_fields, limit=30),
                        },
                    )
        return data


def parse(spec_type: type[S], data: Any, source: str = "the spec") -> S:
    """Validate ``data`` as ``spec_type``; all problems are told in one :class:`SpecError`.

    Args:
        spec_type: The spec class.
        data: A mapping, as read from YAML or JSON.
        source: What to call the origin in the message, usually a file name.

    Returns:
        The validated spec.

    Raises:
        SpecError: With one line per problem: where, the rule, what was received, what would do.
    """
    try:
        return spec_type.model_validate(data)
    except ValidationError as error:
        raise SpecError(explain(error, source)) from None


def explain(error: ValidationError, source: str) -> str:
    """The problems of a validation error, one line each, in the words of this library."""
    lines = [_line(problem) for problem in error.errors(include_url=False)]
    head = f"{source}: " if len(lines) == 1 else f"{source} has {len(lines)} problems:\n  "
    return head + "\n  ".join(lines)


def _line(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"]) or "the top level"
    context = problem.get("ctx", {})
    if problem["type"] == "union_tag_invalid":
        kinds = [tag.strip().strip("'") for tag in context["expected_tags"].split(",")]
        tag = context["tag"]
        return (
            f"{where}: unknown kind '{tag}'{nearest(tag, kinds) or '.'} The kinds here are {listed(kinds, limit=30)}."
        )
    if problem["type"] == "union_tag_not_found":
        return f"{where}: needs a key {context['discriminator']} that says which part this is; received {_short(problem['input'])}."
    if problem["type"] == "missing":
        return f"{where}: is required and was not given."
    if problem["type"] in ("unknown_key", "value_error"):
        return f"{where}: {problem['msg'].removeprefix('Value error, ')}"
    return f"{where}: {problem['msg'][0].lower()}{problem['msg'][1:]}; received {_short(problem['input'])}."


def _short(value: Any, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"

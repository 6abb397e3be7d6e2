"""The base of every spec: frozen, closed to unknown keys, tagged by a literal ``kind``.

A spec is plain data. It says what a part is and how to build it; the built part never sees it.
"""

from __future__ import annotations

import reprlib
import typing
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from towerkit._version import __version__
from towerkit.core.errors import SpecError, listed, nearest

S = TypeVar("S", bound="Spec")


# What a user may call a tower, a task or a member: it becomes part of file names and of the names of weights.
# (A comment: as a docstring, the pattern would reach the reference pages, whose markup reads it as a link.)
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]


class Spec(BaseModel):
    """A frozen piece of configuration; an unknown key is refused with the nearest known one.

    The order of keys means nothing: parts with names of their own, such as towers, always stand sorted. So a spec that
    was stored as sorted JSON builds the same model again, whose weights fit.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        allow_inf_nan=False,
        serialize_by_alias=True,  # a key that Python cannot call so, such as "as", is a field with an alias
    )

    @classmethod
    def key_names(cls) -> tuple[str, ...]:
        """Its keys as a file writes them.

        Example:
            >>> Spec.key_names()
            ()
        """
        return tuple(field.alias or name for name, field in cls.model_fields.items())

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            known = cls.key_names()
            for key in data:
                if key not in known:
                    raise PydanticCustomError(
                        "unknown_key",
                        "unknown key '{key}'{nearest} The keys here are {known}.",
                        {
                            "key": str(key),
                            "nearest": nearest(key, known) or ".",
                            "known": listed(known, limit=30),
                        },
                    )
            types = {field.alias or name: field.annotation for name, field in cls.model_fields.items()}
            return {key: _strict(_sorted(value), types[key]) for key, value in data.items()}
        return data


class _YesOrNo:
    """True or False where neither belongs. Python counts with them as with 1 and 0, and so would pydantic."""

    def __init__(self, value: bool) -> None:
        self.value = value

    def __repr__(self) -> str:
        return repr(self.value)


def _strict(value: Any, annotation: Any) -> Any:
    """The value, but no type will take its true or false for a number: ``epochs: yes`` must not train for one epoch."""
    if isinstance(value, bool):
        return (
            value
            if _takes(bool, annotation) or not (_takes(int, annotation) or _takes(float, annotation))
            else _YesOrNo(value)
        )
    return [_strict(item, annotation) for item in value] if type(value) in (list, tuple) else value


def _takes(kind: type, annotation: Any) -> bool:
    """Whether true or false (or a number) stands anywhere in a field's type."""
    if annotation in (kind, Any, object) or type(annotation) is kind:  # an instance is one of a literal's values
        return True
    return any(_takes(kind, part) for part in typing.get_args(annotation))


def _sorted(value: Any) -> Any:
    return dict(sorted(value.items(), key=lambda item: str(item[0]))) if isinstance(value, Mapping) else value


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
        raise SpecError(explain(error, source, data)) from None


_RULES = {
    "model_type": "must be a mapping of keys",
    "model_attributes_type": "must be a mapping of keys",
    "dict_type": "must be a mapping of names",
    "tuple_type": "must be a list",
    "string_pattern_mismatch": "a name must begin with a letter A-Z and go on with letters, digits, _ or -, 64 at most",
}
"""Pydantic's names of problems that it tells in Python's words -> the words of a spec file."""


def explain(error: ValidationError, source: str, data: Any) -> str:
    """The problems of a validation error, one line each, in the words of this library."""
    problems = error.errors(include_url=False)
    inner = {problem["loc"][:depth] for problem in problems for depth in range(len(problem["loc"]))}
    # A list with a bad entry is also told to be too short, for the bad entry does not count: once is enough.
    told = [problem for problem in problems if problem["type"] != "too_short" or problem["loc"] not in inner]
    lines = [_line(problem, data) for problem in told]
    head = f"{source}: " if len(lines) == 1 else f"{source} has {len(lines)} problems:\n  "
    return head + "\n  ".join(lines)


def _line(problem: Any, data: Any) -> str:
    kind, message, received = problem["type"], problem["msg"], short(problem["input"])
    place, context = problem["loc"], problem.get("ctx", {})
    is_kind = kind == "literal_error" and place[-1] == "kind"
    where = _where(place[:-1] if is_kind else place, data, is_missing=kind == "missing") or "the top level"
    if kind == "union_tag_invalid":
        return f"{where}: {_unknown_kind(context['tag'], context['expected_tags'].split(','))}"
    if is_kind:
        return f"{where}: {_unknown_kind(problem['input'], context['expected'].replace(' or ', ',').split(','))}"
    if kind == "union_tag_not_found":
        key = context["discriminator"].rpartition(" | ")[2].strip("'")  # of a name and its alias, the alias
        return f"{where}: needs a key '{key}' that says which part this is; received {received}."
    if kind == "missing":
        return f"{where}: is required and was not given."
    if kind in ("unknown_key", "value_error"):
        return f"{where}: {message.removeprefix('Value error, ')}"
    if kind == "too_short":
        return f"{where}: needs {context['min_length']} or more entries; received {received}."
    return f"{where}: {_RULES.get(kind, message[0].lower() + message[1:])}{_as_in(kind, problem['input'])}; received {received}."


def _as_in(kind: str, received: Any) -> str:
    """An example of the right form, made of what was received where that is likely to be meant."""
    if kind == "tuple_type":
        is_part = isinstance(received, Mapping) and "kind" in received
        return f", as in [{short(received)}]" if is_part else ", as in [1, 2]"
    if kind == "model_attributes_type" and isinstance(received, str) and received.isidentifier():
        return f", as in {{kind: {received}}}"
    return ""


def _unknown_kind(kind: Any, quoted: list[str]) -> str:
    kinds = [name.strip().strip("'") for name in quoted]
    return (
        f"unknown kind '{kind}'{nearest(kind, kinds) or '.'} The kinds here are {listed(kinds, limit=30)}; this is towerkit "
        f"{__version__}, and a newer one may have more."
    )


def _where(location: tuple[str | int, ...], data: Any, *, is_missing: bool) -> str:
    """The place as the user wrote it; pydantic's location also names the kinds that it chose on its way."""
    path = []
    for part in location:
        is_key = isinstance(data, Mapping) and part in data
        is_position = isinstance(data, list | tuple) and isinstance(part, int) and part < len(data)
        if is_key or is_position:
            path.append(str(part))
            data = data[part]
    return ".".join([*path, str(location[-1])] if is_missing else path)


def short(value: Any, limit: int = 60) -> str:
    """A value for a message; of a huge or deep one only the start is ever written out."""
    writer = reprlib.Repr()
    writer.maxstring = writer.maxother = limit
    text = writer.repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def kind_or(default: str) -> BeforeValidator:
    """Let a part of a tagged menu leave its ``kind`` out.

    Args:
        default: The kind that is meant then.

    Returns:
        An annotation to stand behind the menu's own.
    """

    def complete(value: Any) -> Any:
        return {"kind": default, **value} if isinstance(value, Mapping) and "kind" not in value else value

    return BeforeValidator(complete)

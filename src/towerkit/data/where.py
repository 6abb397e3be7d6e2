"""A condition on the columns of a table, such as ``price < 20 and category == "books"``. Read by a small grammar, never evaluated.

The grammar::

    condition  = both { "or" both }
    both       = one { "and" one }
    one        = "not" one | "(" condition ")" | comparison
    comparison = column operator value                  price <= 9.5 · "unit price" > 3 · released >= '2024-05-31'
               | column ["not"] "in" [value, …]         category in ['books', 'toys']
               | value ["not"] "in" column              'lamp' in title (a part of a text) · 'Comedy' in genres (one of a list)
    column     = a name, in double quotes if it is not of letters, digits, _ and . alone
    operator   = == != < <= > >=
    value      = a number, true, false, a text in quotes, or null for "no value" (== and != only)

As in SQL, a row without a value in a column holds no comparison with it, and not its opposite either: ``not price < 20`` is
``price >= 20``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from towerkit.core.errors import SpecError
from towerkit.data.comparisons import Comparison, Value, at_place
from towerkit.data.table import Table

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>'[^']*'|"[^"]*")|(?P<operator><=|>=|==|!=|<|>)|(?P<sign>[()\[\],])"""
    r"""|(?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))|(?P<name>[^\W\d][\w.]*))"""
)
_WORDS = ("and", "or", "not", "in", "true", "false", "null")
_LITERALS: dict[str, Value] = {"true": True, "false": False, "null": None}
_MOST_CHARACTERS, _DEEPEST = 10_000, 50


@dataclass(frozen=True)
class Where:
    """A condition that was read."""

    text: str
    """As it was written."""
    condition: Callable[[Table], pa.Array]
    comparisons: tuple[Comparison, ...]
    """Those that it is made of."""

    def notes(self, table: Table) -> list[str]:
        """Texts that a column is compared with and never holds, which is often a slip: ``'Books'`` for ``'books'``."""
        return [note for comparison in self.comparisons for note in comparison.notes(table)]

    def holds(self, table: Table) -> NDArray[np.bool_]:
        """Which rows hold it.

        Args:
            table: The rows.

        Returns:
            ``[rows]``.

        Raises:
            DataError: If a column is missing, or holds values of another type; shows the place in the condition.
        """
        return np.asarray(pc.fill_null(self.condition(table), False).to_numpy(zero_copy_only=False), bool)


def parse_where(text: str) -> Where:
    """Read a condition.

    Raises:
        SpecError: If it is not of the grammar above; shows the place.

    Example:
        >>> toys = Table(pa.table({"price": [3, 30, None], "kind": ["doll", "kite", "kite"]}), "toys")
        >>> parse_where("price < 20 or kind == 'kite'").holds(toys).tolist()
        [True, True, True]
        >>> parse_where("not price < 20").holds(toys).tolist()
        [False, True, False]
    """
    if not isinstance(text, str) or not text.strip():
        raise SpecError(f"where: a condition is a text such as price < 20; received {text!r}.")
    if len(text) > _MOST_CHARACTERS:
        raise SpecError(
            f"where: a condition has at most {_MOST_CHARACTERS:,} characters; received {len(text):,}. Give a long list of "
            "keys as allow."
        )
    if any("\ud800" <= character <= "\udfff" for character in text):  # what a shell's Latin-1 bytes become
        raise SpecError(f"where: the condition is no valid text: {text!r} holds half a character. Write it in UTF-8.")
    parser = _Parser(text, _tokens(text))
    condition = parser.condition()
    if parser.token is not None:
        parser.refuse("expected and, or, or the end")
    return Where(text.strip(), condition, tuple(parser.comparisons))


@dataclass(frozen=True)
class _Token:
    kind: str
    """``text``, ``operator``, ``sign``, ``number``, ``name`` or ``word``."""
    written: str
    place: int


def _tokens(text: str) -> list[_Token]:
    found, place = [], 0
    while text[place:].strip():
        match = _TOKEN.match(text, place)
        if match is None:
            start = place + len(text[place:]) - len(text[place:].lstrip())
            raise SpecError(at_place(_unreadable(text[start:]), text, start))
        kind = str(match.lastgroup)
        written = match[kind]
        found.append(_Token("word" if written in _WORDS else kind, written, match.start(kind)))
        place = match.end()
    return found


def _unreadable(rest: str) -> str:
    if rest[0] in "'\"":
        return f"a text ends with the quote that it began with; this one never ends: {rest[:30]}"
    if rest[0] == "=":
        return "two values are compared with ==; received ="
    if rest[0] in "&|!":
        return f"conditions are joined with and, or, not; received {rest[0]}"
    return f"received {rest[:10]!r}, which is no column, operator or value; a column with such a name goes in double quotes"


class _Parser:
    """One look ahead, from left to right."""

    def __init__(self, text: str, tokens: list[_Token]) -> None:
        self.text, self.tokens, self.next, self.depth = text, tokens, 0, 0
        self.comparisons: list[Comparison] = []

    @property
    def token(self) -> _Token | None:
        return self.tokens[self.next] if self.next < len(self.tokens) else None

    def take(self, *written: str) -> _Token | None:
        """The next token if it is one of these signs, operators or words."""
        token = self.token
        if token is None or token.kind not in ("sign", "operator", "word") or token.written not in written:
            return None
        self.next += 1
        return token

    def refuse(self, expected: str) -> NoReturn:
        received = "the end" if self.token is None else self.token.written
        place = len(self.text) if self.token is None else self.token.place
        raise SpecError(at_place(f"{expected}; received {received}", self.text, place))

    def condition(self) -> Callable[[Table], pa.Array]:
        parts = [self.both()]
        while self.take("or"):
            parts.append(self.both())
        return _joined(pc.or_kleene, parts)

    def both(self) -> Callable[[Table], pa.Array]:
        parts = [self.one()]
        while self.take("and"):
            parts.append(self.one())
        return _joined(pc.and_kleene, parts)

    def one(self) -> Callable[[Table], pa.Array]:
        self.depth += 1
        if self.depth > _DEEPEST:
            self.refuse(f"parentheses and nots go at most {_DEEPEST} deep")
        if self.take("not"):
            inner = self.one()
            found: Callable[[Table], pa.Array] = lambda table: pc.invert(inner(table))  # noqa: E731
        elif self.take("("):
            found = self.condition()
            if not self.take(")"):
                self.refuse("expected ) after a condition in parentheses")
        else:
            found = self.comparison()
        self.depth -= 1
        return found

    def comparison(self) -> Callable[[Table], pa.Array]:
        first = self.operand()
        operator = self.take("==", "!=", "<", "<=", ">", ">=")
        if operator is None:
            return self.membership(first)
        column = self.column(first)
        return self.compared(column, operator.written, (self.value(operator.written),), first.place).holds

    def compared(self, column: str, operator: str, values: tuple[Value, ...], place: int) -> Comparison:
        self.comparisons.append(Comparison(column, operator, values, self.text, place))
        return self.comparisons[-1]

    def membership(self, first: _Token) -> Callable[[Table], pa.Array]:
        """``column in [values]`` or ``value in column``, or the opposite of one of them."""
        negated = self.take("not") is not None
        if not self.take("in"):
            self.refuse(f"expected a comparison (==, !=, <, <=, >, >=, in) after {first.written}")
        opened = self.take("[", "(")
        if opened is None:
            if first.kind == "name":
                self.refuse(f"expected a list after in, as {first.written} in ['a', 'b']")
            second = self.operand()
            if second.kind != "name" and not second.written.startswith('"'):
                self.next -= 1
                self.refuse("expected a column or a list after in")
            found = self.compared(_unquoted(second), "has", (self.literal(first),), second.place)
        else:
            column, values, closing = self.column(first), [self.value("in")], "]" if opened.written == "[" else ")"
            while self.take(",") and not (self.token and self.token.written == closing):
                values.append(self.value("in"))
            if not self.take(closing):
                self.refuse("expected a comma, or the end of the list")
            found = self.compared(column, "in", tuple(values), first.place)
        return (lambda table: pc.invert(found.holds(table))) if negated else found.holds

    def operand(self) -> _Token:
        token = self.token
        if token is None or not (token.kind in ("name", "text", "number") or token.written in _LITERALS):
            self.refuse("expected a column")
        self.next += 1
        return token

    def column(self, token: _Token) -> str:
        if token.kind == "name" or token.written.startswith('"'):
            return _unquoted(token)
        self.next -= 1
        raise SpecError(at_place(f"the column goes first, and {token.written} is a value", self.text, token.place))

    def value(self, operator: str) -> Value:
        token = self.token
        if token is not None and token.kind == "name":
            self.refuse(f"expected a value after {operator} (a text goes in quotes: '{token.written}')")
        if token is None or not (token.kind in ("text", "number") or token.written in _LITERALS):
            self.refuse(f"expected a number, true, false, null or a text in quotes after {operator}")
        self.next += 1
        return self.literal(token)

    def literal(self, token: _Token) -> Value:
        if token.kind == "text":
            return token.written[1:-1]
        if token.written in _LITERALS:
            return _LITERALS[token.written]
        return int(token.written) if re.fullmatch(r"[+-]?\d{1,18}", token.written) else float(token.written)


def _unquoted(token: _Token) -> str:
    return token.written if token.kind == "name" else token.written[1:-1]


def _joined(join: Callable[[Any, Any], Any], parts: list[Callable[[Table], pa.Array]]) -> Callable[[Table], pa.Array]:
    if len(parts) == 1:
        return parts[0]

    def joined(table: Table) -> pa.Array:
        found = parts[0](table)
        for part in parts[1:]:
            found = join(found, part(table))
        return found

    return joined

"""Words of users in Markdown: whatever a column is called, it stays a name and never becomes markup, a link or a new line."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

_PLAIN = re.compile(r"(?!\d+[.)](?: |$))[A-Za-z0-9][A-Za-z0-9_@/ =.,:%()-]*")
_LINKED = re.compile(r"www\.|://|@\w+\.\w", re.IGNORECASE)


def name(text: object, limit: int = 80) -> str:
    """A name as Markdown: as it is where it is plain, else as code; cut, on one line, without characters that cannot be seen.

    Example:
        >>> name("ndcg@5"), name("a|b"), name("<b>`x`")
        ('ndcg@5', '`a|b`', '``<b>`x` ``')
    """
    shown = "".join(" " if unicodedata.category(each)[0] in "CZ" else each for each in str(text))
    shown = " ".join(shown.split())
    shown = shown if len(shown) <= limit else shown[: limit - 1] + "…"
    if _PLAIN.fullmatch(shown) and not _LINKED.search(shown) and "_ " not in shown and " _" not in shown:
        return shown
    fence = "`" * (_longest_run(shown) + 1)
    padding = " " if shown.startswith("`") or shown.endswith("`") or not shown else ""
    left = padding if shown.startswith("`") or not shown else ""
    return f"{fence}{left}{shown}{padding}{fence}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table; a cell is Markdown already, and a pipe in it is escaped here.

    Example:
        >>> table(["a", "b"], [["`x|y`", "2"]])
        ['| a | b |', '|---|---|', '| `x\\\\|y` | 2 |']
    """
    lines = [_row(head), "|---" * len(head) + "|"]
    return lines + [_row(row) for row in rows]


def block(content: Any) -> list[str]:
    """Plain data as a block of JSON, fenced so that nothing in it can end the block."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    fence = "`" * max(3, _longest_run(text) + 1)
    return [f"{fence}json", text, fence]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)

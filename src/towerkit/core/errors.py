"""Every error that towerkit raises on purpose.

A message says three things: the rule, what was received, the next step. A data error also names
the file, the column, the row and the value where they are known.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_PASSWORD = re.compile(r"(://[^\s:/@'\"]*:)[^\s'\"]+(?=@)")
_SECRET_KEY = re.compile(r"(?i)([?&;](?:password|passwd|pwd|token|secret|sslpassword)=)[^\s&;'\"]+")
_NAMED = re.compile(r"\$\{[^}]*\}")


def redacted(text: str) -> str:
    """The text with the passwords of addresses taken out; a variable that stands for one may stay.

    Example:
        >>> redacted("postgresql://ann:s3cret@db/shop?sslpassword=x and postgresql://ann:${SECRET}@db/shop")
        'postgresql://ann:***@db/shop?sslpassword=*** and postgresql://ann:${SECRET}@db/shop'
    """

    def hidden(found: re.Match[str]) -> str:
        value = found.group(0)[len(found.group(1)) :]
        return found.group(1) + (value if _NAMED.fullmatch(value) else "***")

    return _SECRET_KEY.sub(hidden, _PASSWORD.sub(hidden, text))


class TowerkitError(Exception):
    """Base of all errors raised on purpose; the command line prints them without a traceback.

    A password in an address never reaches a message, whoever wrote the message.
    """

    def __init__(self, *parts: object) -> None:
        super().__init__(*(redacted(part) if isinstance(part, str) else part for part in parts))

    status = 1
    """What the command line ends with."""
    page = "quickstart"
    """The page of docs that explains what was asked of the user; the command line names it below the message."""


class SpecError(TowerkitError, ValueError):
    """A spec, or a setting given on the command line, is not one that towerkit knows."""

    page = "specs"


class DataError(TowerkitError, ValueError):
    """A file, column, row or value cannot be used as data."""

    page = "data"


class FetchError(TowerkitError, RuntimeError):
    """A public data set cannot be fetched, or what came is not what was promised."""

    page = "data"


class RunError(TowerkitError, ValueError):
    """A Run folder is missing, damaged, newer than this version, or cannot do what was asked."""

    page = "runs"


class IndexFileError(RunError):
    """The folder of an index is missing, damaged, newer than this version, or of another embedding space."""

    page = "indexes"


class ShapeError(TowerkitError, ValueError):
    """Two parts that meet do not have the widths they need."""

    page = "specs"


class TrainingError(TowerkitError, RuntimeError):
    """Training cannot go on, for example because a loss is not a number."""

    page = "training"


class MissingExtraError(TowerkitError, ImportError):
    """An optional package is needed; the message names the extra to install."""

    page = "quickstart"


def listed(names: Iterable[object], limit: int = 12) -> str:
    """The names, sorted, quoted and cut after ``limit``.

    Example:
        >>> listed(["b", "a"])
        "'a', 'b'"
        >>> listed("abc", limit=2)
        "'a', 'b', … (3 in all)"
    """
    found = sorted(str(name) for name in names)
    shown = ", ".join(f"'{name}'" for name in found[:limit])
    return shown if len(found) <= limit else f"{shown}, … ({len(found):,} in all)"


def nearest(name: object, names: Iterable[object]) -> str:
    """A closing phrase with the nearest known name, or nothing when none is near.

    Example:
        >>> nearest("ligth", ["light", "dark"])
        "; did you mean 'light'?"
        >>> nearest("zzz", ["light", "dark"])
        ''
    """
    known = {str(known).lower(): str(known) for known in names}
    close = difflib.get_close_matches(str(name).lower(), list(known), n=1, cutoff=0.6)
    return f"; did you mean '{known[close[0]]}'?" if close else ""

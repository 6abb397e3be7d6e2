"""SHA-256 of files and of JSON-able objects, and the strict JSON that both rest on.

One object has one text: keys sorted, no NaN, keys that are strings. So a hash of the text is a hash of the object.
Reading is as strict: a size cap, a depth cap, no key twice, no NaN, and one typed error that names the file.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

from towerkit.core.errors import RunError
from towerkit.storage.atomic import atomic_write_bytes

MAX_JSON_BYTES = 4 << 20
MAX_JSON_DEPTH = 64

# A string literal in one step, ended by a quote or by the end of the text: linear time on hostile input too.
_STRING = re.compile(r'"(?:[^"\\]++|\\.?)*+"?', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")


def sha256_bytes(data: bytes) -> str:
    """The SHA-256 of ``data``, as 64 lower-case hexadecimal digits.

    Example:
        >>> sha256_bytes(b"tower")[:12]
        'ad2015263f33'
    """
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: str | Path) -> str:
    """The SHA-256 of a file, read in pieces.

    Raises:
        RunError: If the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RunError(f"Cannot read {path} ({error.strerror}); check that it exists and may be read.") from error


def content_hash(value: Any) -> str:
    """The SHA-256 of a JSON-able object; the order of keys does not matter, the order of lists does.

    Raises:
        RunError: If the object is not JSON-able; it names the place inside the object.

    Example:
        >>> content_hash({"a": 1, "b": [2]}) == content_hash({"b": [2], "a": 1})
        True
    """
    return sha256_bytes(json_bytes(value, indent=None))


def json_bytes(value: Any, *, indent: int | None = 2) -> bytes:
    """The one UTF-8 text of a JSON-able object: sorted keys, and with ``indent`` a line per entry and a final newline.

    Raises:
        RunError: If a value is NaN or infinite, a key is not a string, or a type has no JSON form.
    """
    _check_jsonable(value, "", 0)
    separators = (",", ":") if indent is None else (",", ": ")
    try:
        text = json.dumps(value, sort_keys=True, indent=indent, separators=separators, ensure_ascii=False)
        return (text if indent is None else text + "\n").encode()
    except UnicodeEncodeError as error:
        raise RunError(
            f"A text cannot be written as UTF-8: it holds {error.object[error.start : error.end]!r}, half of a "
            "surrogate pair; repair the text where it was read."
        ) from error
    except ValueError as error:  # an integer of thousands of digits
        raise RunError(f"A number cannot be written as JSON: {error}; store it as text.") from error


def write_json(path: str | Path, value: Any) -> None:
    """Write an object as sorted, indented JSON; the file is whole or as it was before.

    Raises:
        RunError: If the object is not JSON-able or the file cannot be written.
    """
    try:
        data = json_bytes(value)
    except RunError as error:
        raise RunError(f"{path}: {error}") from None
    atomic_write_bytes(path, data)


def read_json(path: str | Path, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Read a JSON file, strictly.

    Args:
        path: The file.
        max_bytes: A larger file is refused before it is parsed.

    Returns:
        The object.

    Raises:
        RunError: If the file is missing, too large, not UTF-8, not JSON, nested deeper than 64, names a key twice or
            holds NaN; it names the file.
    """
    return parse_json(read_bytes(path, max_bytes), str(path))


def read_bytes(path: str | Path, max_bytes: int) -> bytes:
    """The content of a regular file of at most ``max_bytes``.

    Raises:
        RunError: If it is missing, not a regular file, unreadable or larger.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise RunError(f"{path} is not a regular file; give the path of a file.")
        with open(path, "rb") as file:
            data = file.read(max_bytes + 1)
            size = len(data) if len(data) <= max_bytes else max(len(data), path.stat().st_size)
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"Cannot read {path} ({reason}); check that it exists and may be read.") from error
    if size > max_bytes:
        raise RunError(f"{path} has {size:,} bytes, more than the {max_bytes:,} allowed; it is not such a file.")
    return data


def parse_json(data: bytes, source: str) -> Any:
    """Parse JSON from outside; ``source`` opens every error message.

    Raises:
        RunError: As :func:`read_json`.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RunError(
            f"{source}: is not UTF-8: byte {data[error.start]:#04x} at {error.start}; the file is damaged or of "
            "another kind."
        ) from None
    depth = _depth(text)
    if depth > MAX_JSON_DEPTH:
        raise RunError(
            f"{source}: nests {depth:,} levels deep, more than the {MAX_JSON_DEPTH} allowed; towerkit did not write it."
        )
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise RunError(
            f"{source}: is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}; the file is "
            "damaged or was cut short."
        ) from None
    except ValueError as error:  # from the three hooks, or an integer of thousands of digits
        raise RunError(f"{source}: is not valid JSON here: {error}; towerkit did not write it.") from None


def _depth(text: str) -> int:
    level = deepest = 0
    for bracket in _BRACKET.finditer(_STRING.sub("", text)):  # not a list of them: a hostile file is all brackets
        level += 1 if bracket[0] in "[{" else -1
        deepest = max(deepest, level)
    return deepest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key '{key}' appears twice")
        found[key] = value
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:40]} is too large")
    return value


def _check_jsonable(value: Any, where: str, depth: int) -> None:
    """Refuse what has no JSON form or would come back as something else."""
    place = where.removeprefix(".") or "the value"
    if depth >= MAX_JSON_DEPTH and isinstance(value, (dict, list, tuple)):
        raise RunError(f"{place[:80]}… nests more than {MAX_JSON_DEPTH} levels deep (or holds itself); flatten it.")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise RunError(f"{place}: JSON keys are strings, received {key!r}; convert it with str().")
            _check_jsonable(item, f"{where}.{key}", depth + 1)
    elif isinstance(value, (list, tuple)):
        for position, item in enumerate(value):
            _check_jsonable(item, f"{where}[{position}]", depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise RunError(f"{place}: JSON has no {value}; leave the entry out or use null (None).")
    elif not (value is None or isinstance(value, (str, int, float, bool))):
        raise RunError(
            f"{place}: {type(value).__name__} has no JSON form; convert it first (a NumPy number with .item(), an "
            "array with .tolist())."
        )

"""Reading the JSON files of a Run: strict JSON, brought to this version's format, with exactly the keys that are known."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from towerkit.core.errors import RunError, listed, nearest
from towerkit.storage.hashes import read_json
from towerkit.storage.migrations import FORMAT_VERSION, upgraded


def read_document(path: Path, version: int, keys: Iterable[str], optional: Iterable[str] = ()) -> dict[str, Any]:
    """Read one of a Run's JSON files.

    Args:
        path: The file.
        version: The format of its Run.
        keys: What it must hold.
        optional: What it may hold; whoever reads such a key must have a default for the Runs written before it.

    Returns:
        Its content, as this version would have written it.

    Raises:
        RunError: As :func:`towerkit.storage.hashes.read_json`; and if the content is no object, lacks a key, or has one that
            this version does not know.
    """
    content = upgraded(path.name, read_json(path), version)
    if not isinstance(content, dict):
        raise RunError(f"{path}: must hold a JSON object, received a {type(content).__name__}; train the Run again.")
    required, known = set(keys), {*keys, *optional}
    if required - content.keys():
        raise RunError(f"{path}: the keys {listed(required - content.keys())} are missing; train the Run again.")
    unknown = min(content.keys() - known, default=None)
    if unknown is not None:
        raise RunError(
            f"{path}: unknown key '{unknown}'{nearest(unknown, known) or '.'} This towerkit reads Runs up to format "
            f"{FORMAT_VERSION}, where such a file has {listed(known)}; upgrade towerkit, or train the Run again."
        )
    return content

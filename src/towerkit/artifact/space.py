"""The embedding-space id: which vectors may be compared.

Two Runs with the same id turn the same raw row into the same vector, so vectors that one of them made can be searched with
those of the other. The id is a hash of all that a vector is made of: weights, fitted features with their vocabularies, and
the model's spec. Figures, catalogues, titles, the place of the folder and the time of writing are not in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from towerkit.storage.hashes import content_hash, read_json, sha256_file
from towerkit.storage.manifest import FileEntry

_MAKES_VECTORS = re.compile(r"weights\.safetensors|encoder\.json|vocabulary-\d+\.arrow")
_SHOWN_ONLY = ("titles",)


def space_id(content: Mapping[str, Any], hashes: Mapping[str, str]) -> str:
    """The embedding-space id of a two-tower.

    Args:
        content: Of its ``model.json``.
        hashes: File in its folder ``model/`` -> SHA-256, of all that are there or only of those that make vectors.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> one, other = {"spec": {}, "titles": {"item": "name"}}, {"spec": {}, "titles": {}}
        >>> space_id(one, {"weights.safetensors": "ab"}) == space_id(other, {"weights.safetensors": "ab", "seen.safetensors": "cd"})
        True
    """
    parts = {name: digest for name, digest in hashes.items() if _MAKES_VECTORS.fullmatch(name)}
    return content_hash({"files": parts, "model": {key: v for key, v in content.items() if key not in _SHOWN_ONLY}})


def space_on_disk(run: Path) -> str:
    """The embedding-space id of a Run that has no manifest yet, in this version's format.

    Raises:
        RunError: If a file cannot be read.
    """
    folder = run / "model"
    paths = [path for path in folder.iterdir() if _MAKES_VECTORS.fullmatch(path.name)]
    return space_id(read_json(folder / "model.json"), {path.name: sha256_file(path) for path in paths})


def hashes_in_manifest(files: Mapping[str, FileEntry]) -> dict[str, str]:
    """File in the folder ``model/`` -> SHA-256, as a manifest has it whose files were verified."""
    return {name.removeprefix("model/"): entry.sha256 for name, entry in files.items() if name.startswith("model/")}

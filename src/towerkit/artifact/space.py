"""The embedding-space id: which vectors may be compared.

Two Runs with the same id turn the same raw row into the same vector, so vectors that one of them made can be searched with
those of the other. The id is a hash of all that a vector is made of: weights, fitted features with their vocabularies, and
the model's spec. Figures, catalogues, titles, the place of the folder and the time of writing are not in it.

A Run whose query side was brought into the space of another one keeps that one's id: its candidate vectors are those of that
space bit for bit, so an index of them stays valid, and its query vectors, which are others, are made to be compared with them.
``model.json`` then holds, under ``aligned``, the id and a hash of the files that it was written beside.
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
    parts = vector_files(hashes)
    aligned = content.get("aligned")
    if isinstance(aligned, Mapping) and aligned.get("files") == content_hash(parts):
        return str(aligned["space"])
    return content_hash({"files": parts, "model": {key: v for key, v in content.items() if key not in _SHOWN_ONLY}})


def vector_files(hashes: Mapping[str, str]) -> dict[str, str]:
    """Those of some files in the folder ``model/`` that make vectors, with their SHA-256."""
    return {name: digest for name, digest in hashes.items() if _MAKES_VECTORS.fullmatch(name)}


def aligned_with(folder: Path, space: str) -> dict[str, str]:
    """What ``model.json`` holds of a model that was brought into the space of another Run.

    Args:
        folder: The folder ``model/``, its other files written.
        space: The embedding-space id of that Run.
    """
    return {"space": space, "files": content_hash(vector_files(_hashes_in(folder)))}


def space_on_disk(run: Path) -> str:
    """The embedding-space id of a Run that has no manifest yet, in this version's format.

    Raises:
        RunError: If a file cannot be read.
    """
    folder = run / "model"
    return space_id(read_json(folder / "model.json"), _hashes_in(folder))


def hashes_in_manifest(files: Mapping[str, FileEntry]) -> dict[str, str]:
    """File in the folder ``model/`` -> SHA-256, as a manifest has it whose files were verified."""
    return {name.removeprefix("model/"): entry.sha256 for name, entry in files.items() if name.startswith("model/")}


def _hashes_in(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in folder.iterdir() if _MAKES_VECTORS.fullmatch(path.name)}

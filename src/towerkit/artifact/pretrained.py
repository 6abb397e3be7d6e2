"""The pretrained encoders of a Run: their files once, whatever number of towers and members read by them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from towerkit.core.errors import RunError
from towerkit.core.spec import short
from towerkit.pretrained.folder import SHOWN_DIGITS, Pretrained

_FOLDER = "pretrained"


def save_pretrained(folder: Path, encoders: Iterable[Pretrained]) -> None:
    """Write the files of encoders beside a model, or beside the whole model where this is a member of it.

    Args:
        folder: The model's, or a member's.
        encoders: Those that its features read by.

    Raises:
        RunError: If a file of one is gone or changed.
    """
    home = (folder.parents[1] if folder.parent.name == "members" else folder) / _FOLDER
    for encoder in encoders:
        if not (home / encoder.folder_name).exists():
            encoder.copy_to(home / encoder.folder_name)


def load_pretrained(folder: Path, features: Mapping[str, Any]) -> dict[str, Pretrained]:
    """The encoders that stored features name, by fingerprint; their files are hashed, nothing of them is read.

    Args:
        folder: The model's, or a member's.
        features: Entity -> features as ``encoder.json`` has them.

    Raises:
        RunError: If one is not there, or is another.
    """
    named = [entry["pretrained"] for entries in features.values() for entry in entries if "pretrained" in entry]
    found = {}
    for fingerprint in dict.fromkeys(named):
        if (
            not isinstance(fingerprint, str)
            or len(fingerprint) != 64
            or not set(fingerprint) <= set("0123456789abcdef")
        ):
            raise RunError(
                f"{folder / 'encoder.json'}: a pretrained encoder is named by 64 hexadecimal digits, received "
                f"{short(fingerprint)}; train the Run again."
            )
        own = folder / _FOLDER / fingerprint[:SHOWN_DIGITS]
        shared = folder.parent.parent / _FOLDER / fingerprint[:SHOWN_DIGITS]
        is_member = folder.parent.name == "members"
        found[fingerprint] = Pretrained.in_run(shared if is_member and not own.is_dir() else own, fingerprint)
    return found

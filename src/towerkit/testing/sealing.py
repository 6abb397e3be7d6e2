"""Sealing a Run again after its files were changed: what a test does that plays someone who can write the whole folder."""

from __future__ import annotations

import contextlib
from pathlib import Path

from towerkit.artifact.space import hashes_on_disk, space_id
from towerkit.core.errors import RunError
from towerkit.storage.hashes import read_json
from towerkit.storage.manifest import MANIFEST_NAME, read_manifest, write_manifest


def seal_again(run: Path) -> None:
    """Make hashes, embedding-space id and seal agree with whatever the folder holds now.

    Args:
        run: A folder whose manifest can still be read.
    """
    before = read_manifest(run)
    space = before.space
    if space is not None:
        with contextlib.suppress(RunError, AttributeError):  # a model.json that is none has no id
            space = space_id(read_json(run / "model" / "model.json"), hashes_on_disk(run / "model"))
    (run / MANIFEST_NAME).unlink()
    write_manifest(run, kind=before.kind, extra=before.extra, space=space)

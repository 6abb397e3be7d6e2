"""Sealing a Run again after its files were changed: what a test does that plays someone who can write the whole folder."""

from __future__ import annotations

import contextlib
from pathlib import Path

from towerkit.artifact.space import space_on_disk
from towerkit.core.errors import RunError
from towerkit.storage.atomic import MANIFEST_NAME
from towerkit.storage.hashes import content_hash, read_json, sha256_file, write_json


def seal_again(run: Path) -> None:
    """Make hashes, embedding-space id and seal agree with whatever the folder holds now, in the format it has.

    Args:
        run: A folder whose manifest can still be read.
    """
    content = read_json(run / MANIFEST_NAME)
    paths = sorted(path for path in run.rglob("*") if path.is_file() and path != run / MANIFEST_NAME)
    content["files"] = {
        path.relative_to(run).as_posix(): {"sha256": sha256_file(path), "bytes": path.stat().st_size} for path in paths
    }
    if content.get("space") is not None:
        with contextlib.suppress(RunError, AttributeError):  # a model.json that is none has no id
            content["space"] = space_on_disk(run)
    del content["seal"]
    write_json(run / MANIFEST_NAME, {**content, "seal": content_hash(content)})
